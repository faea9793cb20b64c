"""Tell requests of this machine from requests that a local proxy forwards for remote clients."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from chatkeep.runtime.hosts import is_loopback

# The peer's address on a Unix socket, as servers report it.
_NO_ADDRESS = {"", "<local>"}
_FORWARDED = "FORWARDED"
# Headers with the client's address.
_ADDRESSES = {
    "CF_CONNECTING_IP", "CF_CONNECTING_IPV6", "FASTLY_CLIENT_IP", "FLY_CLIENT_IP", "TRUE_CLIENT_IP", "X_AZURE_CLIENTIP",
    "X_CLIENT_IP", "X_CLUSTER_CLIENT_IP", "X_ENVOY_EXTERNAL_ADDRESS", "X_FORWARDED_FOR", "X_ORIGINAL_FORWARDED_FOR",
    "X_REAL_IP",
}  # fmt: skip
# Headers that reveal a proxy, without a client's address.
_SIGNS = ("VIA", "X_FORWARDED", "X_ORIGINAL_", "X_ENVOY_", "X_VARNISH", "CDN_LOOP")
_WITH_PORT = re.compile(r"(\[[^\]]*\]|[^:]*):\d+")


def is_from_here(environ: Mapping[str, Any]) -> bool:
    """Return whether the client is on this machine, according to the connection and all proxy headers.

    Returns False if any address is remote or unreadable, or if a proxy names no client.
    """
    if (peer := environ.get("REMOTE_ADDR", "")) not in _NO_ADDRESS and not _is_loopback(peer):
        return False
    sent = _sent(environ)
    named = [address for name, value in sent.items() for address in _addresses(name, value)]
    return all(map(_is_loopback, named)) and (bool(named) or not any(name.startswith(_SIGNS) for name in sent))


def _sent(environ: Mapping[str, Any]) -> dict[str, str]:
    """Return the request's headers by their WSGI names, without ``HTTP_``.

    Waitress removes untrusted proxy headers from the environ, so they are read from its own request.
    """
    sent = {name[5:]: value for name, value in environ.items() if name.startswith("HTTP_")}
    if is_disconnected := environ.get("waitress.client_disconnected"):
        sent |= is_disconnected.__self__.requests[0].headers
    return sent


def _addresses(name: str, value: str) -> Iterator[str]:
    """Yield the addresses in a header; an element of Forwarded (RFC 7239) without one yields an empty string."""
    if name in _ADDRESSES:
        yield from map(_bare, value.split(","))
    elif name == _FORWARDED:
        for element in value.split(","):
            pairs = [pair.partition("=") for pair in element.split(";")]
            yield from [_bare(address) for key, _, address in pairs if key.strip().lower() == "for"] or [""]


def _bare(address: str) -> str:
    """Strip quotes and port from an address."""
    text = address.strip().strip('"')
    found = _WITH_PORT.fullmatch(text)
    return found[1] if found else text


@lru_cache(maxsize=256)
def _is_loopback(address: str) -> bool:
    return is_loopback(address)
