"""Build the request line and headers for a provider. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterable

import chatkeep
from chatkeep.errors import SettingsError
from chatkeep.httpclient.connections import Route
from chatkeep.i18n import Text, _


def headers_of(route: Route, api_key: str | None, more: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the headers of every request. Raises `SettingsError` if the key or a header of ``more`` is not ASCII."""
    headers = {
        "Host": route.host,
        "User-Agent": f"chatkeep/{chatkeep.__version__}",
        "Content-Type": "application/json",
        "Accept": "text/event-stream",
        "Accept-Encoding": "identity",
    }
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    if route.proxy and route.url.scheme == "http":
        headers |= route.proxy_headers()
    headers |= dict(more)
    if problems := [_problem(name) for name, value in headers.items() if not _is_header(name, value)]:
        raise SettingsError(problems)
    return headers


def head(method: str, target: str, headers: dict[str, str]) -> bytes:
    """Return the request line and the headers, without the final empty line."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def _is_header(name: str, value: str) -> bool:
    return f"{name}{value}".isascii() and f"{name}{value}".isprintable()


def _problem(name: str) -> Text:
    setting = "OPENAI_API_KEY" if name == "Authorization" else "CHATKEEP_PROVIDER_HEADERS"
    return _(
        "{setting}: the header {header} may hold only printable ASCII characters", setting=setting, header=f"{name!r}"
    )
