"""One call exports all data of an end user, and another one erases it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import replace
from sqlalchemy import make_url

from chatkeep.auth import access
from chatkeep.auth.access import Scope, owner_of
from chatkeep.domain.conversation import new_id, now_us
from chatkeep.store import keys
from tests.auth.keys import Identity, bearer, journal_of, make_key
from tests.cli.line import run
from tests.conftest import EMBEDDED_AND_SERVER, empty_database, serving
from tests.http.api import Api, Running, asked, eventually, unique
from tests.http.test_exports import a_conversation, fill
from tests.servers import COMMANDS, Server, thrown_away
from tests.services.redis import Redis
from tests.upstream import Upstream

ME = "/api/end-users/me"
OWNERS = (Scope.CHAT, Scope.READ, Scope.EXPORT)
# Whose is the row: in every table that has an owner, but for what is left of conversations that are gone.
OWNED = ("conversations", "leases", "export_jobs", "idempotency_keys", "shares", "`usage`")


@pytest.fixture(scope="module", params=EMBEDDED_AND_SERVER)
def two(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Server]]:
    """Two servers on one database and one folder, with a limit and answers that are remembered."""
    env = {
        "DATABASE_URL": empty_database(request, request.param, tmp_path_factory),
        "OPENAI_BASE_URL": upstream.url,
        "CHATKEEP_CACHE_SIZE": "1MiB",
        "CHATKEEP_DATA_DIR": str(tmp_path_factory.mktemp("data")),
        "CHATKEEP_LIMITS": '{"end_user": {"tokens_per_day": 1000000, "requests_per_minute": 1000}}',
        "CHATKEEP_REQUIRE_KEYS": "true",
        "WEB_CONCURRENCY": "1",
    }
    commands = (COMMANDS[0], "waitress")
    first, second = (Server(command, tmp_path_factory.mktemp(command), env) for command in commands)
    make_key(env["DATABASE_URL"])
    with thrown_away(first) as one, thrown_away(second) as other:
        yield [one, other]


@dataclass(frozen=True, slots=True)
class EndUser:
    """An end user of an account of its own, on two servers."""

    account: str
    name: str
    servers: list[Server]
    text: str

    @property
    def owner(self) -> str:
        return owner_of(self.account, self.name)

    def on(self, index: int) -> Identity:
        return Identity(self.servers[index], bearer(self.text)).named(self.name)

    def rows(self, owner: str | None = None) -> dict[str, int]:
        """Return how many rows there are of this one, or of another owner."""
        api = Api(self.servers[0])
        found = {table: api.count(table, "owner = :owner", owner=owner or self.owner) for table in OWNED}
        return found | {"windows": api.count("windows", "subject = :owner", owner=owner or self.owner)}


@pytest.fixture
def user(two: list[Server]) -> EndUser:
    account = f"a{uuid4().hex[:20]}"
    return EndUser(account, f"阿丽 {uuid4().hex}", two, make_key(two[0].env["DATABASE_URL"], account, *OWNERS).text)


def bound_key(user: EndUser) -> str:
    """Make a key that stands for the end user alone, as signing in with OIDC does."""
    made = access.make_key(new_id(), "bound", user.account, tuple(Scope), now_us())
    key = dataclasses.replace(made.key, end_user=user.owner.partition("/")[2])
    with journal_of(user.servers[0].env["DATABASE_URL"]) as journal:
        journal.write(lambda connection: keys.insert(connection, key))
    return made.text


def with_everything(user: EndUser) -> str:
    """Let there be something of every kind; return the text of the end user's own key."""
    who = user.on(0)
    made, said = a_conversation([now_us() - 1000 * number for number in range(1001, 0, -1)])
    fill(user.servers[0].env["DATABASE_URL"], (replace(made, owner=user.owner), said))
    for _ in range(3):
        key = {"Idempotency-Key": uuid4().hex}
        assert who.request("POST", "/api/chat", json={"message": unique()}, headers=key).status == 200
    assert who.request("POST", f"/api/conversations/{made.id}/share").status == 201
    job = who.request("POST", "/api/exports", json={"format": "json"}).json["id"]
    assert eventually(lambda: who.get(f"/api/exports/{job}").json["status"] == "completed")
    assert eventually(lambda: who.get("/api/usage").json["total"]["requests"] == 3)
    return bound_key(user)


