"""Free loopback ports."""

from __future__ import annotations

import socket

HELD: list[socket.socket] = []


def free_port() -> int:
    """Return a free TCP port that no other test process gets from here meanwhile.

    Until a server listens on it, what keeps others off is that this process holds the UDP port of the same number.
    """
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            if _is_ours(port):
                return port


def _is_ours(port: int) -> bool:
    twin = socket.socket(type=socket.SOCK_DGRAM)
    try:
        twin.bind(("127.0.0.1", port))
    except OSError:
        twin.close()
        return False
    HELD.append(twin)
    return True


def is_listening(port: int) -> bool:
    """Return whether a process listens on a port."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
