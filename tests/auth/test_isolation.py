"""Cached answers, idempotency keys, running replies and imported files are isolated by owner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import pytest

from chatkeep.auth import access
from chatkeep.auth.access import Scope, owner_of
from chatkeep.domain.conversation import new_id, now_us
from chatkeep.store import keys
from tests.auth.keys import Identity, bearer, journal_of, make_key
from tests.client import request, stream
from tests.conftest import EMBEDDED_AND_SERVER, serving
from tests.http.api import asked, unique
from tests.servers import COMMANDS, Server
from tests.upstream import Upstream


@pytest.fixture(scope="module", params=[(COMMANDS[0], database) for database in EMBEDDED_AND_SERVER], ids="-".join)
def remembering(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with a cache, in one process, so that every repeated question could hit it."""
    with serving(request, upstream, tmp_path_factory, CHATKEEP_CACHE_SIZE="1MiB", WEB_CONCURRENCY="1") as running:
        yield running


@pytest.fixture
def people(remembering: Server) -> dict[str, Identity]:
    """An end user, and callers that are other owners."""
    url = remembering.env["DATABASE_URL"]
    mine, other = (Identity(remembering, bearer(make_key(url, f"a{uuid4().hex[:20]}").text)) for _ in range(2))
    return {
        "alice": mine.named("alice"), "bob": mine.named("bob"), "the account": mine, "another account": other,
        "another account's alice": other.named("alice"),
    }  # fmt: skip


def test_cached_answer_is_reused_only_for_its_owner(people: dict[str, Identity], upstream: Upstream) -> None:
    message = unique("What is a haiku?")
    answers = {name: who.chat(message)["cached"] for name, who in people.items()}
    assert set(answers.values()) == {False}
    assert len(asked(upstream, message)) == len(people)
    assert people["alice"].chat(message)["cached"] is True


def test_running_reply_is_shared_only_with_its_owner(people: dict[str, Identity], upstream: Upstream) -> None:
    """Reads a slow reply for each: a second or two."""
    message = f"{unique('Slowly')} #n=20,r=20,seed=5#"
    streams = [who.stream(message, stream=True) for who in people.values()]
    for one in streams:
        for _ in one:
            pass
    assert {one.events[0].data["cached"] for one in streams} == {False}
    assert len({one.events[0].data["conversation_id"] for one in streams}) == len(people)
    assert len(asked(upstream, message)) == len(people)


def test_idempotency_key_is_scoped_to_its_owner(people: dict[str, Identity]) -> None:
    key, message = {"Idempotency-Key": uuid4().hex}, unique("Once")
    first = {
        name: who.request("POST", "/api/chat", json={"message": message, "cache": False}, headers=key).json
        for name, who in people.items()
    }
    assert len({answer["conversation_id"] for answer in first.values()}) == len(people)
    again = people["bob"].request("POST", "/api/chat", json={"message": message, "cache": False}, headers=key)
    assert again.json == first["bob"]
    other = people["alice"].request("POST", "/api/chat", json={"message": "another", "cache": False}, headers=key)
    assert other.json["code"] == "idempotency_key_reused"


def test_search_finds_only_the_owner_s_conversations(people: dict[str, Identity]) -> None:
    word = uuid4().hex
    said = people["alice"].chat(f"a word: {word}")["conversation_id"]
    found = {name: who.get(f"/api/conversations?q={word}").json["data"] for name, who in people.items()}
    assert [item["id"] for item in found.pop("alice")] == [said]
    assert set(map(len, found.values())) == {0}


def test_import_neither_overwrites_nor_reveals_another_owner_s_data(people: dict[str, Identity]) -> None:
    word = uuid4().hex
    path = f"/api/conversations/{people['alice'].chat(f'mine: {word}')['conversation_id']}"
    exported = people["alice"].get(f"{path}/export?format=json").body
    before = people["alice"].get(path).json
    for name, who in people.items():
        if name == "alice":
            continue
        sent = {"Content-Type": "application/json"}
        done = who.request("POST", "/api/conversations/import", body=exported, headers=sent)
        # As if the id were free: the file of another owner becomes a conversation of the importer.
        assert (done.status, done.json["conversations"]["added"], done.json["messages"]) == (200, 1, 2)
        assert word not in done.text
        assert who.get(path).status == 404
    assert people["alice"].get(path).json == before


def test_running_reply_is_followed_only_by_its_owner(people: dict[str, Identity]) -> None:
    """Waits for a slow reply: a second or two."""
    running = people["alice"].stream("Slowly #n=30,r=20,seed=5#")
    events = iter(running)
    start = next(events).data
    path = f"/api/conversations/{start['conversation_id']}"
    for name, who in people.items():
        if name != "alice":
            assert who.get(f"{path}/messages/{start['message_id']}/stream").status == 404
            assert who.request("POST", f"{path}/stop").status == 404
    mine = stream(f"{people['alice'].server.url}{path}/messages/{start['message_id']}/stream",
                  headers=people["alice"].headers)  # fmt: skip
    assert [*mine][-1].data["status"] == "completed"
    assert [*events][-1].data["status"] == "completed"
    assert mine.text == running.text


def test_key_of_an_end_user_cannot_act_for_another(remembering: Server) -> None:
    """As keys of OIDC do; there is no command for them."""
    account = f"a{uuid4().hex[:20]}"
    made = access.make_key(new_id(), "bound", account, tuple(Scope), now_us())
    bound = replace(made.key, end_user=owner_of(account, "alice").partition("/")[2])
    with journal_of(remembering.env["DATABASE_URL"]) as journal:
        journal.write(lambda connection: keys.insert(connection, bound))
    who = Identity(remembering, bearer(made.text))
    named = Identity(remembering, bearer(make_key(remembering.env["DATABASE_URL"], account).text)).named("alice")
    path = f"/api/conversations/{named.chat('mine')['conversation_id']}"
    assert who.get(path).status == 200
    assert {who.named(name).get(path).status for name in ("alice", "bob")} == {422}
    signed = request("POST", f"{remembering.url}/api/sign-in", json={"key": made.text})
    assert (signed.status, signed.json["end_user"]) == (200, True)