def files(user: EndUser) -> int:
    return len(list((Path(user.servers[0].env["CHATKEEP_DATA_DIR"]) / "exports").iterdir()))


def erase(who: Identity) -> Any:
    answer = who.request("DELETE", ME, timeout=30)
    assert answer.status == 200, answer.body
    return answer.json


def test_erase_removes_everything_before_it_answers(user: EndUser) -> None:
    text, before = with_everything(user), files(user)
    assert min(count for name, count in user.rows().items() if name != "leases") > 0
    receipt = erase(user.on(1))
    assert set(user.rows().values()) == {0}
    assert files(user) == before - 1
    counts = ("conversations", "messages", "exports", "idempotency_keys", "keys")
    assert [receipt[name] for name in counts] == [4, 1001 + 6, 1, 3, 1]
    assert eventually(lambda: Identity(user.servers[0], bearer(text)).get("/api/conversations").status == 401)
    assert user.on(0).get("/api/conversations").json["data"] == []


def test_erase_keeps_the_data_of_others(user: EndUser) -> None:
    """The account's own things, those of another end user, and of the same name in another account."""
    account = Identity(user.servers[0], bearer(user.text))
    elsewhere = Identity(
        user.servers[0], bearer(make_key(user.servers[0].env["DATABASE_URL"], f"b{uuid4().hex[:20]}").text)
    )
    others = [account, account.named("another"), account.named(user.name[:-1]), elsewhere.named(user.name)]
    kept = [(who, who.chat(unique())["conversation_id"]) for who in others]
    before = [who.get(f"/api/conversations/{said}").body for who, said in kept]
    with_everything(user)
    erase(user.on(0))
    assert [who.get(f"/api/conversations/{said}").body for who, said in kept] == before


def test_erase_ends_a_reply_of_another_process(user: EndUser) -> None:
    """Its end and its usage are stored after the erasure, for the account only."""
    account = Identity(user.servers[0], bearer(user.text))
    running = Running(user.on(0).stream(unique("#n=2000,r=20#"), stream=True))
    running.until(20)
    assert user.rows()["leases"] == 1
    receipt = erase(user.on(1))
    assert (receipt["conversations"], receipt["messages"]) == (1, 2)
    last = running.rest()
    assert (last.event, last.data["code"]) == ("error", "not_found")
    assert eventually(lambda: account.get("/api/usage").json["total"]["requests"] == 1)
    assert set(user.rows().values()) == {0}


def test_turn_after_an_erasure_counts_for_the_end_user(user: EndUser) -> None:
    who = user.on(0)
    erase(user.on(1))
    who.chat(unique())
    assert eventually(lambda: who.get("/api/usage").json["total"]["requests"] == 1)
    assert user.rows()["windows"] == 1


def test_erased_key_begins_no_turn_in_a_process_that_still_caches_it(user: EndUser) -> None:
    own = Identity(user.servers[0], bearer(bound_key(user)))
    own.chat(unique())
    erase(user.on(1))
    assert own.request("POST", "/api/chat", json={"message": unique()}).status == 401
    assert user.rows()["conversations"] == 0


def test_erase_keeps_usage_in_the_account_s_totals(user: EndUser) -> None:
    who, account = user.on(0), Identity(user.servers[0], bearer(user.text))
    for _ in range(2):
        who.chat(unique())
        account.chat(unique())
    path = "/api/usage?group_by=day,model,key"
    assert eventually(lambda: account.get(path).json["total"]["requests"] == 4)
    before = account.get(path).json
    assert None not in {row["key"] for row in before["data"]}  # usage of the end user is reported by key
    erase(who)
    assert account.get(path).json == before
    assert {row["end_user"] for row in account.get("/api/usage?group_by=end_user").json["data"]} == {None}


