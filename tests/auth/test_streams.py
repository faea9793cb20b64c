"""Revoking a key ends its streams within five seconds and stops its replies."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from uuid import uuid4

import pytest

from chatkeep.auth.access import NewKey
from chatkeep.domain.conversation import now_us
from tests.auth.keys import Identity, bearer, make_key, revoke, until_expired
from tests.client import Event, Response, Stream, stream
from tests.conftest import ON_EVERY_PAIR
from tests.http.api import eventually
from tests.http.test_exports import a_conversation, fill
from tests.servers import Server

pytestmark = ON_EVERY_PAIR

SLOW = "#n=400,r=20,seed=11#"
"""Twenty seconds of a reply."""
SILENT = "#fault=hang_first#"


@pytest.fixture
def made(keyed: Server) -> NewKey:
    return make_key(keyed.env["DATABASE_URL"])


class Client(threading.Thread):
    """A client that reads a stream to its end."""

    def __init__(self, opened: Stream, events: Iterator[Event] | None = None) -> None:
        super().__init__(daemon=True)
        self.stream = opened
        self._events = events or iter(opened)
        self.ended = 0.0
        self.start()

    def run(self) -> None:
        for _ in self._events:
            pass
        self.ended = time.monotonic()

    def last(self, begun: float) -> dict[str, object]:
        """Return the last event's name and fields, which must come within five seconds."""
        self.join(10)
        assert self.ended
        assert self.ended - begun < 5
        event = self.stream.events[-1]
        return {"event": event.event, **event.data}


def running(who: Identity, message: str = SLOW) -> tuple[Client, str, str]:
    """Begin a turn; return its reader once text has arrived, and the paths of its conversation and its reply."""
    opened = who.stream(message)
    events = iter(opened)
    start = next(events).data
    next(events)
    path = f"/api/conversations/{start['conversation_id']}"
    return Client(opened, events), path, f"{path}/messages/{start['message_id']}"


def ended(who: Identity, path: str) -> dict[str, object]:
    """Return a conversation's reply once it has ended."""

    def final() -> dict[str, object] | None:
        last: dict[str, object] = who.get(path).json["messages"]["data"][-1]
        return None if last["status"] == "generating" else last

    found = eventually(final, 5)
    assert found
    return found


def test_revoking_a_key_ends_its_stream_and_stops_its_reply(keyed: Server, made: NewKey, caller: Identity) -> None:
    """Waits for what the server promises: a second or two."""
    who = Identity(keyed, bearer(made.text))
    mine, path, reply = running(who)
    others = Client(stream(f"{keyed.url}{reply}/stream", headers=caller.headers))
    again = Client(stream(f"{keyed.url}{reply}/stream", headers=who.headers))
    begun = time.monotonic()
    revoke(keyed.env["DATABASE_URL"], made)
    ends: set[tuple[object, ...]] = {("error", 401, "unauthorized")}
    if keyed.command == "gunicorn":  # one process may see first that the key has ended, and stop it for the other's
        ends.add(("done", "stopped", None))
    assert {(last["event"], last["status"], last.get("code")) for last in (mine.last(begun), again.last(begun))} <= ends
    told = others.last(begun)
    assert (told["event"], told["status"]) == ("done", "stopped")
    stored = ended(caller, path)
    assert (stored["status"], stored["content"]) == ("stopped", others.stream.text)
    assert mine.stream.text
    assert others.stream.text.startswith(mine.stream.text)


def test_expiry_of_a_key_ends_its_stream_and_stops_its_reply(keyed: Server, caller: Identity) -> None:
    """Waits until a key has expired, and for what the server promises: some seconds."""
    made = make_key(keyed.env["DATABASE_URL"], lifetime=3)
    mine, path, _ = running(Identity(keyed, bearer(made.text)))
    until_expired(made)
    last = mine.last(time.monotonic())
    assert (last["event"], last["code"]) == ("error", "unauthorized")
    assert ended(caller, path)["status"] == "stopped"


def test_revoking_a_key_stops_a_reply_without_followers(keyed: Server, made: NewKey, caller: Identity) -> None:
    """Waits for what the server promises: a second or two."""
    who = Identity(keyed, bearer(made.text))
    with who.stream(SLOW) as opened:
        path = f"/api/conversations/{next(iter(opened)).data['conversation_id']}"
    revoke(keyed.env["DATABASE_URL"], made)
    assert ended(caller, path)["status"] == "stopped"


@pytest.mark.parametrize(("message", "asked"), [(SLOW, {}), (SILENT, {}), (SILENT, {"stream": True})])
def test_revoking_a_key_answers_a_request_that_waits_for_its_reply(
    keyed: Server, made: NewKey, message: str, asked: dict[str, bool]
) -> None:
    """Waits for what the server promises: a second or two."""
    answers: list[Response] = []
    who = Identity(keyed, bearer(made.text))
    waiting = threading.Thread(
        target=lambda: answers.append(who.request("POST", "/api/chat", json={"message": message, **asked}))
    )
    waiting.start()
    time.sleep(0.5)
    begun = time.monotonic()
    revoke(keyed.env["DATABASE_URL"], made)
    waiting.join(10)
    assert time.monotonic() - begun < 5
    assert (answers[0].status, answers[0].json["code"]) == (401, "unauthorized")


def test_revoking_a_key_leaves_streams_of_other_keys_open(keyed: Server, made: NewKey, caller: Identity) -> None:
    """Reads a stream of three seconds beside a key that is revoked."""
    going, *_ = running(caller, "#n=60,r=20,seed=11#")
    revoke(keyed.env["DATABASE_URL"], made)
    going.join(10)
    assert going.stream.events[-1].data["status"] == "completed"


def test_revoking_a_key_aborts_its_download(keyed: Server) -> None:
    """Stores 40 MB, which no buffer on the way takes, and waits for what the server promises: some seconds."""
    url, account = keyed.env["DATABASE_URL"], f"a{uuid4().hex[:20]}"
    made, now = make_key(url, account), now_us()
    fill(url, a_conversation([now + number for number in range(8)], "x" * 5_000_000, owner=account))
    asked = (
        f"GET /api/conversations/export-all?format=csv HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {made.text}"
    )
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", keyed.port))
        client.sendall(f"{asked}\r\n\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        revoke(url, made)
        time.sleep(2.5)
        got = read_to_the_end(client)
    assert not got.endswith(b"0\r\n\r\n")
    assert len(got) < 35_000_000


def read_to_the_end(client: socket.socket) -> bytes:
    got = bytearray()
    with suppress(ConnectionResetError):
        while piece := client.recv(1 << 20):
            got += piece
    return bytes(got)
