"""Run a server, or only the worker for export jobs."""

from __future__ import annotations

import signal
import time

import click

from chatkeep import __version__
from chatkeep.cli.messages import say
from chatkeep.errors import ChatkeepError
from chatkeep.i18n import _
from chatkeep.server import serving


@click.command()
@click.option("--server", type=click.Choice(["auto", "gunicorn", "waitress", "development"]), default="auto")
def serve(server: str) -> None:
    """Serve, with gunicorn on Linux and macOS and with Waitress on Windows."""
    settings = serving.checked_settings()
    chosen = serving.best() if server == "auto" else server
    serving.require_place(settings)
    if chosen == "gunicorn":
        serving.serve_gunicorn()
    elif chosen == "waitress":
        serving.serve_waitress()
    else:
        serving.serve_development(serving.wsgi())


@click.command()
def work() -> None:
    """Run export jobs, without serving, until interrupted."""
    from chatkeep.provider.demo import DemoProvider  # noqa: PLC0415
    from chatkeep.server.app import start_services  # noqa: PLC0415 - --help does not import the database

    # Shells let background programs ignore SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        services = start_services(serving.checked_settings(), DemoProvider(), makes_exports=True)
    except ChatkeepError as error:
        serving.stop(error)
    say(_("chatkeep {version} runs export jobs (press Ctrl+C to stop)", version=__version__), err=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        services.close()
