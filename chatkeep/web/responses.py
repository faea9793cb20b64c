"""Responses of the API: JSON and streams, sent without Werkzeug's processing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec
from flask import Response, request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Untyped(Response):
    """A response without a default Content-Type, as for OPTIONS."""

    default_mimetype = None


class RawResponse(Untyped):
    """A response whose headers are complete and valid, so that Werkzeug needn't compute them."""

    def __init__(self, body: Iterable[bytes], status: int, headers: Iterable[tuple[str, str]]) -> None:
        super().__init__(body, status, headers)
        self._body = body
        self.fixed: tuple[tuple[str, str], ...] = ()
        """More headers; none of them is in `headers`."""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Send the response (PEP 3333)."""
        start_response(self.status, [*self.headers.to_wsgi_list(), *self.fixed])
        return _Body(() if environ["REQUEST_METHOD"] == "HEAD" else self._body, self.close)


class _Body:
    """A WSGI iterable: chunks and a `close` that the server calls at the end."""

    __slots__ = ("_chunks", "close")

    def __init__(self, chunks: Iterable[bytes], close: Callable[[], None]) -> None:
        self._chunks = chunks
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._chunks)


class JsonResponse(RawResponse):
    """A JSON response."""

    def __init__(self, body: bytes, status: int) -> None:
        super().__init__([body], status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])


class StreamResponse(RawResponse):
    """A streamed response."""

    def __init__(self, body: Iterator[bytes], headers: Iterable[tuple[str, str]]) -> None:
        super().__init__(body, 200, headers)


def rendered(shape: msgspec.Struct, status: int = 200) -> Response:
    """Return a JSON response."""
    return JsonResponse(msgspec.json.encode(shape), status)


def unlisted(response: Response) -> Response:
    """Exclude a response from search engines; return it."""
    response.headers["X-Robots-Tag"] = "noindex, nofollow"
    return response


def with_write_timeout(response: Response, seconds: float) -> Response:
    """Disconnect the client if it reads nothing of a streamed response for ``seconds``; return the response."""
    sock = request.environ.get("gunicorn.socket")
    if sock is not None:
        sock.settimeout(seconds)
    return response
