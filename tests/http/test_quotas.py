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


class EndUser:
    """An end user of one test."""

    def __init__(self, server: Server) -> None:
        name = unique("end user")
        self.who = Identity(server).named(name)
        self.owner = owner_of("local", name)
        self.database = Database(server.env["DATABASE_URL"])

    def say(self, message: str = "", **more: Any) -> Response:
        return self.who.request("POST", "/api/chat", json={"message": message or unique("hello"), **more})

    def counted(self) -> Stored | None:
        return self.database.read(lambda connection: holdings.get(connection, self.owner))

    def is_exact(self) -> bool:
        """Return whether the counted usage equals the stored data."""
        return not any(self.database.read(lambda connection: holdings.drift(connection, self.owner)))


@pytest.fixture
def end_user(limited: Server) -> Iterator[EndUser]:
    found = EndUser(limited)
    yield found
    found.database.close()


def refused(answer: Response) -> bool:
    """Return whether a request was refused by a quota."""
    if answer.status != 403:
        return False
    assert answer.json["code"] == "quota_used_up"
    assert "Retry-After" not in answer.headers
    return True


def test_concurrent_turns_store_exactly_the_message_quota(end_user: EndUser) -> None:
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: end_user.say(), range(12)))
    assert [answer.status for answer in answers].count(200) == MESSAGES // 2
    assert sum(map(refused, answers)) == 12 - MESSAGES // 2
    assert end_user.counted() is not None
    assert end_user.is_exact()


def test_deleting_frees_quota(end_user: EndUser) -> None:
    said = [end_user.say().json for _ in range(MESSAGES // 2)]
    assert refused(end_user.say())
    assert refused(regenerate(end_user, said[0]))
    deleted = end_user.who.request("DELETE", f"/api/conversations/{said[0]['conversation_id']}")
    assert deleted.status == 200
    assert regenerate(end_user, said[1]).status == 200
    assert end_user.is_exact()
    assert refused(end_user.say())


def regenerate(end_user: EndUser, reply: Any) -> Response:
    path = f"/api/conversations/{reply['conversation_id']}/messages/{reply['message_id']}/regenerate"
    return end_user.who.request("POST", path, json={})


def test_text_is_counted_in_bytes_and_replies_at_their_end(end_user: EndUser) -> None:
    assert end_user.say("字" * (BYTES // 3 - 10)).status == 200
    assert end_user.is_exact()
    assert refused(end_user.say("x" * 500))
    assert (end_user.counted() or Stored()).messages == 2


def test_expiry_frees_quota(end_user: EndUser) -> None:
    """Waits for the sweep: a few seconds."""
    for _ in range(MESSAGES // 2):
        end_user.say(ttl=1)
    assert refused(end_user.say())
    assert eventually(lambda: end_user.say().status == 200, seconds=20)
    assert end_user.is_exact()


def test_repeated_request_is_answered_past_the_quota(end_user: EndUser) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    body = {"message": unique("hello")}
    first = end_user.who.request("POST", "/api/chat", json=body, headers=key)
    while end_user.say().status == 200:
        pass
    again = end_user.who.request("POST", "/api/chat", json=body, headers=key)
    assert (again.status, again.json["message_id"]) == (200, first.json["message_id"])


def test_import_stops_at_the_quota(limited: Server, end_user: EndUser) -> None:
    other = EndUser(limited)
    for _ in range(MESSAGES // 2):
        assert other.say().status == 200
    file = other.who.get("/api/conversations/export-all?format=json").body
    other.database.close()
    assert import_file(end_user, file).status == 200
    assert end_user.is_exact()
    assert import_file(end_user, file).status == 200, "it is all there already"
    assert refused(import_file(end_user, json.dumps([chat()]).encode()))
    assert end_user.is_exact()


def import_file(end_user: EndUser, file: bytes) -> Response:
    headers = {"Content-Type": "application/json"}
    return end_user.who.request("POST", "/api/conversations/import", body=file, headers=headers)


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


def test_recount_corrects_the_stored_usage(end_user: EndUser) -> None:
    """Processes of an older version do not count."""
    said = end_user.say().json
    with closing(Journal(end_user.database)) as journal:
        journal.write(lambda connection: holdings.add(connection, end_user.owner, Stored(-2, 5)))
        assert not end_user.is_exact()
        sweeper.recount(end_user.database, journal, threading.Event())
        assert end_user.is_exact()
        journal.write(lambda connection: holdings.remove(connection, end_user.owner))
        sweeper.recount(end_user.database, journal, threading.Event())
    assert (end_user.counted() or Stored()).messages == 2
    assert end_user.is_exact()
    assert said["status"] == "completed"


def test_export_files_stop_at_the_quota(end_user: EndUser) -> None:
    assert end_user.say("x" * 2_500).status == 200
    done = [finished(end_user) for _ in range(EXPORT_BYTES // 3_000)]
    sizes = [job["size"] for job in done if job["status"] == "completed"]
    assert sizes
    assert sum(sizes) <= EXPORT_BYTES
    assert {job["error"] for job in done if job["status"] == "failed"} == {"quota_used_up"}
    assert EXPORT_BYTES - sum(sizes) < sizes[0] + 1_000
    end_user.who.request("DELETE", f"/api/exports/{done[0]['id']}")
    assert finished(end_user)["status"] == "completed"


def finished(end_user: EndUser) -> Any:
    made = end_user.who.request("POST", "/api/exports", json={"format": "json"})
    assert made.status == 202, made.body
    return eventually(lambda: _ended(end_user, made.json["id"]))


def _ended(end_user: EndUser, id: str) -> Any:
    job = end_user.who.get(f"/api/exports/{id}").json
    return job if job["status"] in {"completed", "failed"} else None


@pytest.mark.parametrize("server", [("waitress", "sqlite")], indirect=True, ids="-".join)
def test_nothing_is_counted_without_quotas(server: Server) -> None:
    api = Api(server)
    assert api.chat(unique("hello"))
    assert api.count("holdings") == 0
