"""The audit log has one entry for each action, in one hash chain, without names or content."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from chatkeep.auth.access import Scope, owner_of
from chatkeep.domain.audit import COMMAND_LINE, Action, AuditEvent
from chatkeep.domain.conversation import now_us
from chatkeep.reporting import audit
from chatkeep.store.audit import EVERY
from chatkeep.store.engine import Database
from chatkeep.store.sql import Sql
from chatkeep.store.transaction import Transaction
from tests.auth.keys import Identity, bearer, journal_of, make_key, revoke
from tests.cli.line import run
from tests.client import request
from tests.conftest import EMBEDDED_AND_SERVER, serving
from tests.http.api import Api, eventually, unique
from tests.imports.stores import resealed
from tests.servers import COMMANDS, Server
from tests.upstream import Upstream


@pytest.fixture
def account() -> str:
    return f"a{uuid4().hex[:20]}"


@pytest.fixture
def by(keyed: Server, account: str) -> Identity:
    """A caller of an account of its own."""
    return Identity(keyed, bearer(make_key(keyed.env["DATABASE_URL"], account).text))


@pytest.fixture
def operator(keyed: Server) -> Identity:
    return Identity(keyed, bearer(make_key(keyed.env["DATABASE_URL"], "ops", Scope.ADMIN).text))


def entries(operator: Identity, account: str, **query: Any) -> list[Any]:
    asked = "".join(f"&{name}={value}" for name, value in query.items())
    answer = operator.get(f"/api/audit?order=asc&limit=100&account={account}{asked}")
    assert answer.status == 200, answer.body
    found: list[Any] = answer.json["data"]
    return found


def verbs(operator: Identity, account: str) -> list[str]:
    return [entry["verb"] for entry in entries(operator, account)]


def test_actions_are_audited_and_turns_are_not(operator: Identity, by: Identity, account: str) -> None:
    """Waits for an export to be made: a second or two."""
    said = by.chat(unique("Remember me"))["conversation_id"]
    by.get(f"/api/conversations/{said}/export?format=md")
    job = by.request("POST", "/api/exports", json={"format": "json"}).json["id"]
    assert eventually(lambda: by.get(f"/api/exports/{job}").json["status"] == "completed")
    by.get(f"/api/exports/{job}/content")
    by.request("DELETE", f"/api/exports/{job}")
    for method in ("POST", "DELETE", "DELETE"):  # the last time there is nothing to be ended
        assert by.request(method, f"/api/conversations/{said}/share").status < 300
    by.request("DELETE", f"/api/conversations/{said}")
    found = entries(operator, account)
    assert [(entry["verb"], entry["what"]) for entry in found] == [
        ("export.made", {"format": "md", "conversation_id": said}),
        ("export.made", {"format": "json", "conversation_id": None, "export_id": job}),
        ("export.fetched", {"export_id": job}),
        ("export.deleted", {"export_id": job}),
        ("conversation.shared", {"conversation_id": said}),
        ("conversation.unshared", {"conversation_id": said}),
        ("conversation.deleted", {"conversation_id": said}),
    ]
    assert {entry["outcome"] for entry in found} == {"done"}


def test_entry_identifies_the_caller(operator: Identity, by: Identity, account: str) -> None:
    named, name = by.named("阿丽"), f"request-{uuid4().hex}"
    said = named.chat(unique())["conversation_id"]
    named.request("DELETE", f"/api/conversations/{said}", headers={"X-Request-Id": name})
    (entry,) = entries(operator, account)
    key = by.headers["Authorization"].removeprefix("Bearer ")
    assert (entry["key"], entry["request_id"]) == (key[:11], name)
    assert entry["end_user"] == owner_of(account, "阿丽").partition("/")[2]
    assert "阿丽" not in json.dumps(entry, ensure_ascii=False)


def test_deletions_by_an_import_are_audited(operator: Identity, by: Identity, account: str) -> None:
    said = by.chat(unique())["conversation_id"]
    lines = {"object": "export", "version": 1, "since": "1"}, {"object": "tombstone", "id": said, "reason": "deleted"}
    file = resealed(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    sent = {"Content-Type": "application/x-ndjson"}
    done = by.request("POST", "/api/conversations/import", body=file, headers=sent)
    assert done.json["conversations"]["deleted"] == 1, done.body
    (entry,) = entries(operator, account)
    assert (entry["verb"], entry["what"]) == ("conversation.deleted", {"conversation_id": said})
    assert entry["key"]


def test_refused_action_is_not_audited_as_done(operator: Identity, by: Identity, account: str) -> None:
    for path in (f"/api/conversations/{uuid4()}", f"/api/exports/{uuid4()}"):
        assert by.request("DELETE", path).status == 404
    assert by.request("POST", "/api/exports", json={"format": "json", "conversation_id": str(uuid4())}).status == 404
    assert entries(operator, account) == []


def test_key_changes_and_sign_ins_are_audited(keyed: Server, operator: Identity, account: str) -> None:
    master = Identity(keyed, bearer(make_key(keyed.env["DATABASE_URL"], account, *Scope).text))
    made = master.request("POST", "/api/keys", json={"name": "Alice's", "account": account}).json
    for _ in range(2):  # the second time nothing changes
        changed = {"name": "Alice's old one", "limits": None}
        assert master.request("PATCH", f"/api/keys/{made['id']}", json=changed).status == 200
    new = master.request("POST", f"/api/keys/{made['id']}/rotate", json={}).json
    for _ in range(2):  # the second time there is nothing to be done
        assert master.request("DELETE", f"/api/keys/{new['id']}").status == 200
    text = master.headers["Authorization"].removeprefix("Bearer ")
    signed = request("POST", f"{keyed.url}/api/sign-in", json={"key": text})
    cookie = {"Cookie": signed.headers["Set-Cookie"].partition(";")[0], "Sec-Fetch-Site": "same-origin"}
    assert request("POST", f"{keyed.url}/api/sign-out", headers=cookie).json == {"signed_out": True}
    found = entries(operator, account)
    assert [entry["verb"] for entry in found] == [
        "key.created", "key.changed", "key.rotated", "key.revoked", "sign_in", "sign_out",
    ]  # fmt: skip
    assert [entry["what"]["key_id"] for entry in found[:4]] == [made["id"], made["id"], new["id"], new["id"]]
    assert found[1]["what"]["changed"] == ["name"]
    assert found[2]["what"]["replaces"] == made["id"]
    told = json.dumps(found)
    assert not any(secret in told for secret in ("Alice", made["key"][12:], new["key"][12:], text[12:]))


def test_missing_scope_is_audited_once_a_minute(keyed: Server, operator: Identity, account: str) -> None:
    reader = Identity(keyed, bearer(make_key(keyed.env["DATABASE_URL"], account, Scope.READ).text))
    for _ in range(20):
        assert reader.get("/api/keys").status == 403
    found = entries(operator, account)
    assert {(entry["verb"], entry["outcome"], entry["what"]["route"]) for entry in found} == {
        ("access.refused", "refused", "GET /api/keys")
    }
    assert len(found) <= 8  # of each process one


def test_command_line_is_audited_without_an_account(keyed: Server, operator: Identity) -> None:
    made = make_key(keyed.env["DATABASE_URL"], "app")
    revoke(keyed.env["DATABASE_URL"], made)
    found = operator.get("/api/audit?verb=key.revoked&limit=100").json["data"]
    entry = next(entry for entry in found if entry["what"]["key_id"] == str(made.key.id))
    assert {entry[name] for name in ("account", "key_id", "key", "end_user", "request_id")} == {None}


def test_log_is_listed_in_pages(operator: Identity, by: Identity, account: str) -> None:
    for _ in range(5):
        by.get("/api/conversations/export-all?format=csv")
    path = f"/api/audit?account={account}&limit=2"
    pages = [operator.get(path).json]
    while pages[-1]["has_more"]:
        pages.append(operator.get(f"{path}&after={pages[-1]['last_id']}").json)
    ids = [entry["id"] for page in pages for entry in page["data"]]
    assert ids == sorted(ids, reverse=True)
    assert [len(page["data"]) for page in pages] == [2, 2, 1]
    assert operator.get(f"{path}&after={2**50}").status == 422


def test_log_can_be_filtered(operator: Identity, by: Identity, account: str) -> None:
    by.request("DELETE", f"/api/conversations/{by.chat(unique())['conversation_id']}")
    by.get("/api/conversations/export-all?format=csv")
    assert [entry["verb"] for entry in entries(operator, account, verb="export.made")] == ["export.made"]
    assert entries(operator, account, end_date="2026-01-01") == []
    assert len(entries(operator, account, start_date="2026-01-01")) == 2
    assert operator.get("/api/audit?verb=anything").status == 422


def test_log_can_be_exported(operator: Identity, by: Identity, account: str) -> None:
    by.get("/api/conversations/export-all?format=csv")
    listed = entries(operator, account)
    answer = operator.get(f"/api/audit/export?account={account}")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [{**line, "at": listed[0]["at"]} for line in lines] == listed
    assert lines[0]["at"].startswith(listed[0]["at"][:-1])
    table = operator.get(f"/api/audit/export?format=csv&account={account}")
    assert table.headers["Content-Disposition"].startswith('attachment; filename="chatkeep-audit-')
    (row,) = csv.DictReader(table.text.splitlines())
    assert (row["verb"], json.loads(row["what"]), row["hash"]) == ("export.made", lines[0]["what"], lines[0]["hash"])
    assert "audit.exported" in verbs(operator, "ops")


def test_csv_escapes_a_request_id_that_looks_like_a_formula(operator: Identity, by: Identity, account: str) -> None:
    by.request("GET", "/api/conversations/export-all?format=csv", headers={"X-Request-Id": "-1-1"})
    table = operator.get(f"/api/audit/export?format=csv&account={account}").text
    assert next(csv.DictReader(table.splitlines()))["request_id"] == "'-1-1"


def test_concurrent_writers_extend_one_hash_chain(keyed: Server, by: Identity) -> None:
    """Exports by way of all processes of the server and of three journals of the test's own: a second or two."""
    url = keyed.env["DATABASE_URL"]

    def write(_: int) -> None:
        with journal_of(url) as journal:
            for _ in range(20):
                audit.note(journal, AuditEvent(COMMAND_LINE, Action.EXPORT_MADE))

    with ThreadPoolExecutor(12) as pool:
        noted = [pool.submit(write, number) for number in range(3)]
        statuses = set(pool.map(lambda _: by.get("/api/conversations/export-all?format=csv").status, range(60)))
        for one in noted:
            one.result()
    assert statuses == {200}
    database = Database(url)
    assert audit.first_broken(database) is None
    ids = [json.loads(line)["id"] for chunk in audit.lines(database, EVERY, "ndjson") for line in chunk.splitlines()]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert len(ids) >= 120
    database.close()


