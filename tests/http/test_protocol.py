"""Every server refuses malformed HTTP with a problem, and answers as the HTTP standards say."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import socket
from typing import Any

import pytest

from tests.client import SLOW, Response
from tests.http.api import Api

pytestmark = pytest.mark.everywhere
POST = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GET = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
BODY = b'{"message":"Hello"}'
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
MALFORMED_CHUNKS = {
    "no number": b"nope\r\n" + BODY + b"\r\n0\r\n\r\n",
    "empty size": b"\r\n0\r\n\r\n",
    "sign": b"+13\r\n" + BODY + b"\r\n0\r\n\r\n",
    "prefix": b"0x13\r\n" + BODY + b"\r\n0\r\n\r\n",
    "underscore": b"1_3\r\n" + BODY + b"\r\n0\r\n\r\n",
    "negative": b"-1\r\n" + BODY + b"\r\n0\r\n\r\n",
    "too long": b"5\r\n" + BODY + b"\r\n0\r\n\r\n",
    "bad extension": b"13;\x01\r\n" + BODY + b"\r\n0\r\n\r\n",
}
MALFORMED_HEADS = {
    "no request": b"nonsense\r\n\r\n",
    "version": b"GET /health/live HTTP/1.x\r\nHost: localhost\r\n\r\n",
    "method": b"G(T /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no colon": GET + b"nonsense\r\n\r\n",
    "space before colon": GET + b"Name : value\r\n\r\n",
    "no host": b"GET /health/live HTTP/1.1\r\n\r\n",
    "length": POST + b"Content-Length: 1x\r\n\r\n",
    "negative length": POST + b"Content-Length: -1\r\n\r\n",
}


def talk(api: Api, *pieces: bytes, method: str = "POST") -> Response:
    """Send pieces while the server reads, and return its answer."""
    with socket.create_connection(("127.0.0.1", api.server.port), timeout=10 * SLOW) as sock:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                sock.sendall(piece)
        with http.client.HTTPResponse(sock, method=method) as answer:
            answer.begin()
            return Response(answer.status, answer.headers, answer.read())


def assert_problem(answer: Response, *statuses: int) -> None:
    """Fail unless this is a problem document."""
    assert answer.status in statuses, answer.body
    assert answer.headers.get_content_type() == "application/problem+json"
    assert answer.json["status"] == answer.status
    assert answer.json["request_id"] == answer.headers["X-Request-Id"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("chunks", MALFORMED_CHUNKS.values(), ids=MALFORMED_CHUNKS)
def test_malformed_chunks_are_400(api: Api, chunks: bytes) -> None:
    before = len(api.server.log())
    assert_problem(talk(api, CHUNKED + chunks), 400)
    assert "Traceback" not in api.server.log()[before:]


@pytest.mark.parametrize("head", MALFORMED_HEADS.values(), ids=MALFORMED_HEADS)
def test_malformed_heads_are_400(api: Api, head: bytes) -> None:
    before = len(api.server.log())
    assert_problem(talk(api, head), 400)
    assert "Traceback" not in api.server.log()[before:]


def test_truncated_body_does_no_harm(api: Api) -> None:
    before = len(api.server.log())
    for sent in (POST + b"Content-Length: 100\r\n\r\n{", CHUNKED + b"13\r\n{"):
        with socket.create_connection(("127.0.0.1", api.server.port), timeout=10 * SLOW) as sock:
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
    assert "Traceback" not in api.server.log()[before:]


def test_too_long_request_line_or_header_is_refused(api: Api) -> None:
    line = b"GET /" + b"x" * 300_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert_problem(talk(api, line), 414, 431)
    assert_problem(talk(api, GET + b"X-Long: " + b"x" * 300_000 + b"\r\n\r\n"), 431)
    assert_problem(talk(api, GET + b"X-Many: 1\r\n" * 30_000 + b"\r\n"), 431)


def test_unknown_transfer_coding_is_501(api: Api) -> None:
    assert_problem(talk(api, POST + b"Transfer-Encoding: br\r\n\r\n"), 501)


def test_unknown_expectation_is_417(api: Api) -> None:
    head = GET + b"Expect: something\r\n\r\n"
    assert_problem(talk(api, head), 417)


@pytest.mark.parametrize(
    ("path", "coding"),
    [
        *(("/api/chat", coding) for coding in ("gzip", "GZIP", "deflate", "br", "zstd", "identity, gzip")),
        *(("/api/conversations/import", coding) for coding in ("deflate", "br", "zstd", "identity, gzip")),
    ],
)
def test_compressed_body_is_415(api: Api, path: str, coding: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    answer = api.request("POST", path, body=gzip.compress(BODY), headers=headers)
    assert_problem(answer, 415)


def test_identity_encoded_body_is_read(api: Api) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "identity"}
    assert api.request("POST", "/api/chat", body=BODY, headers=headers).status == 200


def test_too_large_body_is_refused_before_100_continue(api: Api) -> None:
    answer = talk(api, POST + b"Expect: 100-continue\r\nContent-Length: 5000000\r\n\r\n")
    assert_problem(answer, 413)  # http.client skips 100 Continue, so check the bytes
    with socket.create_connection(("127.0.0.1", api.server.port), timeout=10 * SLOW) as sock:
        sock.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 5000000\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("framing", [b"Content-Length: %d\r\n\r\n" % len(BODY), b"Transfer-Encoding: chunked\r\n\r\n"])
def test_100_continue_is_sent_once(api: Api, framing: bytes) -> None:
    with socket.create_connection(("127.0.0.1", api.server.port), timeout=10 * SLOW) as sock:
        sock.sendall(POST + b"Connection: close\r\nExpect: 100-continue\r\n" + framing)
        assert sock.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(BODY if b"Length" in framing else b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY))
        with http.client.HTTPResponse(sock) as answer:
            answer.begin()
            assert (answer.status, json.loads(answer.read())["status"]) == (200, "completed")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/event-stream;q=0", "application/json"),
        ("text/event-stream; q=0.0, application/json;q=0.1", "application/json"),
        ("text/event-stream;q=0.5, application/json", "application/json"),
        ("text/event-stream;q=0.5", "text/event-stream"),
        ("text/event-stream", "text/event-stream"),
        ("*/*", "application/json"),
    ],
)
def test_accept_weights_are_respected(api: Api, accept: str, kind: str) -> None:
    answer = api.post("Hello", headers={"Accept": accept})
    assert (answer.status, answer.headers.get_content_type()) == (200, kind)


@pytest.mark.parametrize("accepted", ["zh;q=0", "en, zh;q=0", "zh;q=0, *"])
def test_language_with_weight_zero_is_not_used(api: Api, accepted: str) -> None:
    assert api.request("GET", "/api/nope", headers={"Accept-Language": accepted}).headers["Content-Language"] == "en"


@pytest.mark.parametrize("accepted", ["gzip;q=0", "gzip;q=0, zstd;q=0", "identity", "gzip;q=0.0, *;q=0"])
@pytest.mark.parametrize("path", ["/", "/openapi.json", "/api/conversations/export-all"])
def test_coding_with_weight_zero_is_not_used(api: Api, path: str, accepted: str) -> None:
    assert "Content-Encoding" not in api.request("GET", path, headers={"Accept-Encoding": accepted}).headers


def test_head_answer_has_no_body(api: Api) -> None:
    turn = api.chat("Hello")
    stream = f"/api/conversations/{turn['conversation_id']}/messages/{turn['message_id']}/stream"
    for path in (
        "/", "/docs", "/openapi.json", "/api/conversations", "/api/conversations/export-all", "/metrics",
        f"/api/conversations/{turn['conversation_id']}/export?format=ndjson", stream, "/api/nope",
        "/docs/assets/swagger-ui.css", "/static/chat.js", "/api/audit/export?format=csv",
    ):  # fmt: skip
        with socket.create_connection(("127.0.0.1", api.server.port), timeout=10 * SLOW) as sock:
            sock.sendall(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            received = b"".join(iter(lambda: sock.recv(65536), b""))
        head, _, body = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 "), path
        assert body == b"", path


def test_answer_without_a_body_has_no_content_type(api: Api) -> None:
    turn: Any = api.chat("Hello")
    path = f"/api/conversations/{turn['conversation_id']}/messages/{turn['message_id']}/stream"
    ended = api.request("GET", path, headers={"Last-Event-ID": "end"})
    assert (ended.status, ended.headers["Content-Type"], ended.body) == (204, None, b"")
    options = api.request("OPTIONS", "/api/chat")
    assert (options.status, options.headers["Content-Type"], options.body) == (200, None, b"")
