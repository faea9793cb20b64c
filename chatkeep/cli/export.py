"""Export conversations into a file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from uuid import UUID

import click

from chatkeep.cli.messages import failure, output_file, say, word, wrong
from chatkeep.cli.owners import of_owner, owner_named
from chatkeep.errors import ChatkeepError, InvalidFields, NotFound
from chatkeep.i18n import _, text_of
from chatkeep.server import serving

if TYPE_CHECKING:
    from chatkeep.exports import Export
    from chatkeep.store.engine import Database


@click.command()
@click.option(
    "--format", "name", type=click.Choice(["json", "csv", "ndjson", "md", "openai"]), default="json", show_default=True
)
@click.option("--start", help=_("The first day or time whose messages to include (2026-11-22, 2026-11-22T09:30:00Z)."))
@click.option("--end", help=_("The last day or time to include."))
@click.option("--cursor", help=_("The cursor that an earlier export printed: export only what changed since then."))
@click.option("--bom", is_flag=True, help=_("Begin a CSV file with a byte order mark, for Excel."))
@click.option("--conversation", type=click.UUID, help=_("Export only the conversation with this id."))
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help=_("The output file; standard output by default.")
)
@of_owner
def export(  # noqa: PLR0913 - its options
    name: str,
    start: str | None,
    end: str | None,
    cursor: str | None,
    conversation: UUID | None,
    output: Path | None,
    *,
    account: str,
    end_user: str | None,
    bom: bool,
) -> None:
    """Export conversations, as GET /api/conversations/export-all does.

    If increments can follow, the command prints their cursor to standard error.
    """
    from chatkeep import exports  # noqa: PLC0415 - --help does not import the database
    from chatkeep.exports import dates  # noqa: PLC0415
    from chatkeep.exports.formats import make  # noqa: PLC0415
    from chatkeep.redaction.policies import Redaction  # noqa: PLC0415
    from chatkeep.store import migrations  # noqa: PLC0415
    from chatkeep.store.exports import Selection  # noqa: PLC0415

    form, owner = make(name, bom=bom), owner_named(account, end_user)
    selection = Selection(owner, conversation, _bound(start, dates.start_us), _bound(end, dates.end_us))
    try:
        settings = serving.checked_settings()
        redaction = Redaction.from_settings(settings)
        database = migrations.existing(settings.database)
        if cursor is not None:
            selection = replace(selection, since=exports.cursor_epoch(database, cursor))
        total = 1 if conversation else exports.count(database, owner)
        made = exports.Export(database, selection, form, redaction)
        _audit(database, {"format": name, "conversation_id": conversation, "owner": owner})
        _save(made, output, total)
    except (NotFound, InvalidFields) as error:
        raise failure(error.detail) from error
    except ChatkeepError as error:
        serving.stop(error)
    if made.cursor is not None:
        told = _(
            "cursor: {cursor}  (chatkeep export --cursor {cursor} exports later changes)",
            cursor=made.cursor,
        )
        say(told, err=True)


def _audit(database: Database, what: dict[str, Any]) -> None:
    """Record the export in the audit log."""
    from chatkeep.domain.audit import COMMAND_LINE, Action, AuditEvent  # noqa: PLC0415
    from chatkeep.reporting import audit  # noqa: PLC0415
    from chatkeep.store.journal import Journal  # noqa: PLC0415

    journal = Journal(database)
    audit.note(journal, AuditEvent(COMMAND_LINE, Action.EXPORT_MADE, what))
    journal.close()


def _bound(text: str | None, read: Callable[[str], int]) -> int | None:
    try:
        return None if text is None else read(text)
    except ValueError as error:
        raise wrong(text_of(error)) from error


def _save(export: Export, output: Path | None, total: int) -> None:
    """Write an export to standard output, or to a file that appears only when it is complete."""
    if output is None:
        _write(export, sys.stdout.buffer, total)
        return
    with output_file(output) as file:
        _write(export, file, total)


def _write(export: Export, file: BinaryIO, total: int) -> None:
    """Write an export, with a progress bar on a terminal."""
    if not sys.stderr.isatty():
        file.writelines(export)
        return
    with click.progressbar(length=total, label=word(_("conversations")), file=sys.stderr, show_pos=True) as bar:
        for chunk in export:
            file.write(chunk)
            bar.update(export.conversations - bar.pos)
        bar.update(total - bar.pos)  # with dates, conversations without matching messages are not counted