@pytest.fixture
def store(database_url: str) -> Iterator[Database]:
    """A database with five entries."""
    with journal_of(database_url) as journal:
        for number in range(5):
            audit.note(journal, AuditEvent(COMMAND_LINE, Action.KEY_CREATED, {"number": number}))
    database = Database(database_url)
    yield database
    database.close()


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ("UPDATE audit SET account = 'else' WHERE id = 3", 3),
        ("UPDATE audit SET at = at + 1 WHERE id = 3", 3),
        ("UPDATE audit SET what = '{}' WHERE id = 1", 1),
        ("DELETE FROM audit WHERE id = 3", 4),
        ("DELETE FROM audit WHERE id = 5", 5),
        ("DELETE FROM audit", 5),
        ("UPDATE audit SET id = 9 WHERE id = 3", 4),
        ("DELETE FROM audit WHERE id < 3", None),
    ],
)
def test_check_finds_changed_and_removed_entries(store: Database, change: str, broken: int | None) -> None:
    assert audit.first_broken(store) is None
    store.read(lambda connection: connection.change(Sql(change)))
    assert audit.first_broken(store) == broken


def test_rolled_back_action_is_not_audited(store: Database) -> None:
    """Whether it has written something else before it fails, or not."""

    def fail(connection: Transaction) -> None:
        connection.events.append(AuditEvent(COMMAND_LINE, Action.KEY_CREATED))
        raise LookupError

    def write_and_fail(connection: Transaction) -> None:
        connection.change(Sql("UPDATE marks SET value = value WHERE name = 'keys'"))
        fail(connection)

    with journal_of(store.url.render_as_string(hide_password=False)) as journal:
        for work in (fail, write_and_fail):
            with pytest.raises(LookupError):
                journal.write(work)
        audit.note(journal, AuditEvent(COMMAND_LINE, Action.KEY_REVOKED))
    found, _ = audit.list_entries(store, EVERY, 2, None, ascending=False)
    assert [(entry.id, entry.verb) for entry in found] == [(6, "key.revoked"), (5, "key.created")]


