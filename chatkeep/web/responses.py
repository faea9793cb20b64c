"""From values to responses."""

from __future__ import annotations

import msgspec
from flask import Response, request


def rendered(shape: msgspec.Struct, status: int = 200) -> Response:
    """Return the JSON response of a shape."""
    return Response(msgspec.json.encode(shape), status, mimetype="application/json")


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
