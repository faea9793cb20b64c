"""Security headers of all responses."""

from __future__ import annotations

import os

from flask import Response, g, request

from chatkeep.web.responses import RawResponse

_EVERYWHERE = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    # Pages of other origins can't embed responses; those that may call the API use CORS.
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
# Pages run only their own files and connect only to this server.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_POWERS = ("camera", "microphone", "geolocation", "display-capture", "payment", "usb", "serial", "hid")
_OF_PAGES = (
    *_EVERYWHERE,
    ("Content-Security-Policy", _POLICY),
    ("X-Frame-Options", "DENY"),  # for browsers without frame-ancestors
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Permissions-Policy", ", ".join(f"{power}=()" for power in _POWERS)),
)
# A response of the API that is opened as a page runs nothing.
_OF_ANSWERS = (*_EVERYWHERE, ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"))
OF_PLAIN = (("Cache-Control", "no-store"), *_OF_ANSWERS)
# Without no-transform a compressing proxy, such as Node.js's compression(), would buffer events.
_OF_EVENTS = (("Cache-Control", "no-store, no-transform"), *_OF_ANSWERS)
_HTTPS = ("Strict-Transport-Security", "max-age=31536000")


def protect(response: Response) -> Response:
    """Set the headers that every response has."""
    headers = response.headers
    headers["X-Request-Id"] = g.get("request_id") or os.urandom(16).hex()
    if request.path.startswith("/api"):
        fixed = _OF_EVENTS if response.mimetype == "text/event-stream" else OF_PLAIN
        _vary_by_key(response)
        if isinstance(response, RawResponse):
            response.fixed = fixed
        else:
            headers.remove("Cache-Control")
            headers.extend(fixed)
    else:
        headers.extend(_OF_PAGES if response.mimetype == "text/html" else _OF_ANSWERS)
    # gunicorn and `chatkeep serve` trust X-Forwarded-Proto of a proxy on this machine or on the Unix socket.
    if request.environ["wsgi.url_scheme"] == "https":
        headers.extend((_HTTPS,))
    return response


def _vary_by_key(response: Response) -> None:
    if "Vary" in response.headers:
        response.vary.add("Authorization")
    else:
        response.headers["Vary"] = "Authorization"
