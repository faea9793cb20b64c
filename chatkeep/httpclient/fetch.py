"""Make one small request to a server other than a provider, with a time limit and without redirects."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

import chatkeep
from chatkeep.errors import ProviderBroke, SettingsError
from chatkeep.httpclient.connections import AbortHandle, ConnectionPool, Route, tls_context
from chatkeep.httpclient.headers import head
from chatkeep.httpclient.responses import MalformedResponse

SECONDS = 5.0
LIMIT = 1024 * 1024


class Unreachable(Exception):
    """No complete response arrived."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete response."""

    status: int
    body: bytes


def fetch(url: str, form: dict[str, str] | None = None, authorization: str | None = None) -> Answer:
    """Return the response to a GET, or to a POST of ``form``. Raises `Unreachable`."""
    handle = AbortHandle()
    deadline = threading.Timer(SECONDS, handle.abort)
    deadline.daemon = True
    deadline.start()
    try:
        return _ask(url, handle, form, authorization)
    except (OSError, MalformedResponse, ProviderBroke, SettingsError, ValueError) as error:
        raise Unreachable(type(error).__name__) from error
    finally:
        deadline.cancel()


def _ask(url: str, handle: AbortHandle, form: dict[str, str] | None, authorization: str | None) -> Answer:
    route, parts = Route.to(url), urlsplit(url)
    body = b"" if form is None else urlencode(form).encode()
    headers = _headers(route, None if form is None else len(body), authorization)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if route.proxy and parts.scheme == "http":
        target, headers = f"http://{route.host}{target}", headers | route.proxy_headers()
    request = head("GET" if form is None else "POST", target, headers) + b"\r\n" + body
    tls = tls_context() if parts.scheme == "https" else None
    with contextlib.closing(ConnectionPool(route, SECONDS, tls, route.destinations(())).open(handle)) as connection:
        content = b"".join(connection.send(request)) + connection.read_for(SECONDS, LIMIT)
        response = connection.response
        handle.raise_if_aborted()
        if not response.is_whole or len(content) >= LIMIT:
            raise MalformedResponse("The answer is not whole, or too large.")
        return Answer(response.status, content)


def _headers(route: Route, length: int | None, authorization: str | None) -> dict[str, str]:
    headers = {
        "Host": route.host,
        "User-Agent": f"chatkeep/{chatkeep.__version__}",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    if length is not None:
        headers |= {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(length)}
    return headers | ({"Authorization": authorization} if authorization else {})
