"""Which names the server answers to, and which pages in browsers may ask it for something.

A browser sends requests for whatever page is open in it, to this machine and its network, too. So a page of another
origin could drive a server that asks nobody for a key, and one whose name is pointed at this machine after it was
loaded (DNS rebinding) could even read the answers. Programs that are no browsers send none of the headers that count
here, and are let through: this protects people's browsers, and keys protect the server.

To be let through is one thing, to be our own page another: only that may use the key in a browser's cookie.
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
from chatkeep.runtime.hosts import is_listed, is_loopback

ANY = "*"
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:@/\[\]\s]+)(?::\d*)?")
_READING = {"GET", "HEAD"}
_OURS = {"same-origin", "none"}  # none: a person typed the address, or chose a bookmark


@dataclass(frozen=True, slots=True)
class Origins:
    """Who is let in, by the headers that browsers send and pages cannot forge."""

    hosts: frozenset[str]
    """The names that the operator listed."""
    origins: frozenset[str]
    """The origins whose pages may call the API beside our own."""
    by_socket: bool
    """Whether the server listens on a socket, which no browser reaches: what is before it decides about names."""
    open_mode: Callable[[], bool]
    """Tells whether requests need no key now."""
    public_host: str | None = None
    """The name by which browsers reach the server, where the operator named it."""

    @classmethod
    def of(cls, settings: Settings, open_mode: Callable[[], bool]) -> Origins:
        """Return what the settings describe."""
        by_socket = settings.socket_path is not None
        public_host = urlsplit(settings.public_url or "").hostname
        return cls(frozenset(settings.hosts), frozenset(settings.cors_origins), by_socket, open_mode, public_host)

    def check(self, environ: Mapping[str, Any], route: str) -> None:
        """Raise `BadRequest`, `UnknownHost` or `ForeignOrigin` for a request that is refused.

        ``route`` is the rule that the router matched, empty if none did. The path itself may be written in many ways.
        """
        host = environ.get("HTTP_HOST")
        if host is None and environ["SERVER_PROTOCOL"] == "HTTP/1.1":
            raise BadRequest("Send a Host header (RFC 9112, section 3.2).")
        if host is not None and not self.answers_to(host, open_mode=self.open_mode()):
            raise UnknownHost("Ask by a name that is listed in CHATKEEP_HOSTS.")
        if self.is_foreign(environ) and not _is_harmless(environ, route):
            raise ForeignOrigin("A page of another origin asked; CHATKEEP_CORS_ORIGINS lists those that may.")

    def answers_to(self, host: str, *, open_mode: bool) -> bool:
        """Return whether a Host header names this server.

        Without a list a server that needs no key answers to this machine's own names alone: no other page has those.
        """
        if not self.hosts and (self.by_socket or not open_mode):
            return True
        name = _name(host)
        return _is_this_machine(name) or name == self.public_host or is_listed(name, self.hosts)

    def is_foreign(self, environ: Mapping[str, Any]) -> bool:
        """Return whether a page of an origin that is neither ours nor listed sent the request."""
        site, origin = environ.get("HTTP_SEC_FETCH_SITE"), environ.get("HTTP_ORIGIN")
        if (site is None and origin is None) or site in _OURS or ANY in self.origins or origin in self.origins:
            return False
        # Browsers leave Sec-Fetch-Site out on plain http, but to this machine, and old ones do not know it.
        return site is not None or not _is_ours(str(origin), environ)


def is_own_page(environ: Mapping[str, Any]) -> bool:
    """Return whether a page of this server's own, or whoever typed the address, has sent the request.

    Listed origins are none of ours here. Where a browser names no origin, it only reads, and SameSite=Strict keeps the
    cookie from others' requests.
    """
    site, origin = environ.get("HTTP_SEC_FETCH_SITE"), environ.get("HTTP_ORIGIN")
    reads = environ["REQUEST_METHOD"] in _READING
    if site is not None:
        return site == "same-origin" or (site == "none" and reads)
    return reads if origin is None else _is_ours(origin, environ)


def _is_ours(origin: str, environ: Mapping[str, Any]) -> bool:
    return origin.partition("://")[2] == environ.get("HTTP_HOST")


def _is_harmless(environ: Mapping[str, Any], route: str) -> bool:
    """Return whether a foreign page may ask this: it follows a link, loads what is public, or asks whether it may."""
    method = environ["REQUEST_METHOD"]
    if method in _READING:
        return environ.get("HTTP_SEC_FETCH_MODE") == "navigate" or not route.startswith("/api/")
    return bool(method == "OPTIONS")


@lru_cache(maxsize=256)
def _name(host: str) -> str:
    """Return the name in a Host header, without its port; nothing where it is none."""
    found = _HOST.fullmatch(host.lower())
    return found[1] if found else ""


@lru_cache(maxsize=256)
def _is_this_machine(name: str) -> bool:
    return is_loopback(name)
