"""Refused requests get the right status and a problem document that names the field, and store nothing."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.client import SLOW, Response
from tests.http.api import Api, soon, unique

JSON = {"Content-Type": "application/json"}
EVERYTHING = """(
    SELECT id FROM conversations UNION ALL SELECT message_id FROM messages
    UNION ALL SELECT reply_id FROM leases UNION ALL SELECT reply_id FROM idempotency_keys
) AS found"""
MALFORMED = {
    "empty": b"",
    "cut": b'{"message":"x"',
    "more": b'{"message":"x"}{}',
    "single quotes": b"{'message':'x'}",
    "comma": b'{"message":"x",}',
    "not UTF-8": b'{"message":"\xff"}',
    "UTF-16": '{"message":"x"}'.encode("utf-16"),
    "half a character": b'{"message":"\\ud83d"}',
    "NaN": b'{"message":"x","temperature":NaN}',
    "Infinity": b'{"message":"x","metadata":{"a":-Infinity}}',
    "raw control character": b'{"message":"\x01"}',
    "deep": b'{"message":"x","metadata":' + b"[" * 100_000,
    "deep and whole": b'{"message":"x","metadata":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
}
WRONG: list[tuple[bytes, str]] = [
    (b"[]", ""),
    (b'"text"', ""),
    (b"null", ""),
    (b"{}", "message"),
    (b'{"message":null}', "message"),
    (b'{"message":5}', "message"),
    (b'{"message":["x"]}', "message"),
    (b'{"message":""}', "message"),
    (b'{"message":" \\n\\t "}', "message"),
    (b'{"message":"x","role":"system"}', "role"),
    (b'{"message":"x","owner":"root"}', "owner"),
    (b'{"message":"x","created_at":"2026-01-01T00:00:00Z"}', "created_at"),
    (b'{"message":"x","conversation_id":"nope"}', "conversation_id"),
    (b'{"message":"x","stream":"yes"}', "stream"),
    (b'{"message":"x","stream":1}', "stream"),
    (b'{"message":"x","model":""}', "model"),
    (b'{"message":"x","temperature":2.1}', "temperature"),
    (b'{"message":"x","temperature":"1"}', "temperature"),
    (b'{"message":"x","temperature":1e999}', "temperature"),
    (b'{"message":"x","max_tokens":0}', "max_tokens"),
    (b'{"message":"x","max_tokens":1.5}', "max_tokens"),
    (b'{"message":"x","max_tokens":' + b"9" * 5000 + b"}", "max_tokens"),
    (b'{"message":"x","ttl":-1}', "ttl"),
    (b'{"message":"x","ttl":"1h"}', "ttl"),
    (b'{"message":"x","on_disconnect":"wait"}', "on_disconnect"),
    (b'{"message":"x","metadata":[]}', "metadata"),
    (b'{"message":"x","metadata":{"a":' + b"9" * 5000 + b"}}", "metadata"),
    (b'{"message":"x","metadata":{"a":"' + b"x" * 17_000 + b'"}}', "metadata"),
]

HEAD = "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def assert_refused(response: Response, status: int, code: str) -> Any:
    """Return a problem document, or fail if it is not complete."""
    problem = response.json
    assert (response.status, problem["status"], problem["code"]) == (status, status, code), problem
    assert response.headers.get_content_type() == "application/problem+json"
    assert problem["request_id"] == response.headers["X-Request-Id"]
    assert problem["type"] == f"urn:chatkeep:problem:{code}"
    assert problem["title"]
    assert problem["detail"]
    return problem


@pytest.fixture(autouse=True)
def nothing_is_stored(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail if a refused request stored a row."""
    api: Api = request.getfixturevalue("impatient" if "impatient" in request.fixturenames else "api")
    before = api.count(EVERYTHING)
    yield
    assert api.count(EVERYTHING) == before


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_invalid_json_is_400(api: Api, body: bytes) -> None:
    headers = JSON | {"Idempotency-Key": unique()}
    response = soon(0.5, lambda: api.request("POST", "/api/chat", body=body, headers=headers))
    assert_refused(response, 400, "malformed_json")