@pytest.fixture(params=[(COMMANDS[0], database) for database in EMBEDDED_AND_SERVER], ids="-".join)
def forgetful(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """A server that sweeps every second."""
    with serving(request, upstream, tmp_path_factory, CHATKEEP_SWEEP_INTERVAL="1s") as running:
        yield Api(running)


def test_old_entries_expire_and_the_rest_stays_a_valid_chain(forgetful: Api) -> None:
    """Waits for the sweep: two seconds."""
    database = Database(forgetful.server.env["DATABASE_URL"])
    for _ in range(4):
        forgetful.request("GET", "/api/conversations/export-all?format=csv")
    long_ago = now_us() - 366 * 24 * 3600 * 1_000_000
    forgetful.execute("UPDATE audit SET at = :at WHERE id < 3", at=long_ago)
    assert eventually(lambda: forgetful.count("audit") == 2)
    assert audit.first_broken(database) is None
    forgetful.execute("UPDATE audit SET at = :at", at=long_ago)
    assert eventually(lambda: forgetful.count("audit") == 1)  # the newest stays, for the next one to follow
    database.close()


def test_command_exports_and_checks_the_log(store: Database, tmp_path: Path) -> None:
    """Starts five processes: some seconds."""
    env = {"DATABASE_URL": store.url.render_as_string(hide_password=False)}
    done = run(tmp_path, "audit", "--verb", "key.created", env=env)
    assert [json.loads(line)["what"]["number"] for line in done.stdout.splitlines()] == [0, 1, 2, 3, 4]
    assert run(tmp_path, "audit", "--format", "csv", "--output", "log.csv", env=env).returncode == 0
    assert len((tmp_path / "log.csv").read_text(encoding="utf-8").splitlines()) == 6
    assert run(tmp_path, "audit", "--check", env=env).stdout == "the audit log is intact\n"
    store.read(lambda connection: connection.change(Sql("UPDATE audit SET outcome = 'refused' WHERE id = 2")))
    broken = run(tmp_path, "audit", "--check", env=env)
    assert (broken.returncode, "at entry 2" in broken.stderr) == (1, True)
    assert run(tmp_path, "audit", "--start", "yesterday", env=env).returncode == 2
