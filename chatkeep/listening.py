"""Whether the server can listen where the settings say, found out before it says that it does."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from chatkeep.database_url import LAST_PORT
from chatkeep.errors import SettingsError
from chatkeep.settings import Settings

# The longest path that Linux takes, without the byte that ends it.
SOCKET_BYTES = 107


def require_place(settings: Settings) -> None:
    """Raise `SettingsError` if no server can listen there now."""
    wrong = _socket(Path(settings.socket_path)) if settings.socket_path else _address(settings.host, settings.port)
    if wrong:
        raise SettingsError([wrong])


def _address(host: str, port: int) -> str:
    """Listen for a moment; return what is wrong."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family) as trial:
            if os.name == "posix":  # Windows would share the port with a program that listens on it
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            trial.listen()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            other = port + 1 if port < LAST_PORT else port - 1
            return f"PORT: another program listens on {host}:{port}; choose another port: PORT={other}"
        if error.errno == errno.EACCES:
            return f"PORT: this user may not listen on {port}; choose a port from 1024 on: PORT=5010"
        return f"HOST: {host} is no address of this machine; to serve this machine alone: HOST=127.0.0.1"
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
