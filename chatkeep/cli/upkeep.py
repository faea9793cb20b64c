"""Maintain the database: migrate, sweep, clear caches, count."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import click

from chatkeep.cli.messages import filled, say, word
from chatkeep.domain.conversation import moment
from chatkeep.errors import ChatkeepError
from chatkeep.server import serving

if TYPE_CHECKING:
    from chatkeep.reporting.stats import Stats
    from chatkeep.store.stats import Storage


@click.command()
def migrate() -> None:
    """Bring the database to this version's schema. It can be interrupted and run again at any time."""
    from chatkeep.store import diagnosis, migrations  # noqa: PLC0415 - --help does not import the database
    from chatkeep.store.engine import Database  # noqa: PLC0415

    settings = serving.checked_settings()
    tell = partial(say, err=True)
    try:
        with diagnosis.explained(settings.database):
            database = Database(settings.database)
            migrations.patiently(database.check, tell)
            before, after = migrations.migrate(database, tell)
    except ChatkeepError as error:
        serving.stop(error)
    same = before == after
    say(f"the schema is {after} already" if same else f"migrated from {before or 'nothing'} to {after}")


@click.command()
@click.option("--dry-run", is_flag=True, help="Only count what has expired.")
def sweep(*, dry_run: bool) -> None:
    """Delete expired conversations now; a running server does so by itself."""
    from chatkeep.domain.conversation import now_us  # noqa: PLC0415
    from chatkeep.retention import sweeper  # noqa: PLC0415 - --help does not import the database
    from chatkeep.store import migrations  # noqa: PLC0415
    from chatkeep.store.journal import Journal  # noqa: PLC0415

    try:
        database = migrations.existing(serving.checked_settings().database, reads_only=dry_run)
        if dry_run:
            say(f"{sweeper.due(database, now_us())} conversations have expired")
            return
        journal = Journal(database)
        swept = sweeper.sweep(journal, now_us())
        journal.close()
        database.reclaim()
    except ChatkeepError as error:
        serving.stop(error)
    say(f"deleted {swept.conversations} conversations with {swept.messages} messages")


@click.command("clear-cache")
def clear_cache() -> None:
    """Let every process forget the answers that it remembers."""
    from chatkeep.domain.conversation import now_us  # noqa: PLC0415
    from chatkeep.store import counters, migrations  # noqa: PLC0415
    from chatkeep.store.journal import Journal  # noqa: PLC0415
    from chatkeep.turns.cache import CACHE_CLEARED  # noqa: PLC0415 - --help does not import the database

    try:
        journal = Journal(migrations.existing(serving.checked_settings().database))
        journal.write(lambda connection: counters.put(connection, CACHE_CLEARED, now_us()))
        journal.close()
    except ChatkeepError as error:
        serving.stop(error)
    say("cleared")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with times in UTC and sizes in bytes.")
def stats(*, as_json: bool) -> None:
    """Count what there is; it only reads, also beside a running server."""
    from chatkeep.reporting import stats  # noqa: PLC0415 - --help does not import the database
    from chatkeep.store import migrations  # noqa: PLC0415

    try:
        found = stats.collect(migrations.existing(serving.checked_settings().database, reads_only=True))
    except ChatkeepError as error:
        serving.stop(error)
    if as_json:
        click.echo(json.dumps(stats.document(found), indent=2))
        return
    for name, figure in _rows(found):
        indent = name[: len(name) - len(name.lstrip())]
        click.echo(filled(f"{indent}{word(name.strip())}", 26) + filled(word(figure), 20, right=True))


def _rows(found: Stats) -> list[tuple[str, str]]:
    """Return the rows of the table."""
    conversations, messages = found.conversations, found.messages
    return [
        ("conversations", f"{conversations.alive:,}"),
        ("  pinned", f"{conversations.pinned:,}"),
        ("  expired, not swept yet", f"{conversations.expired:,}"),
        ("  owners", f"{len(conversations.owners):,}"),
        ("  oldest activity, UTC", _minute(conversations.oldest)),
        ("  newest activity, UTC", _minute(conversations.newest)),
        *_each("messages", messages.roles),
        *_each("replies", messages.replies),
        ("  from the cache", f"{messages.cached:,}"),
        ("  being generated now", f"{found.running:,}"),
        ("tokens in", f"{messages.input_tokens:,}"),
        ("tokens out", f"{messages.output_tokens:,}"),
        *_each("export jobs", found.jobs),
        ("tombstones", f"{found.tombstones:,}"),
        *_room(found.storage),
    ]


def _each(title: str, counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return a row for the total, and one for each kind."""
    return [(title, f"{sum(counts.values()):,}"), *((f"  {kind}", f"{counts[kind]:,}") for kind in sorted(counts))]


def _room(storage: Storage) -> list[tuple[str, str]]:
    if storage.log is None:
        return [("storage", f"about {_megabytes(storage.tables)}")]
    return [("storage", _megabytes(storage.tables)), ("  write-ahead log", _megabytes(storage.log))]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _minute(at: int | None) -> str:
    return "-" if at is None else f"{moment(at):%Y-%m-%d %H:%M}"
