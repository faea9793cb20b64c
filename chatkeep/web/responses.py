"""Responses of the API: values as JSON, and streams, with nothing between them and the server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec
from flask import Response, request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Untyped(Response):
    """A response that has a type only where it is given one; Flask's own answer to OPTIONS has none."""

    default_mimetype = None


class RawResponse(Untyped):
    """A response of the API about whose body there is nothing to find out, and whose headers are sound."""

    def __init__(self, body: Iterable[bytes], status: int, headers: Iterable[tuple[str, str]]) -> None:
        super().__init__(body, status, headers)
        self._pieces = body
        self.fixed: tuple[tuple[str, str], ...] = ()
        """More headers, which have nothing to do with the others."""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Send it (PEP 3333)."""
        start_response(self.status, [*self.headers.to_wsgi_list(), *self.fixed])
        return Sent(() if environ["REQUEST_METHOD"] == "HEAD" else self._pieces, self.close)


class Sent:
    """A body as a server takes it: piece by piece, with nothing between them, and then closed."""

    __slots__ = ("_pieces", "close")

    def __init__(self, pieces: Iterable[bytes], close: Callable[[], None]) -> None:
        self._pieces = pieces
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)


class JsonResponse(RawResponse):
    """A response whose body is there as a whole."""

    def __init__(self, body: bytes, status: int) -> None:
        super().__init__([body], status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])


class StreamResponse(RawResponse):
    """A response whose body comes by and by."""

    def __init__(self, body: Iterator[bytes], headers: Iterable[tuple[str, str]]) -> None:
        super().__init__(body, 200, headers)


def rendered(shape: msgspec.Struct, status: int = 200) -> Response:
    """Return the JSON response of a shape."""
    return JsonResponse(msgspec.json.encode(shape), status)


def unlisted(response: Response) -> Response:
    """Keep search engines from listing what a response shows; return the response."""
    response.headers["X-Robots-Tag"] = "noindex, nofollow"
    return response


def with_write_timeout(response: Response, seconds: float) -> Response:
    """Let a client go that does not take a piece of a streamed response within so many seconds; return the response."""
    sock = request.environ.get("gunicorn.socket")
    if sock is not None:
        sock.settimeout(seconds)
    return response
