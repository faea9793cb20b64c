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
from chatkeep.i18n import N_, Text, _, verbatim
from chatkeep.server import serving

if TYPE_CHECKING:
    from chatkeep.reporting.stats import Stats
    from chatkeep.store.stats import Storage

Row = tuple[str, Text, Text]
"""An indent, a name and a figure."""
INNER = "  "
# Roles of messages, statuses of replies and of export jobs, as they are stored.
_KINDS = (
    N_("user"), N_("assistant"), N_("system"), N_("generating"), N_("completed"), N_("stopped"), N_("truncated"),
    N_("failed"), N_("interrupted"), N_("queued"), N_("running"), N_("cancelled"),
)  # fmt: skip


@click.command()
def migrate() -> None:
    """Migrate the database to this version's schema. You can interrupt it and run it again at any time."""
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
    if before == after:
        say(_("the schema is already {after}", after=after))
    else:
        say(_("migrated from {before} to {after}", before=before or _("nothing"), after=after))


@click.command()
@click.option("--dry-run", is_flag=True, help=_("Only count expired conversations."))
def sweep(*, dry_run: bool) -> None:
    """Delete expired conversations now. A running server does this automatically."""
    from chatkeep.domain.conversation import now_us  # noqa: PLC0415
    from chatkeep.retention import sweeper  # noqa: PLC0415 - --help does not import the database
    from chatkeep.store import migrations  # noqa: PLC0415
    from chatkeep.store.journal import Journal  # noqa: PLC0415

    try:
        database = migrations.existing(serving.checked_settings().database, reads_only=dry_run)
        if dry_run:
            say(_("{count} conversations have expired", count=sweeper.due(database, now_us())))
            return
        journal = Journal(database)
        swept = sweeper.sweep(journal, now_us())
        journal.close()
        database.reclaim()
    except ChatkeepError as error:
        serving.stop(error)
    say(
        _(
            "deleted {conversations} conversations with {messages} messages",
            conversations=swept.conversations,
            messages=swept.messages,
        )
    )


@click.command("clear-cache")
def clear_cache() -> None:
    """Clear the answer cache of every process."""
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
    say(_("cleared"))


@click.command()
@click.option("--json", "as_json", is_flag=True, help=_("Print JSON, with times in UTC and sizes in bytes."))
def stats(*, as_json: bool) -> None:
    """Print statistics. It only reads, and can run beside a server."""
    from chatkeep.reporting import stats  # noqa: PLC0415 - --help does not import the database
    from chatkeep.store import migrations  # noqa: PLC0415

    try:
        found = stats.collect(migrations.existing(serving.checked_settings().database, reads_only=True))
    except ChatkeepError as error:
        serving.stop(error)
    if as_json:
        click.echo(json.dumps(stats.document(found), indent=2))
        return
    for indent, name, figure in _rows(found):
        click.echo(filled(f"{indent}{word(name)}", 26) + filled(word(figure), 20, right=True))


def _rows(found: Stats) -> list[Row]:
    """Return the rows of the table."""
    conversations, messages = found.conversations, found.messages
    return [
        _row(_("conversations"), conversations.alive),
        _row(_("pinned"), conversations.pinned, INNER),
        _row(_("expired, not swept yet"), conversations.expired, INNER),
        _row(_("owners"), len(conversations.owners), INNER),
        (INNER, _("oldest activity, UTC"), _minute(conversations.oldest)),
        (INNER, _("newest activity, UTC"), _minute(conversations.newest)),
        *_each(_("messages"), messages.roles),
        *_each(_("replies"), messages.replies),
        _row(_("from the cache"), messages.cached, INNER),
        _row(_("being generated now"), found.running, INNER),
        _row(_("tokens in"), messages.input_tokens),
        _row(_("tokens out"), messages.output_tokens),
        *_each(_("export jobs"), found.jobs),
        _row(_("tombstones"), found.tombstones),
        *_room(found.storage),
    ]


def _row(name: Text, count: int, indent: str = "") -> Row:
    return indent, name, verbatim(f"{count:,}")


def _each(title: Text, counts: Mapping[str, int]) -> list[Row]:
    """Return a row for the total, and one for each kind."""
    return [_row(title, sum(counts.values())), *(_row(Text(kind), counts[kind], INNER) for kind in sorted(counts))]


def _room(storage: Storage) -> list[Row]:
    size = _megabytes(storage.tables)
    if storage.log is None:
        return [("", _("storage"), _("about {size}", size=size))]
    return [("", _("storage"), size), (INNER, _("write-ahead log"), _megabytes(storage.log))]


def _megabytes(size: int) -> Text:
    return verbatim(f"{size / 1e6:,.1f} MB")


def _minute(at: int | None) -> Text:
    return verbatim("-" if at is None else f"{moment(at):%Y-%m-%d %H:%M}")
