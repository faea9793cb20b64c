"""From values to responses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec
from flask import Response, request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Json(Response):
    """A response whose body is there as a whole, so that there is nothing to find out about it."""

    def __init__(self, body: bytes, status: int) -> None:
        super().__init__(body, status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        self.fixed: tuple[tuple[str, str], ...] = ()
        """More headers, which are sound and have nothing to do with the others."""
        self._body = body

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Send it (PEP 3333)."""
        start_response(self.status, [*self.headers.to_wsgi_list(), *self.fixed])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [self._body]


def rendered(shape: msgspec.Struct, status: int = 200) -> Response:
    """Return the JSON response of a shape."""
    return Json(msgspec.json.encode(shape), status)


def unlisted(response: Response) -> Response:
    """Keep search engines from listing what a response shows; return the response."""
    response.headers["X-Robots-Tag"] = "noindex, nofollow"
    return response


def impatient(response: Response, seconds: float) -> Response:
    """Let a client go that does not take a piece of a streamed response within so many seconds; return the response."""
    sock = request.environ.get("gunicorn.socket")
    if sock is not None:
        sock.settimeout(seconds)
        response.call_on_close(lambda: sock.settimeout(None))
    return response
