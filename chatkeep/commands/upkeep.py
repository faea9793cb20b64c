"""Look after what is stored: its schema, what has expired, what is remembered."""

from __future__ import annotations

import click

from chatkeep import servers
from chatkeep.errors import ChatkeepError


@click.command()
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


@click.command()
@click.option("--dry-run", is_flag=True, help="Only count what has expired.")
def sweep(*, dry_run: bool) -> None:
    """Delete expired conversations now; a running server does so by itself."""
    from chatkeep import expiry  # noqa: PLC0415 - the other commands start quickly without the database
    from chatkeep.model import now_us  # noqa: PLC0415
    from chatkeep.store.engine import Database  # noqa: PLC0415
    from chatkeep.store.journal import Journal  # noqa: PLC0415

    try:
        database = Database(servers.checked_settings().database)
        if dry_run:
            click.echo(f"{expiry.due(database, now_us())} conversations have expired")
            return
        journal = Journal(database)
        swept = expiry.sweep(journal, now_us())
        journal.close()
        database.reclaim()
    except ChatkeepError as error:
        servers.stop(error)
    click.echo(f"deleted {swept.conversations} conversations with {swept.messages} messages")


@click.command("clear-cache")
def clear_cache() -> None:
    """Let every process forget the answers that it remembers."""
    from chatkeep.cache import CACHE_CLEARED  # noqa: PLC0415 - the other commands start quickly without the database
    from chatkeep.model import now_us  # noqa: PLC0415
    from chatkeep.store import marks  # noqa: PLC0415
    from chatkeep.store.engine import Database  # noqa: PLC0415
    from chatkeep.store.journal import Journal  # noqa: PLC0415

    try:
        journal = Journal(Database(servers.checked_settings().database))
        journal.write(lambda connection: marks.put(connection, CACHE_CLEARED, now_us()))
        journal.close()
    except ChatkeepError as error:
        servers.stop(error)
    click.echo("cleared")
