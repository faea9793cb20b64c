"""Serve, or do only what servers do beside their requests."""

from __future__ import annotations

import signal
import time

import click

from chatkeep import __version__, servers
from chatkeep.commands.words import say
from chatkeep.errors import ChatkeepError


@click.command()
@click.option("--server", type=click.Choice(["auto", "gunicorn", "waitress", "development"]), default="auto")
def serve(server: str) -> None:
    """Serve, with gunicorn on Linux and macOS and with Waitress on Windows."""
    settings = servers.checked_settings()
    chosen = servers.best() if server == "auto" else server
    servers.require_place(settings)
    if chosen == "gunicorn":
        servers.serve_gunicorn()
    elif chosen == "waitress":
        servers.serve_waitress()
    else:
        servers.serve_development(servers.wsgi())


@click.command()
def work() -> None:
    """Make the files of export jobs, without serving, until interrupted."""
    from chatkeep.factory import start_parts  # noqa: PLC0415 - the other commands start quickly without the database
    from chatkeep.provider.demo import Demo  # noqa: PLC0415

    # A shell that starts a program in the background lets it ignore SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        parts = start_parts(servers.checked_settings(), Demo(), makes_exports=True)
    except ChatkeepError as error:
        servers.stop(error)
    say(f"chatkeep {__version__} makes exports (Ctrl+C ends it)", err=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        parts.close()
