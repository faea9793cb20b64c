"""Names of hosts: which only this machine is asked by, and which a list of names stands for. Pure."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

SOCKET = "unix:"
"""What a socket's path begins with, where it stands in place of a host."""


def has_sockets() -> bool:
    """Return whether Python has Unix sockets here; on Windows it has none."""
    return hasattr(socket, "AF_UNIX")


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches ``host``."""
    if host == "localhost" or host.startswith(SOCKET):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_listed(host: str, names: Iterable[str]) -> bool:
    """Return whether a host in lower case is one of ``names``, of which ``*.example.com`` and ``*`` stand for many."""
    return any(host == name or (name[0] == "*" and host.endswith(name[1:])) for name in names)
