"""A connection serves further requests after a long stream.

On gunicorn only, because Waitress closes the connection after a stream.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from io import BytesIO

import pytest

from tests.http.api import Api
from tests.upstream import reply_to

ON_GUNICORN = [("gunicorn", "sqlite"), ("gunicorn", "mariadb")]
pytestmark = [
    pytest.mark.posix("there is no gunicorn on Windows"),
    pytest.mark.parametrize("own", ON_GUNICORN, indirect=True, ids="-".join),
]
LONG = "go on #n=30,r=20#"  # 1.5 s


@pytest.fixture
def connection(own: Api) -> Iterator[HTTPConnection]:
    with closing(HTTPConnection("127.0.0.1", own.server.port, timeout=20)) as opened:
        yield opened


def text_of(body: bytes) -> str:
    """Return the text of a stream's deltas."""
    lines = [line for line in body.decode().split("\n") if line.startswith("data: ")]
    return "".join(json.loads(line[6:]).get("text", "") for line in lines)


def test_long_streams_share_a_connection(connection: HTTPConnection) -> None:
    """Waits for three streams of 1.5 s, as all tests here do for one."""
    for number in range(3):
        message = f"{number}: {LONG}"
        body = json.dumps({"message": message, "stream": True})
        connection.request("POST", "/api/chat", body, {"Content-Type": "application/json"})
        sock = connection.sock
        assert text_of(connection.getresponse().read()) == reply_to(message)
        assert connection.sock is sock, "the connection was closed"


class Received(BytesIO):
    """A received byte string, from which several responses are read in a row."""

    def makefile(self, _mode: str) -> Received:
        return self

    def close(self) -> None:
        """Stay open for the next response."""

    def response(self, method: str) -> tuple[int, bytes]:
        found = HTTPResponse(self, method=method)  # type: ignore[arg-type]  # of a socket it wants makefile alone
        found.begin()
        return found.status, found.read()


@pytest.mark.parametrize("at_once", [True, False])
def test_request_sent_during_a_stream_is_answered_after_it(own: Api, *, at_once: bool) -> None:
    body = json.dumps({"message": LONG, "stream": True}).encode()
    post = (
        b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    )
    post %= (len(body), body)
    get = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", own.server.port), 20) as sock:
        sock.sendall(post + get if at_once else post)
        if not at_once:
            sock.recv(1, socket.MSG_PEEK)  # the stream has begun
            sock.sendall(get)
        received = Received(b"".join(iter(partial(sock.recv, 65536), b"")))
    status, stream = received.response("POST")
    assert (status, text_of(stream)) == (200, reply_to(LONG))
    assert received.response("GET")[0] == 200
    assert received.read() == b""


def test_unread_body_is_not_read_to_its_end(own: Api) -> None:
    head = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", own.server.port), 20) as sock:
        sock.sendall(head)
        assert sock.recv(65536).startswith(b"HTTP/1.1 404 ")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 200_000_000:
                sent += sock.send(bytes(65536))
    assert sent < 50_000_000
