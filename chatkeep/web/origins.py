"""Host and Origin checks, which protect users' browsers.

A browser sends requests for any open page, also to this machine and its network. So a page of another origin could use
a server that needs no key, and with DNS rebinding, which points the page's name at this machine, read the responses.
Programs other than browsers don't send these headers and pass: keys protect the server from them.

Passing this check does not make a page our own: only our own page may use the key in the cookie.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from chatkeep.config.settings import Settings
from chatkeep.errors import BadRequest, ForeignOrigin, UnknownHost
from chatkeep.i18n import _
from chatkeep.runtime.hosts import is_listed, is_loopback
from chatkeep.web.fields import shortened

ANY = "*"
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:@/\[\]\s]+)(?::\d*)?")
_READING = {"GET", "HEAD"}
_OURS = {"same-origin", "none"}  # none: the user typed the address or opened a bookmark


@dataclass(frozen=True, slots=True)
class Origins:
    """The configured hosts and origins, checked against headers that pages cannot forge."""

    hosts: frozenset[str]
    """CHATKEEP_HOSTS."""
    origins: frozenset[str]
    """CHATKEEP_CORS_ORIGINS: other origins whose pages may call the API."""
    by_socket: bool
    """Whether the server listens on a Unix socket, which browsers can't reach: its proxy checks the host."""
    open_mode: Callable[[], bool]
    """Returns whether requests need no key now."""
    public_host: str | None = None
    """The host of CHATKEEP_PUBLIC_URL."""

    @classmethod
    def of(cls, settings: Settings, open_mode: Callable[[], bool]) -> Origins:
        """Create the checks of the settings."""
        by_socket = settings.socket_path is not None
        public_host = urlsplit(settings.public_url or "").hostname
        return cls(frozenset(settings.hosts), frozenset(settings.cors_origins), by_socket, open_mode, public_host)

    def check(self, environ: Mapping[str, Any], route: str) -> None:
        """Raise `BadRequest`, `UnknownHost` or `ForeignOrigin` if the request is not allowed.

        ``route`` is the matched rule, or empty. The path itself is not used, because it has many spellings.
        """
        host = environ.get("HTTP_HOST")
        if host is None and environ["SERVER_PROTOCOL"] == "HTTP/1.1":
            raise BadRequest(_("Send a Host header (RFC 9112, section 3.2)."))
        if host is not None and not self.answers_to(host, open_mode=self.open_mode()):
            shown = shortened(_name(host) or host)
            raise UnknownHost(_("Unknown host {host}. To allow it, add it to CHATKEEP_HOSTS.", host=shown))
        if self.is_foreign(environ) and not _is_harmless(environ, route):
            raise ForeignOrigin(_("This origin is not allowed. To allow it, add it to CHATKEEP_CORS_ORIGINS."))

    def answers_to(self, host: str, *, open_mode: bool) -> bool:
        """Return whether a Host header names this server.

        Without configured hosts, a server in open mode accepts only loopback names, which no other site can have.
        """
        if not self.hosts and (self.by_socket or not open_mode):
            return True
        name = _name(host)
        return _is_this_machine(name) or name == self.public_host or is_listed(name, self.hosts)

    def is_foreign(self, environ: Mapping[str, Any]) -> bool:
        """Return whether the page that sent the request is neither ours nor of a listed origin."""
        site, origin = environ.get("HTTP_SEC_FETCH_SITE"), environ.get("HTTP_ORIGIN")
        if (site is None and origin is None) or site in _OURS or ANY in self.origins or origin in self.origins:
            return False
        # Browsers omit Sec-Fetch-Site on plain http, except to this machine; old browsers never send it.
        return site is not None or not _is_ours(str(origin), environ)


def is_own_page(environ: Mapping[str, Any]) -> bool:
    """Return whether the request comes from a page of this server, or from the address bar.

    Listed origins don't count. Requests without an Origin are allowed to read only; SameSite=Strict keeps the cookie
    out of requests from other sites.
    """
    site, origin = environ.get("HTTP_SEC_FETCH_SITE"), environ.get("HTTP_ORIGIN")
    reads = environ["REQUEST_METHOD"] in _READING
    if site is not None:
        return site == "same-origin" or (site == "none" and reads)
    return reads if origin is None else _is_ours(origin, environ)


def _is_ours(origin: str, environ: Mapping[str, Any]) -> bool:
    return origin.partition("://")[2] == environ.get("HTTP_HOST")


def _is_harmless(environ: Mapping[str, Any], route: str) -> bool:
    """Return whether any page may send this request: it navigates, loads a public file, or is a preflight."""
    method = environ["REQUEST_METHOD"]
    if method in _READING:
        return environ.get("HTTP_SEC_FETCH_MODE") == "navigate" or not route.startswith("/api/")
    return bool(method == "OPTIONS")


@lru_cache(maxsize=256)
def _name(host: str) -> str:
    """Return the name in a Host header, without the port, or an empty string if it is malformed."""
    found = _HOST.fullmatch(host.lower())
    return found[1] if found else ""


@lru_cache(maxsize=256)
def _is_this_machine(name: str) -> bool:
    return is_loopback(name)
