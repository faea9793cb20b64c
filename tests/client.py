"""A small HTTP client for tests: one connection per request, no retries, no redirects, no proxy.

Its reader of event streams shares no code with the server; it understands lines that end in LF or CRLF.
"""

from __future__ import annotations

import contextlib
import http.client
import json as jsonlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

# How much longer everything may take on Windows, under Wine.
SLOW = 10 if os.name == "nt" else 1


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response; header names are case-insensitive."""

    status: int
    headers: Message
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return jsonlib.loads(self.body)


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a stream; ``at`` is when it was read, by the monotonic clock in seconds."""

    event: str
    data: Any
    id: str | None = None
    at: float = field(default=0.0, compare=False)


def request(
    method: str,
    url: str,
    *,
    json: Any = None,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 30 * SLOW,
) -> Response:
    """Return the response. ``json`` is sent as JSON, ``body`` as bytes; ``timeout`` is the seconds of each read."""
    connection, response = _open(method, url, json=json, body=body, headers=headers, timeout=timeout)
    with response:
        whole = response.read()
    connection.close()
    return Response(response.status, response.headers, whole)


def stream(
    url: str,
    json: Any = None,
    *,
    method: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 30 * SLOW,
) -> Stream:
    """Return the response as an event stream: to a POST of ``json``, or else to a GET."""
    wanted = {"Accept": "text/event-stream", **(headers or {})}
    verb = method or ("GET" if json is None else "POST")
    return Stream(*_open(verb, url, json=json, body=None, headers=wanted, timeout=timeout))


class Stream:
    """A streaming response. Iterate it for its events; ``raw`` has everything received.

    Iterating raises `http.client.IncompleteRead` or `OSError` where the connection broke, as opposed to ending.
    """

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response
        self.status = response.status
        self.headers: Message = response.headers
        self.raw = b""
        self.comments: list[str] = []
        self.events: list[Event] = []

    def __iter__(self) -> Iterator[Event]:
        """Yield the events as they arrive. Close when the stream ends or breaks."""
        assert self.headers.get_content_type() == "text/event-stream", self.read()
        try:
            yield from self._parse()
        finally:
            self.close()

    def read(self) -> bytes:
        """Return the rest of the body."""
        with self:
            rest = self._response.read()
        self.raw += rest
        return rest

    @property
    def text(self) -> str:
        """The text of the deltas so far."""
        return "".join(event.data.get("text", "") for event in self.events if event.event == "delta")

    def close(self) -> None:
        """Close the connection."""
        self._response.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _parse(self) -> Iterator[Event]:
        fields: dict[str, str] = {}
        for line in self._lines():
            if not line:
                if "data" in fields:
                    self.events.append(_event(fields))
                    yield self.events[-1]
                fields = {}
            elif line.startswith(":"):
                self.comments.append(line[1:].removeprefix(" "))
            else:
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                fields[name] = f"{fields['data']}\n{value}" if name == "data" and "data" in fields else value

    def _lines(self) -> Iterator[str]:
        """Yield the complete lines."""
        rest = b""
        while chunk := self._response.read1(65536):
            self.raw += chunk
            *whole, rest = (rest + chunk).split(b"\n")
            yield from (line.decode().removesuffix("\r") for line in whole)


def _event(fields: dict[str, str]) -> Event:
    return Event(fields.get("event", "message"), jsonlib.loads(fields["data"]), fields.get("id"), time.monotonic())


def _open(
    method: str, url: str, *, json: Any, body: bytes | None, headers: Mapping[str, str] | None, timeout: float
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    parts = urlsplit(url)
    assert parts.scheme == "http", url
    assert parts.hostname, url
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    sent = {"Connection": "close"}
    if json is not None:
        body = jsonlib.dumps(json).encode()
        sent["Content-Type"] = "application/json"
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    try:
        connection.connect()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the server may answer before it has read all
            connection.request(method, target, body, {**sent, **(headers or {})})
        return connection, connection.getresponse()
    except BaseException:
        connection.close()
        raise
