"""Export and check the audit log."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from chatkeep.cli.messages import failure, output_file, say, wrong
from chatkeep.errors import ChatkeepError
from chatkeep.server import serving


@click.command()
@click.option("--format", "form", type=click.Choice(["ndjson", "csv"]), default="ndjson", show_default=True)
@click.option("--start", help="The first day, or time, that counts (2026-11-22, 2026-11-22T09:30:00Z).")
@click.option("--end", help="The last one.")
@click.option("--account", help="Only what callers of this account have done.")
@click.option("--verb", help="Only this, such as key.created or owner.erased.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="The file; standard output without.")
@click.option("--check", is_flag=True, help="Only tell whether a row was changed or taken out; the status is 1 then.")
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
    """Write who has done what, the oldest first; it only reads, also beside a running server."""
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
        raise wrong(str(error)) from error


def _report(broken: int | None) -> None:
    if broken is not None:
        raise failure(f"the audit log is broken at the entry {broken}: something was changed or taken out")
    say("the audit log is whole")


def _write(chunks: Iterable[bytes], output: Path | None) -> None:
    if output is None:
        sys.stdout.buffer.writelines(chunks)
        return
    with output_file(output) as file:
        file.writelines(chunks)
