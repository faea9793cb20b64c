"""Storage quotas of owners are exact for every way to store data, including export files."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from uuid import uuid4

import pytest

from chatkeep.auth.access import owner_of
from chatkeep.retention import sweeper
from chatkeep.store import holdings
from chatkeep.store.engine import Database
from chatkeep.store.holdings import Stored
from chatkeep.store.journal import Journal
from tests.auth.keys import Identity
from tests.client import Response
from tests.conftest import serving
from tests.http.api import Api, eventually, unique
from tests.servers import Server
from tests.upstream import Upstream

MESSAGES, BYTES, EXPORT_BYTES = 8, 4_000, 20_000


@pytest.fixture(scope="module", params=[("gunicorn", "mysql"), ("waitress", "sqlite")], ids="-".join)
def limited(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    env = {
        "CHATKEEP_QUOTA_MESSAGES": str(MESSAGES),
        "CHATKEEP_QUOTA_BYTES": str(BYTES),
        "CHATKEEP_QUOTA_EXPORT_BYTES": str(EXPORT_BYTES),
        "CHATKEEP_SWEEP_INTERVAL": "1s",
    }
    with serving(request, upstream, tmp_path_factory, **env) as running:
        yield running


class Somebody:
    """An end user of one test."""

    def __init__(self, server: Server) -> None:
        name = unique("somebody")
        self.who = Identity(server).named(name)
        self.owner = owner_of("local", name)
        self.database = Database(server.env["DATABASE_URL"])

    def say(self, message: str = "", **more: Any) -> Response:
        return self.who.request("POST", "/api/chat", json={"message": message or unique("hello"), **more})

    def counted(self) -> Stored | None:
        return self.database.read(lambda connection: holdings.get(connection, self.owner))

    def is_exact(self) -> bool:
        """Return whether what is counted is what there is."""
        return not any(self.database.read(lambda connection: holdings.drift(connection, self.owner)))


@pytest.fixture
def somebody(limited: Server) -> Iterator[Somebody]:
    found = Somebody(limited)
    yield found
    found.database.close()


def refused(answer: Response) -> bool:
    """Return whether a request was refused by a quota."""
    if answer.status != 403:
        return False
    assert answer.json["code"] == "quota_used_up"
    assert "Retry-After" not in answer.headers
    return True


def test_concurrent_turns_store_exactly_the_message_quota(somebody: Somebody) -> None:
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: somebody.say(), range(12)))
    assert [answer.status for answer in answers].count(200) == MESSAGES // 2
    assert sum(map(refused, answers)) == 12 - MESSAGES // 2
    assert somebody.counted() is not None
    assert somebody.is_exact()


def test_deleting_frees_quota(somebody: Somebody) -> None:
    said = [somebody.say().json for _ in range(MESSAGES // 2)]
    assert refused(somebody.say())
    assert refused(regenerate(somebody, said[0]))
    deleted = somebody.who.request("DELETE", f"/api/conversations/{said[0]['conversation_id']}")
    assert deleted.status == 200
    assert regenerate(somebody, said[1]).status == 200
    assert somebody.is_exact()
    assert refused(somebody.say())


def regenerate(somebody: Somebody, reply: Any) -> Response:
    path = f"/api/conversations/{reply['conversation_id']}/messages/{reply['message_id']}/regenerate"
    return somebody.who.request("POST", path, json={})


def test_text_is_counted_in_bytes_and_replies_at_their_end(somebody: Somebody) -> None:
    assert somebody.say("字" * (BYTES // 3 - 10)).status == 200
    assert somebody.is_exact()
    assert refused(somebody.say("x" * 500))
    assert (somebody.counted() or Stored()).messages == 2


def test_expiry_frees_quota(somebody: Somebody) -> None:
    """Waits for the sweep: a few seconds."""
    for _ in range(MESSAGES // 2):
        somebody.say(ttl=1)
    assert refused(somebody.say())
    assert eventually(lambda: somebody.say().status == 200, seconds=20)
    assert somebody.is_exact()


def test_repeated_request_is_answered_past_the_quota(somebody: Somebody) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    body = {"message": unique("hello")}
    first = somebody.who.request("POST", "/api/chat", json=body, headers=key)
    while somebody.say().status == 200:
        pass
    again = somebody.who.request("POST", "/api/chat", json=body, headers=key)
    assert (again.status, again.json["message_id"]) == (200, first.json["message_id"])


def test_import_stops_at_the_quota(limited: Server, somebody: Somebody) -> None:
    other = Somebody(limited)
    for _ in range(MESSAGES // 2):
        assert other.say().status == 200
    file = other.who.get("/api/conversations/export-all?format=json").body
    other.database.close()
    assert import_file(somebody, file).status == 200
    assert somebody.is_exact()
    assert import_file(somebody, file).status == 200, "it is all there already"
    assert refused(import_file(somebody, json.dumps([chat()]).encode()))
    assert somebody.is_exact()


def import_file(somebody: Somebody, file: bytes) -> Response:
    headers = {"Content-Type": "application/json"}
    return somebody.who.request("POST", "/api/conversations/import", body=file, headers=headers)


def chat() -> dict[str, Any]:
    """Return a conversation as ChatGPT exports it."""
    content = {"content_type": "text", "parts": [unique("hello")]}
    message = {"id": "m", "author": {"role": "user"}, "create_time": 1_700_000_000, "content": content}
    node: dict[str, Any] = {"id": "m", "message": message, "parent": None, "children": []}
    return {
        "id": unique("chat"),
        "title": "t",
        "create_time": 1_700_000_000,
        "mapping": {"m": node},
        "current_node": "m",
    }


def test_recount_corrects_the_stored_usage(somebody: Somebody) -> None:
    """Processes of an older version do not count."""
    said = somebody.say().json
    with closing(Journal(somebody.database)) as journal:
        journal.write(lambda connection: holdings.add(connection, somebody.owner, Stored(-2, 5)))
        assert not somebody.is_exact()
        sweeper.recount(somebody.database, journal, threading.Event())
        assert somebody.is_exact()
        journal.write(lambda connection: holdings.remove(connection, somebody.owner))
        sweeper.recount(somebody.database, journal, threading.Event())
    assert (somebody.counted() or Stored()).messages == 2
    assert somebody.is_exact()
    assert said["status"] == "completed"


def test_export_files_stop_at_the_quota(somebody: Somebody) -> None:
    assert somebody.say("x" * 2_500).status == 200
    done = [finished(somebody) for _ in range(EXPORT_BYTES // 3_000)]
    sizes = [job["size"] for job in done if job["status"] == "completed"]
    assert sizes
    assert sum(sizes) <= EXPORT_BYTES
    assert {job["error"] for job in done if job["status"] == "failed"} == {"quota_used_up"}
    assert EXPORT_BYTES - sum(sizes) < sizes[0] + 1_000
    somebody.who.request("DELETE", f"/api/exports/{done[0]['id']}")
    assert finished(somebody)["status"] == "completed"


def finished(somebody: Somebody) -> Any:
    made = somebody.who.request("POST", "/api/exports", json={"format": "json"})
    assert made.status == 202, made.body
    return eventually(lambda: _ended(somebody, made.json["id"]))


def _ended(somebody: Somebody, id: str) -> Any:
    job = somebody.who.get(f"/api/exports/{id}").json
    return job if job["status"] in {"completed", "failed"} else None


@pytest.mark.parametrize("server", [("waitress", "sqlite")], indirect=True, ids="-".join)
def test_nothing_is_counted_without_quotas(server: Server) -> None:
    api = Api(server)
    assert api.chat(unique("hello"))
    assert api.count("holdings") == 0
