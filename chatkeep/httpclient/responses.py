"""Parse an HTTP response incrementally: bytes in, head and pieces of the body out. Pure: no I/O."""

from __future__ import annotations

import http
from typing import Any

import httptools

HEAD_LIMIT = 64 * 1024
_FRAMING = {"content-length", "transfer-encoding"}


class MalformedResponse(Exception):
    """The data is not an HTTP response."""


class CutResponse(ConnectionError):
    """The connection closed before the response was complete."""


class Response:
    """An incremental response; httptools parses it and calls back.

    Only the head is kept. Pieces of the body are returned as they arrive.
    """

    __slots__ = ("_bodies", "_fed", "_framed", "_parser", "error", "headers", "is_whole", "keeps_alive", "status")

    def __init__(self) -> None:
        self.status = 0
        """0 until the head is complete."""
        self.headers: dict[str, str] = {}
        self.error: MalformedResponse | CutResponse | None = None
        """The error in the last data; the pieces before it were returned."""
        self.is_whole = self.keeps_alive = False
        self._framed = False  # if not, the body ends with the connection
        self._fed = 0
        self._bodies: list[bytes] = []
        self._parser: Any = httptools.HttpResponseParser(self)
        # A length beside chunks is ignored (RFC 9112); the connection is not reused.
        self._parser.set_dangerous_leniencies(lenient_chunked_length=True, lenient_optional_cr_before_lf=True)

    def feed(self, data: bytes) -> list[bytes]:
        """Return the pieces of the body in ``data``; empty data is the end of the connection."""
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
        """Drop the parser, to break the reference cycle with this response."""
        self._parser = None

    def header(self, name: str) -> str | None:
        """Return a header by its lower-case name."""
        return self.headers.get(name)

    def _end(self) -> None:
        self.keeps_alive = False
        if not self.status or (self._framed and not self.is_whole):
            self.error = CutResponse("The connection ended before the response did.")
        else:
            self.is_whole = True

    # Callbacks of httptools

    def on_message_begin(self) -> None:
        """Don't reuse the connection if another response follows: it answers no request."""
        if self.is_whole:
            self.keeps_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header."""
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Accept the head, unless it is an interim (1xx) response."""
        status = self._parser.get_status_code()
        if status < http.HTTPStatus.OK:
            self.headers.clear()
        elif not self.is_whole:
            framing = _FRAMING & self.headers.keys()
            self.status, self._framed = status, bool(framing)
            self.keeps_alive = self._parser.should_keep_alive() and framing != _FRAMING

    def on_body(self, body: bytes) -> None:
        """Store a piece of the body until `feed` returns it."""
        self._bodies.append(body)

    def on_message_complete(self) -> None:
        """Mark the response as complete."""
        self.is_whole = self.status != 0
