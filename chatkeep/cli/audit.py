"""Export and check the audit log."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from chatkeep.cli.messages import failure, output_file, say, wrong
from chatkeep.errors import ChatkeepError
from chatkeep.i18n import _, text_of
from chatkeep.server import serving


@click.command()
@click.option("--format", "form", type=click.Choice(["ndjson", "csv"]), default="ndjson", show_default=True)
@click.option("--start", help=_("The first day or time to include (2026-11-22, 2026-11-22T09:30:00Z)."))
@click.option("--end", help=_("The last day or time to include."))
@click.option("--account", help=_("Only actions by callers of this account."))
@click.option("--verb", help=_("Only this action, such as key.created or owner.erased."))
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help=_("The output file; standard output by default.")
)
@click.option(
    "--check",
    is_flag=True,
    help=_("Only verify that no entry was changed or removed. The exit status is 1 if one was."),
)
def audit(
    form: str,
    start: str | None,
    end: str | None,
    account: str | None,
    verb: str | None,
    output: Path | None,
    *,
    check: bool,
) -> None:
    """Print the audit log, oldest first. It only reads, and can run beside a server."""
    from chatkeep.exports import dates  # noqa: PLC0415
    from chatkeep.reporting import audit as log  # noqa: PLC0415 - --help does not import the database
    from chatkeep.store import migrations  # noqa: PLC0415
    from chatkeep.store.audit import Filter  # noqa: PLC0415

    only = Filter(account, verb, _bound(start, dates.start_us), _bound(end, dates.end_us))
    try:
        database = migrations.existing(serving.checked_settings().database, reads_only=True)
        if check:
            _report(log.first_broken(database))
        else:
            _write(log.lines(database, only, "csv" if form == "csv" else "ndjson"), output)
    except ChatkeepError as error:
        serving.stop(error)


def _bound(text: str | None, read: Callable[[str], int]) -> int | None:
    try:
        return None if text is None else read(text)
    except ValueError as error:
        raise wrong(text_of(error)) from error


def _report(broken: int | None) -> None:
    if broken is not None:
        raise failure(_("the audit log is broken at entry {entry}: an entry was changed or removed", entry=broken))
    say(_("the audit log is intact"))


def _write(chunks: Iterable[bytes], output: Path | None) -> None:
    if output is None:
        sys.stdout.buffer.writelines(chunks)
        return
    with output_file(output) as file:
        file.writelines(chunks)
