"""Whether the server can listen where the settings say, and addresses that it shares with no other program."""

from __future__ import annotations

import errno
import os
import socket
import sys
from pathlib import Path

from chatkeep.config.database_url import LAST_PORT
from chatkeep.config.settings import Settings
from chatkeep.errors import SettingsError

# The longest path that Linux takes, without the byte that ends it.
SOCKET_BYTES = 107


def require_place(settings: Settings) -> None:
    """Raise `SettingsError` if no server can listen there now."""
    wrong = _socket(Path(settings.socket_path)) if settings.socket_path else _address(settings.host, settings.port)
    if wrong:
        raise SettingsError([wrong])


def take_alone(sock: socket.socket) -> None:
    """Let a socket have its address alone, also one that a server had until just now. Raises `OSError`."""
    if sys.platform == "win32":  # where SO_REUSEADDR takes the address of a program that listens
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address. Raises `OSError`."""
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


def reason(error: OSError, host: str, port: int) -> str:
    """Return why no server can listen on an address, and what to do."""
    other = port + 1 if port < LAST_PORT else port - 1
    if error.errno == errno.EADDRINUSE:
        return f"PORT: another program listens on {host}:{port}; choose another port: PORT={other}"
    if error.errno == errno.EACCES and sys.platform == "win32":
        return f"PORT: {host}:{port} is taken, or reserved by Windows; choose another port: PORT={other}"
    if error.errno == errno.EACCES:
        return f"PORT: this user may not listen on {port}; choose a port from 1024 on: PORT=5010"
    return f"HOST: {host} is no address of this machine; to serve this machine alone: HOST=127.0.0.1"


def _address(host: str, port: int) -> str:
    """Listen for a moment; return what is wrong."""
    try:
        listen(host, port).close()
    except OSError as error:
        return reason(error, host, port)
    return ""


def _socket(path: Path) -> str:
    """Return why no socket can be made at a path, if so."""
    if len(os.fsencode(path)) > SOCKET_BYTES:
        return f"HOST: the path of a socket has up to {SOCKET_BYTES} bytes; {path} has more"
    if not os.access(path.absolute().parent, os.W_OK | os.X_OK):
        return f"HOST: the folder of {path} does not exist, or this user may not write to it"
    if path.is_socket():
        return f"HOST: another program listens on {path}; stop it, or choose another path" if _is_heard(path) else ""
    return f"HOST: {path} exists and is no socket" if path.exists() else ""


def _is_heard(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as trial:
        return trial.connect_ex(str(path)) == 0
