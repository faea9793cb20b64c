"""The command line: ``chatkeep serve``, ``chatkeep migrate``."""

from __future__ import annotations

import click

from chatkeep import __version__, servers
from chatkeep.errors import ChatkeepError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="chatkeep")
def main() -> None:
    """Run chatkeep, a self-hosted conversation server for LLM applications."""


@main.command()
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


@main.command()
def migrate() -> None:
    """Bring the database to this version's schema."""
    from chatkeep.store import migrations  # noqa: PLC0415 - the other commands start quickly without the database
    from chatkeep.store.engine import Database  # noqa: PLC0415

    settings = servers.checked_settings()
    try:
        database = Database(settings.database)
        database.check()
        before, after = migrations.migrate(database)
    except ChatkeepError as error:
        servers.stop(error)
    same = before == after
    click.echo(f"the schema is {after} already" if same else f"migrated from {before or 'nothing'} to {after}")