def test_erase_clears_cached_answers_in_every_process(user: EndUser, upstream: Upstream) -> None:
    message = unique("What is a haiku?")
    for index in (0, 1):
        assert not is_cached(user.on(index), message)
        # Not at once: a process may only now see the erasure of the test before.
        assert eventually(partial(is_cached, user.on(index), message))
    calls = len(asked(upstream, message))
    erase(user.on(0))
    assert eventually(lambda: [server_answers(server) for server in user.servers] == [0, 0])
    assert not is_cached(user.on(1), message)
    assert len(asked(upstream, message)) == calls + 1


def is_cached(who: Identity, message: str) -> bool:
    """Ask, and return whether the answer had been given before."""
    return bool(who.chat(message)["cached"])


def server_answers(server: Server) -> int:
    """Return how many answers a server remembers."""
    return int(Identity(server).get("/health").json["cache"]["entries"])


def test_erase_is_audited_without_a_name(user: EndUser) -> None:
    with_everything(user)
    receipt = erase(user.on(0))
    operator = Identity(user.servers[0], bearer(make_key(user.servers[0].env["DATABASE_URL"], "ops", Scope.ADMIN).text))
    answer = operator.get(f"/api/audit?account={user.account}&order=asc&limit=100")
    found = {entry["verb"]: entry for entry in answer.json["data"]}
    assert list(found)[-2:] == ["owner.erasing", "owner.erased"]
    digest = user.owner.partition("/")[2]
    told = {name: value for name, value in receipt.items() if name not in {"object", "id", "erased_at"}}
    assert found["owner.erased"]["what"] == {"erasure_id": receipt["id"], **told}
    assert (found["owner.erasing"]["what"]["end_user"], found["owner.erased"]["end_user"]) == (digest, digest)
    assert user.name[3:] not in answer.text


def test_increments_report_erased_conversations(user: EndUser) -> None:
    """So that copies elsewhere can be updated."""
    who = user.on(0)
    said = who.chat(unique())["conversation_id"]
    path = "/api/conversations/export-all?format=ndjson"
    cursor = json.loads(who.get(path).text.splitlines()[-1])["cursor"]
    erase(who)
    lines = [json.loads(line) for line in who.get(f"{path}&cursor={cursor}").text.splitlines()]
    assert [(line["id"], line["reason"]) for line in lines if line["object"] == "tombstone"] == [(said, "deleted")]


def test_erase_is_idempotent(user: EndUser) -> None:
    user.on(0).chat(unique())
    first, second = erase(user.on(0)), erase(user.on(0))
    assert (first["conversations"], second["conversations"], second["messages"]) == (1, 0, 0)
    assert first["id"] != second["id"]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_erase_without_an_end_user_is_refused(user: EndUser, method: str) -> None:
    account = Identity(user.servers[0], bearer(user.text))
    said = account.chat(unique())["conversation_id"]
    answer = account.request(method, ME)
    assert (answer.status, answer.json["errors"][0]["field"]) == (422, "X-End-User")
    assert account.get(f"/api/conversations/{said}").status == 200


def test_key_of_an_end_user_erases_them_and_itself(user: EndUser) -> None:
    own = Identity(user.servers[0], bearer(bound_key(user)))
    own.chat(unique())
    receipt = erase(own)
    assert (receipt["conversations"], receipt["keys"]) == (1, 1)
    assert own.get("/api/conversations").status == 401


def test_export_of_an_end_user_has_everything(user: EndUser) -> None:
    with_everything(user)
    who = user.on(0)
    answer = who.get(ME)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    kinds = [line["object"] for line in lines]
    assert (kinds[0], kinds[-1]) == ("export", "export.end")
    there = {"conversation": 4, "message": 1007, "key": 1, "export_job": 1, "share": 1, "idempotency_key": 3}
    assert {kind: kinds.count(kind) for kind in there} == there
    assert sum(line["requests"] for line in lines if line["object"] == "usage") == 3
    assert who.get("/api/conversations").json["data"]


