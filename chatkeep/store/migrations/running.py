"""Run migration steps: one process at a time, each step once."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.schema import CreateTable

from chatkeep.errors import SettingsError, StoreUnavailable
from chatkeep.i18n import _
from chatkeep.store import diagnosis
from chatkeep.store.engine import CHANGES_OF_SCHEMA, Database
from chatkeep.store.migrations import COMPATIBLE_FROM, COMPATIBLE_FROM_MARK, HEAD
from chatkeep.store.migrations.changes import Change
from chatkeep.store.migrations.patience import HELD, Tell, is_held
from chatkeep.store.migrations.progress import Progress

_LOCK_S = 5  # less than the server's timeout for idle connections
VERSION = sa.Table(
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


class Step(NamedTuple):
    """The changes that lead to a revision."""

    revision: str
    changes: list[Change]


def steps() -> list[Step]:
    """Return all steps in order."""
    names = sorted(file.stem for file in (Path(__file__).parent / "versions").glob("[0-9]*.py"))
    return [Step(name[:4], import_module(f"{__package__}.versions.{name}").CHANGES) for name in names]


def run(database: Database, before: str | None, tell: Tell, *, to: str = HEAD) -> bool:
    """Run the steps after the revision ``before``. Return False if other processes have run all of them."""
    todo = [step for step in steps() if (before or "") < step.revision <= to]
    try:
        with database.engine_for(CHANGES_OF_SCHEMA).connect() as connection, alone(connection, tell):
            progress = Progress(connection, tell)
            if before is None:  # one transaction: no version can serve on some of the tables
                return _take(connection, todo, progress)
            with _transaction(connection, tell):
                progress.announce(before, todo)
            return sum(_take(connection, [step], progress) for step in todo) > 0
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated:
            raise StoreUnavailable(retry_after=2) from error.orig
        stopped = _(
            "DATABASE_URL: the migration stopped: {reason}; fix that, then run again: chatkeep migrate",
            reason=error.orig,
        )
        raise SettingsError([diagnosis.known(error, database.url) or stopped]) from error


def _take(connection: sa.Connection, todo: list[Step], progress: Progress) -> bool:
    """Make the missing changes of steps, and store the revision. Return False if other processes have done so."""
    with _transaction(connection, progress.tell):
        connection.execute(CreateTable(VERSION, if_not_exists=True))
        found = connection.execute(sa.select(VERSION.c.version_num)).scalar() or ""
        if found >= todo[-1].revision:
            return False
        for change in (change for step in todo for change in step.changes):
            if not change.is_made(connection):
                with progress.making(change):
                    change.make(connection, progress.tell)
        _write(connection, todo[-1].revision)
    return True


def _write(connection: sa.Connection, revision: str) -> None:
    """Store the revision, and which versions can serve on it, in one transaction."""
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql("START TRANSACTION")
    if not connection.execute(VERSION.update().values(version_num=revision)).rowcount:
        connection.execute(VERSION.insert().values(version_num=revision))
    if revision >= COMPATIBLE_FROM:
        mark = {"name": COMPATIBLE_FROM_MARK, "value": int(COMPATIBLE_FROM)}
        if not connection.execute(sa.text("UPDATE marks SET value = :value WHERE name = :name"), mark).rowcount:
            connection.execute(sa.text("INSERT INTO marks (name, value) VALUES (:name, :value)"), mark)
    connection.commit()


@contextmanager
def alone(connection: sa.Connection, tell: Tell) -> Iterator[None]:
    """Keep other processes from migrating this database. On SQLite the transaction does.

    A server releases the lock when the connection ends or is idle for too long. So it is held only while the migration
    makes progress, and others can wait for it without a limit.
    """
    if connection.dialect.name == "sqlite":
        yield
        return
    name: dict[str, Any] = {"name": _lock_name(connection.engine.url.database or "")}
    acquire = sa.text("SELECT GET_LOCK(:name, :seconds)")
    if connection.execute(acquire, name | {"seconds": 0}).scalar() != 1:
        tell(_("Another process migrates the database. Waiting for it."))
        while connection.execute(acquire, name | {"seconds": _LOCK_S}).scalar() != 1:
            pass
    try:
        yield
    finally:
        with contextlib.suppress(sa.exc.DBAPIError):  # the lock ended with the connection
            connection.execute(sa.text("SELECT RELEASE_LOCK(:name)"), name)


def _lock_name(database: str) -> str:
    """Return the name of a database's lock. Names are global on a server, and have up to 64 characters."""
    return f"chatkeep_migrate_{hashlib.sha256(database.lower().encode()).hexdigest()[:32]}"


@contextmanager
def _transaction(connection: sa.Connection, tell: Tell) -> Iterator[None]:
    """Hold SQLite's write lock, and wait for it without a limit. Do nothing on a server."""
    if connection.dialect.name != "sqlite":
        yield
        return
    has_reported = False
    while True:
        try:
            connection.begin()
            break
        except sa.exc.DBAPIError as error:
            if not is_held(error.orig):
                raise
        if not has_reported:
            tell(HELD)
            has_reported = True
    try:
        yield
    finally:
        if connection.in_transaction():
            connection.rollback()
