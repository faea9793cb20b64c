"""Import conversations from files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BufferedReader
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, cast

import click

from chatkeep.cli.messages import say, word, wrong
from chatkeep.cli.owners import of_owner, owner_named
from chatkeep.errors import ChatkeepError, StoreProblem
from chatkeep.i18n import _, text_of
from chatkeep.server import serving

if TYPE_CHECKING:
    from chatkeep.imports import Report

STANDARD_INPUT = "-"
SOME_BAD, UNKNOWN = 1, 2


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--ttl",
    help=_(
        "Keep all conversations of the files for this long from now (30d, never), including "
        "those already stored. Without this option, conversations of other programs never "
        "expire, and those of chatkeep keep their ttl."
    ),
)
@click.option("--renew", is_flag=True, help=_("Also import expired conversations, as if they were active now."))
@of_owner
def import_files(files: tuple[str, ...], ttl: str | None, account: str, end_user: str | None, *, renew: bool) -> None:
    """Import FILES: exports of chatkeep (json, ndjson), ChatGPT, Claude, DeepSeek, LibreChat or Open WebUI; - is standard input.

    Files can be compressed with gzip or zstd, or packed in a zip archive. Stored items are skipped. Import an export
    before its increments, in the order in which they were created.

    The exit status is 1 if a record could not be imported, and 2 if the format of a file is unknown.
    """  # noqa: E501 - the first paragraph is one line of the list of commands
    from chatkeep.domain.conversation import now_us  # noqa: PLC0415
    from chatkeep.imports import (  # noqa: PLC0415 - --help does not import the database
        ImportOptions,
        import_file,
    )
    from chatkeep.redaction.policies import Redaction  # noqa: PLC0415
    from chatkeep.store import migrations  # noqa: PLC0415
    from chatkeep.store.journal import Journal  # noqa: PLC0415

    owner, settings = owner_named(account, end_user), serving.checked_settings()
    options = ImportOptions(owner, now_us(), _ttl(ttl), renew)
    try:
        redaction = Redaction.from_settings(settings)
        database = migrations.opened(settings.database)
        journal = Journal(database)
        run = partial(import_file, database, journal, options=options, redaction=redaction)
        status = max(_import(run, name) for name in files)
        journal.close()
    except ChatkeepError as error:
        serving.stop(error)
    sys.exit(status)


def _ttl(text: str | None) -> int | EllipsisType | None:
    from chatkeep.imports import ttl_of  # noqa: PLC0415

    try:
        return ... if text is None else ttl_of(text)
    except ValueError as error:
        raise wrong(_("--ttl: {reason}", reason=text_of(error))) from error


def _import(run: Callable[[Iterable[bytes]], Report], name: str) -> int:
    """Import a file, print a report, and return the exit status."""
    from chatkeep.imports import UnknownFile  # noqa: PLC0415
    from chatkeep.imports.files import documents  # noqa: PLC0415

    reports: list[tuple[str, Report]] = []
    status = 0
    try:
        with _opened(name) as file, _progress(file) as progress:
            for member, chunks in documents(file, progress):
                label = f"{name}/{member}" if member else name
                try:
                    reports.append((label, run(chunks)))
                except UnknownFile as error:
                    say(_("{file}: {reason}", file=label, reason=text_of(error)), err=True)
                    status = UNKNOWN
    except UnknownFile as error:
        say(_("{file}: {reason}", file=name, reason=text_of(error)), err=True)
        status = UNKNOWN
    except StoreProblem as error:
        say(
            _("{file}: {problem}. Import it again: stored items are skipped.", file=name, problem=error.title),
            err=True,
        )
        status = SOME_BAD
    return max([status, *(_print(label, report) for label, report in reports)])


@contextmanager
def _opened(name: str) -> Iterator[BufferedReader]:
    if name == STANDARD_INPUT:
        yield cast("BufferedReader", sys.stdin.buffer)
        return
    with Path(name).open("rb") as file:
        yield file


@contextmanager
def _progress(file: BufferedReader) -> Iterator[Callable[[int], None]]:
    """Yield a callback that updates a progress bar, if standard error is a terminal."""
    if not (sys.stderr.isatty() and file.seekable()):
        yield lambda _unpacked: None
        return
    size = os.fstat(file.fileno()).st_size
    with click.progressbar(length=size, label=Path(file.name).name, file=sys.stderr) as bar:
        yield lambda _unpacked: bar.update(file.tell() - bar.pos)


def _print(name: str, report: Report) -> int:
    """Print the report of a file, and return the exit status."""
    from chatkeep.imports.left_out import noun  # noqa: PLC0415

    say(
        _(
            "{file}: conversations: {added} added, {present} already stored, {updated} updated, "
            "{deleted} deleted, {expired} expired and left out; messages: {messages} added",
            file=name,
            messages=report.messages,
            **{fate: report.conversations[fate] for fate in ("added", "present", "updated", "deleted", "expired")},
        )
    )
    if report.left_out:
        counts = (f"{count} {word(noun(kind, count))}" for kind, count in report.left_out.most_common())
        say(_("{file}: {things} left out", file=name, things=word(_(", ")).join(counts)))
    for problem in report.problems:
        say(_("line {line}: {reason}", line=problem.line, reason=problem.reason), err=True)
    if report.conversations["expired"]:
        say(_("to import expired conversations, add --renew or --ttl"), err=True)
    if report.problem_count > len(report.problems):
        say(_("and {count} more", count=report.problem_count - len(report.problems)), err=True)
    return SOME_BAD if report.problem_count else 0
