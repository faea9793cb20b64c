"""Back up, restore and copy whole databases."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from chatkeep.cli.messages import failure, say, word, wrong
from chatkeep.config import parsing
from chatkeep.config.environment import env_files, read_env_file
from chatkeep.errors import ChatkeepError, SettingsError, TransferError
from chatkeep.i18n import Text, _, text_of
from chatkeep.server import serving

if TYPE_CHECKING:
    from chatkeep.store.engine import Database

OWN_SETTING = "DATABASE_URL"


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def backup(file: Path) -> None:
    """Back up the SQLite database to FILE, while servers run.

    FILE contains everything that was committed before the backup began, and is verified. Its mode is 0600; on Windows,
    the permissions of its folder decide who can read it.
    """
    from chatkeep.store import backups  # noqa: PLC0415 - --help does not import the database

    begun = time.monotonic()
    with _exiting_cleanly():
        backups.back_up(_embedded_file(), file)
    say(
        _(
            "{file}: {megabytes} MB in {seconds} s",
            file=file,
            megabytes=f"{file.stat().st_size / 1e6:,.1f}",
            seconds=f"{time.monotonic() - begun:,.1f}",
        )
    )


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
def restore(file: Path | None) -> None:
    """Restore the SQLite database from the backup FILE. The database must not exist yet.

    Without FILE: mark a MySQL or MariaDB database as restored, after you loaded a dump. In both cases, earlier export
    cursors and the data in Redis become invalid.
    """
    from chatkeep.store import backups  # noqa: PLC0415

    with _exiting_cleanly():
        if file is None:
            _mark_restored(serving.checked_settings().database)
        else:
            backups.restore(file, _embedded_file())
    say(_("restored; start the servers"))


def _mark_restored(url: str) -> None:
    from chatkeep.store import copying, identity, migrations  # noqa: PLC0415
    from chatkeep.store.journal import Journal  # noqa: PLC0415

    database = migrations.existing(url)
    if copying.is_in_use(database):
        raise TransferError(_("A server is using this database. Stop all servers and chatkeep work first."))
    journal = Journal(database)
    journal.write(identity.renew)
    journal.close()
    database.close()


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
def copy(source: str, target: str) -> None:
    """Copy everything from one database into another, empty one: SQLite, MySQL or MariaDB.

    FROM and TO are URLs, or names of environment variables that contain URLs, such as DATABASE_URL. Use names if the
    URLs contain passwords: other users of this machine can read the arguments of commands.

    Stop all servers first. To resume an interrupted copy, run the command again. At the end, the command compares both
    databases table by table.
    """
    from chatkeep.store import copying  # noqa: PLC0415

    with _exiting_cleanly():
        databases = _opened(_url(source), is_source=True), _opened(_url(target), is_source=False)
        made = copying.Copy(*databases)
        made.prepare()
        counts = {table.name: made.count(table) for table in copying.TABLES}
        with _progress(_("copying"), sum(counts.values())) as advance:
            for table in copying.TABLES:
                made.fill(table, advance)
        with _progress(_("comparing"), 2 * sum(counts.values())) as advance:
            found = {table.name: made.compare(table, advance) for table in copying.TABLES}
        made.finish()
        for database in databases:
            database.close()
    for name, one in found.items():
        told = _("{rows} rows, checksum {checksum}", rows=f"{one.rows:,}", checksum=one.checksum)
        click.echo(f"{name}: {word(told)}")
    say(_("copied everything; set DATABASE_URL to TO and start the servers"))


def _url(text: str) -> str:
    """Return the argument if it is a URL, else the value of the variable that it names."""
    if "://" in text:
        given = text
        if "@" in text:
            say(
                _("Other users of this machine can read this password. Name an environment variable instead."), err=True
            )
    elif text == OWN_SETTING:
        return serving.checked_settings().database
    else:
        files = [read_env_file(file) for file in env_files(os.environ, Path.cwd())]
        given = next((names[text] for names in (os.environ, *files) if names.get(text)), "")
        if not given:
            raise wrong(_("the environment variable {name} is not set", name=text))
    try:
        return parsing.database_url(given)
    except ValueError as error:
        raise wrong(text_of(error)) from error


def _opened(url: str, *, is_source: bool) -> Database:
    from chatkeep.store import migrations  # noqa: PLC0415
    from chatkeep.store.engine import Database  # noqa: PLC0415

    if is_source:
        migrations.require_file(url)
    return Database(url)


def _embedded_file() -> Path:
    url = serving.checked_settings().database
    if not url.startswith("sqlite:///"):
        raise TransferError(
            _("This command is for SQLite. For MySQL and MariaDB, use their own tools: see docs/deployment.md, Backup.")
        )
    return Path(url.removeprefix("sqlite:///"))


@contextmanager
def _progress(label: Text, length: int) -> Iterator[Callable[[int], object]]:
    """Yield a callback that advances a progress bar, if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    with click.progressbar(length=length, label=word(label), file=sys.stderr, update_min_steps=1000) as bar:
        yield bar.update


@contextmanager
def _exiting_cleanly() -> Iterator[None]:
    """Exit with the reason of a failure in one sentence; SIGTERM cleans up like Ctrl+C."""
    # Shells let background programs ignore SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        yield
    except TransferError as error:
        raise failure(text_of(error)) from error
    except SettingsError as error:
        serving.stop(error)
    except ChatkeepError as error:
        raise failure(_("The database failed: {reason}", reason=text_of(error.__cause__ or error))) from error


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