@pytest.mark.parametrize(("body", "field"), WRONG, ids=[body[:50].decode() for body, _ in WRONG])
def test_invalid_field_is_422_and_named(api: Api, body: bytes, field: str) -> None:
    response = api.request("POST", "/api/chat", body=body, headers=JSON | {"Idempotency-Key": unique()})
    problem = assert_refused(response, 422, "invalid_fields")
    assert [error["field"] for error in problem["errors"]] == [field]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"title": ""}, "title"),
        ({"title": None}, "title"),
        ({"title": "x" * 256}, "title"),
        ({"pinned": "yes"}, "pinned"),
        ({"ttl": 0}, "ttl"),
        ({"metadata": None}, "metadata"),
        ({"system": 5}, "system"),
        ({"id": "x"}, "id"),
        ({"created_at": "x"}, "created_at"),
    ],
)
def test_invalid_change_is_422_and_named(api: Api, fields: dict[str, Any], field: str) -> None:
    path = "/api/conversations/01a202c6-688b-7050-9b35-34b6a3bc47ef"
    problem = assert_refused(api.request("PATCH", path, json=fields), 422, "invalid_fields")
    assert [error["field"] for error in problem["errors"]] == [field]


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_body_not_declared_as_json_is_415(api: Api, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    response = api.request("POST", "/api/chat", body=b'{"message":"x"}', headers=headers)
    assert_refused(response, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/chat", {"POST", "OPTIONS"}),
        ("POST", "/api/conversations", {"GET", "HEAD", "OPTIONS"}),
        (
            "PUT",
            "/api/conversations/01a202c6-688b-7050-9b35-34b6a3bc47ef",
            {"GET", "HEAD", "OPTIONS", "PATCH", "DELETE"},
        ),
        ("DELETE", "/health", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_wrong_method_is_405_and_names_the_allowed_ones(api: Api, method: str, path: str, allowed: set[str]) -> None:
    response = api.request(method, path)
    assert_refused(response, 405, "method_not_allowed")
    assert set(response.headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    "path", ["/api", "/api/", "/api/nope", "/api/chat/more", "/api/conversations/x/y", "/health/no"]
)
def test_unknown_path_is_404(api: Api, path: str) -> None:
    assert_refused(api.request("GET", path), 404, "not_found")


@pytest.mark.parametrize("named", ["a-1_B.2", "x" * 128])
def test_valid_request_id_is_echoed(api: Api, named: str) -> None:
    response = api.request("GET", "/api/nope", headers={"X-Request-Id": named})
    assert assert_refused(response, 404, "not_found")["request_id"] == named


@pytest.mark.parametrize("named", ["", "a b", "x" * 129, "<script>", "ü"])
def test_invalid_request_id_is_replaced(api: Api, named: str) -> None:
    response = api.request("GET", "/api/nope", headers={"X-Request-Id": named})
    assert assert_refused(response, 404, "not_found")["request_id"] not in {named, ""}


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 3_000_000])
def test_body_over_the_limit_is_413(api: Api, size: int) -> None:
    head = f"{HEAD}Content-Length: {size}\r\n\r\n"
    problem = assert_refused(talk(api, head.encode(), b" " * size), 413, "body_too_large")
    assert "CHATKEEP_MAX_BODY" in problem["detail"]
    assert "import" not in problem["detail"], "this is no file"


def test_chunked_body_over_the_limit_is_413(api: Api) -> None:
    head = HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    assert_refused(talk(api, head, *[chunk] * 17, b"0\r\n\r\n"), 413, "body_too_large")


def test_body_declared_too_large_is_413_before_it_is_sent(api: Api) -> None:
    if api.server.command == "waitress":
        return  # Waitress reads the whole request before it calls the application
    head = HEAD.encode() + b"Content-Length: 1000000000\r\n\r\n"
    assert_refused(talk(api, head), 413, "body_too_large")  # waiting for the body would end with 408


def test_body_up_to_the_limit_is_read(api: Api) -> None:
    body = b'{"message":' + b" " * (1024 * 1024 - 13) + b"5}"
    assert_refused(api.request("POST", "/api/chat", body=body, headers=JSON), 422, "invalid_fields")


def test_slow_body_is_408(impatient: Api) -> None:
    """Waits for a deadline of a second."""
    if impatient.server.command != "gunicorn":
        return  # a thread cannot be interrupted
    head = HEAD.encode() + b"Content-Length: 15\r\n\r\n"
    begun = time.monotonic()
    assert_refused(talk(impatient, head, b'{"mess'), 408, "request_timeout")
    assert time.monotonic() - begun > 0.9  # `talk` times out before the default of ten seconds


def talk(api: Api, *pieces: bytes) -> Response:
    """Send the pieces of one request while the server reads, and return its answer."""
    with socket.create_connection(("127.0.0.1", api.server.port), timeout=5 * SLOW) as sock:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                sock.sendall(piece)
        with http.client.HTTPResponse(sock) as answer:
            answer.begin()
            return Response(answer.status, answer.headers, answer.read())
