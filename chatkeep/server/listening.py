"""Listening sockets: exclusive binding, and checks before the start."""

from __future__ import annotations

import errno
import os
import socket
import sys
from pathlib import Path

from chatkeep.config.database_url import LAST_PORT
from chatkeep.config.settings import Settings
from chatkeep.errors import SettingsError
from chatkeep.i18n import Text, _

# The longest path of a Unix socket on Linux, without the terminating zero.
SOCKET_BYTES = 107


def require_place(settings: Settings) -> None:
    """Raise `SettingsError` if no server can listen on the address of the settings now."""
    wrong = _socket(Path(settings.socket_path)) if settings.socket_path else _address(settings.host, settings.port)
    if wrong:
        raise SettingsError([wrong])


def take_alone(sock: socket.socket) -> None:
    """Bind exclusively, but allow an address that a server used until just now. Raises `OSError`."""
    if sys.platform == "win32":  # where SO_REUSEADDR steals the address of a listening program
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises `OSError`."""
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    sock = socket.socket(family)
    try:
        take_alone(sock)
        sock.bind(address)
        sock.listen()
    except OSError:
        sock.close()
        raise
    return sock


def reason(error: OSError, host: str, port: int) -> Text:
    """Describe why binding failed, and what to do."""
    other = port + 1 if port < LAST_PORT else port - 1
    if error.errno == errno.EADDRINUSE:
        return _(
            "PORT: another program listens on {host}:{port}; choose another port: PORT={other}",
            host=host,
            port=port,
            other=other,
        )
    if error.errno == errno.EACCES and sys.platform == "win32":
        return _(
            "PORT: {host}:{port} is taken, or reserved by Windows; choose another port: PORT={other}",
            host=host,
            port=port,
            other=other,
        )
    if error.errno == errno.EACCES:
        return _(
            "PORT: this user is not allowed to listen on {port}; choose a port of 1024 or above: PORT=5010", port=port
        )
    return _(
        "HOST: {host} is not an address of this machine; to serve only this machine, set HOST=127.0.0.1", host=host
    )


def _address(host: str, port: int) -> Text | None:
    """Listen briefly; return the error, or None."""
    try:
        listen(host, port).close()
    except OSError as error:
        return reason(error, host, port)
    return None


def _socket(path: Path) -> Text | None:
    """Return why no Unix socket can be created at this path, or None."""
    if len(os.fsencode(path)) > SOCKET_BYTES:
        return _(
            "HOST: the socket path {path} is longer than {bytes} bytes; choose a shorter path",
            bytes=SOCKET_BYTES,
            path=path,
        )
    if not os.access(path.absolute().parent, os.W_OK | os.X_OK):
        return _(
            "HOST: the folder of {path} does not exist, or this user cannot write to it; create "
            "it, or choose another path",
            path=path,
        )
    if path.is_socket():
        has_listener = _has_listener(path)
        return (
            _("HOST: another program listens on {path}; stop it, or choose another path", path=path)
            if has_listener
            else None
        )
    return _("HOST: {path} exists and is not a socket; choose another path", path=path) if path.exists() else None


def _has_listener(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0
