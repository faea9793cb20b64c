"""A provider's response as it arrives: bytes in, its head and the pieces of its body out. Pure: no I/O."""

from __future__ import annotations

import http
from typing import Any

import httptools

HEAD_LIMIT = 64 * 1024
_FRAMING = {"content-length", "transfer-encoding"}


class MalformedResponse(Exception):
    """What came is not an HTTP response."""


class CutResponse(ConnectionError):
    """The connection ended before the response did."""


class Response:
    """A response as it arrives; httptools parses what it is fed and calls back here.

    Only the head is kept: the body's pieces are handed out as they come.
    """

    __slots__ = ("_bodies", "_fed", "_framed", "_parser", "error", "headers", "is_whole", "keeps_alive", "status")

    def __init__(self) -> None:
        self.status = 0
        """0 until the head has come."""
        self.headers: dict[str, str] = {}
        self.error: MalformedResponse | CutResponse | None = None
        """What was wrong with what came last; the pieces before it are handed out."""
        self.is_whole = self.keeps_alive = False
        self._framed = False  # or else the end of the connection is the body's
        self._fed = 0
        self._bodies: list[bytes] = []
        self._parser: Any = httptools.HttpResponseParser(self)
        # A length beside chunks is ignored, as RFC 9112 has it; the connection is not used again.
        self._parser.set_dangerous_leniencies(lenient_chunked_length=True, lenient_optional_cr_before_lf=True)

    def feed(self, data: bytes) -> list[bytes]:
        """Return the pieces of the body in what has arrived; nothing arriving means that the connection has ended."""
        if not data:
            self._end()
            return []
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.error = MalformedResponse(str(error).rstrip("."))
        if not self.status:
            self._fed += len(data)
            if self._fed > HEAD_LIMIT:
                self.error = MalformedResponse("its head is too long")
        bodies, self._bodies = self._bodies, []
        return bodies

    def close(self) -> None:
        """Let go of the parser: it knows the response, and only the garbage collector would find such a circle."""
        self._parser = None

    def header(self, name: str) -> str | None:
        """Return a header by its name in lower case."""
        return self.headers.get(name)

    def _end(self) -> None:
        self.keeps_alive = False
        if not self.status or (self._framed and not self.is_whole):
            self.error = CutResponse("The connection ended before the response did.")
        else:
            self.is_whole = True

    # What httptools calls:

    def on_message_begin(self) -> None:
        """Take nothing for granted that comes after the response's end: it answers no request."""
        if self.is_whole:
            self.keeps_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Take the head as known, unless it is one of those that another one follows."""
        status = self._parser.get_status_code()
        if status < http.HTTPStatus.OK:
            self.headers.clear()
        elif not self.is_whole:
            framing = _FRAMING & self.headers.keys()
            self.status, self._framed = status, bool(framing)
            self.keeps_alive = self._parser.should_keep_alive() and framing != _FRAMING

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body until it is handed out."""
        self._bodies.append(body)

    def on_message_complete(self) -> None:
        """Note that the response is whole."""
        self.is_whole = self.status != 0