def test_export_of_an_end_user_can_be_imported(user: EndUser) -> None:
    with_everything(user)
    who = user.on(0)
    given = who.get(ME).body
    erase(who)
    sent = {"Content-Type": "application/x-ndjson"}
    done = who.request("POST", "/api/conversations/import", body=given, headers=sent).json
    assert (done["conversations"]["added"], done["messages"], done["problem_count"]) == (4, 1007, 0)


def test_command_erases_while_servers_run(user: EndUser, tmp_path: Path) -> None:
    with_everything(user)
    env = {name: user.servers[0].env[name] for name in ("DATABASE_URL", "CHATKEEP_DATA_DIR")}
    done = run(tmp_path, "forget", "--yes", "--account", user.account, user.name, env=env)
    assert done.stdout == "erased 4 conversations with 1007 messages, 1 exports\n", done.stderr
    assert set(user.rows().values()) == {0}


@pytest.fixture(params=[("gunicorn", "sqlite"), ("waitress", "sqlite")], ids="-".join)
def embedded(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server on a file of its own."""
    with serving(request, upstream, tmp_path_factory, CHATKEEP_SWEEP_INTERVAL="1h") as running:
        yield running


def test_erased_text_is_in_no_database_file(embedded: Server) -> None:
    """The sweep, which would empty the write-ahead log as well, does not come."""
    canary = f"CANARY{uuid4().hex}"
    who = Identity(embedded).named(canary)
    for _ in range(3):
        who.chat(f"{canary} #n=2000,r=0#", system=canary, metadata={"note": canary}, cache=False)
    assert canary in kept(embedded)
    assert owner_of("local", canary) in kept(embedded)
    erase(who)
    assert eventually(lambda: canary not in kept(embedded), 5)


def kept(server: Server) -> str:
    """Return all that the embedded database keeps."""
    path = Path(str(make_url(server.env["DATABASE_URL"]).database))
    return "".join(file.read_bytes().decode("latin-1") for file in path.parent.glob(f"{path.name}*"))


@pytest.fixture
def sharing(
    request: pytest.FixtureRequest, redis: Redis, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server that shares answers, and counts, in Redis."""
    env = {
        "DATABASE_URL": empty_database(request, "sqlite", tmp_path_factory),
        "REDIS_URL": redis.url,
        "OPENAI_BASE_URL": upstream.url,
        "CHATKEEP_CACHE_SIZE": "1MiB",
        "CHATKEEP_LIMITS": '{"end_user": {"requests_per_day": 1000}}',
    }
    with thrown_away(Server(COMMANDS[0], tmp_path_factory.mktemp("sharing"), env)) as server:
        yield server


def test_erase_removes_answers_from_redis(sharing: Server, redis: Redis) -> None:
    alice, bob = Identity(sharing).named("alice"), Identity(sharing).named("bob")
    for who in (alice, bob):
        for _ in range(3):
            who.chat(unique("What is a haiku?"))
    assert len(names(redis)) == 8
    erase(alice)
    assert len(names(redis)) == 4
    assert any(name.endswith(f":{owner_of('local', 'bob')}") for name in names(redis))


def test_erase_fails_while_redis_is_unavailable(sharing: Server, redis: Redis) -> None:
    who = Identity(sharing).named("alice")
    who.chat(unique())
    with redis.away():
        answer = who.request("DELETE", ME, timeout=30)
    assert (answer.status, answer.json["code"]) == (503, "database_unavailable")
    assert answer.headers["Retry-After"]


def names(redis: Redis) -> list[str]:
    """Return the names of all that Redis keeps."""
    from redis import Redis as Client  # noqa: PLC0415 - an extra

    with Client.from_url(redis.url) as client:
        return [name.decode() for name in client.keys("chatkeep:*")]
