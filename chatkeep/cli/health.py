"""Report server health, for containers and supervisors."""

from __future__ import annotations

import socket
import sys

import click

from chatkeep.cli.messages import failure, say
from chatkeep.config.settings import Settings
from chatkeep.i18n import _, text_of
from chatkeep.server import serving

TIMEOUT_S = 4.0
MOST_BYTES = 64 * 1024
READY = b"HTTP/1.1 200"


@click.command()
@click.option("--live", is_flag=True, help=_("Check only that the server is up, not its database."))
def health(*, live: bool) -> None:
    """Report whether the server at HOST and PORT is ready. The exit status is 1 if it is not."""
    path = "/health/live" if live else "/health/ready"
    try:
        status = ask(serving.checked_settings(), path)
    except OSError as error:
        raise failure(_("no server answers: {reason}", reason=text_of(error))) from error
    if not status.startswith(READY):
        raise failure(_("{path} answers: {answer}", path=path, answer=status.decode(errors="replace").strip()))
    say(_("ok"))
    sys.exit(0)


def ask(settings: Settings, path: str) -> bytes:
    """Request a path and return the status line. Raises `OSError`."""
    return answer(settings, path).partition(b"\r\n")[0]


def answer(settings: Settings, path: str) -> bytes:
    """Request a path and return the whole response. Raises `OSError`."""
    with connected(settings) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        with sock.makefile("rb") as file:
            return file.read(MOST_BYTES)


def connected(settings: Settings) -> socket.socket:
    """Connect to the server. Raises `OSError`."""
    if settings.socket_path is None:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - it connects, and does not bind
        return socket.create_connection((host, settings.port), TIMEOUT_S)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(TIMEOUT_S)
    sock.connect(settings.socket_path)
    return sock
