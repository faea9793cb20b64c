"""Serve."""

from __future__ import annotations

import click

from chatkeep import __version__, servers


@click.command()
@click.option("--server", type=click.Choice(["auto", "gunicorn", "waitress", "development"]), default="auto")
def serve(server: str) -> None:
    """Serve, with gunicorn on Linux and macOS and with Waitress on Windows."""
    settings = servers.checked_settings()
    chosen = servers.best() if server == "auto" else server
    click.echo(f"chatkeep {__version__} serves on http://{settings.host}:{settings.port} (Ctrl+C ends it)", err=True)
    if chosen == "gunicorn":
        servers.serve_gunicorn()
    elif chosen == "waitress":
        servers.serve_waitress()
    else:
        servers.serve_development(servers.wsgi())
