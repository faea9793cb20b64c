"""Classify host names: loopback names, and names on a list with wildcards. Pure."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

SOCKET = "unix:"
"""The prefix of HOST if it is the path of a Unix socket."""


def has_sockets() -> bool:
    """Return whether Python supports Unix sockets on this system; on Windows it does not."""
    return hasattr(socket, "AF_UNIX")


def is_loopback(host: str) -> bool:
    """Return whether ``host`` is reachable from this machine only."""
    if host == "localhost" or host.startswith(SOCKET):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_listed(host: str, names: Iterable[str]) -> bool:
    """Return whether a lower-case host matches one of ``names``, which may be ``*`` or begin with ``*.``."""
    return any(host == name or (name[0] == "*" and host.endswith(name[1:])) for name in names)
