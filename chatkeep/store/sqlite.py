"""SQLite: the embedded database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import apsw

from chatkeep.errors import (
    DatabaseFull,
    DatabaseReadOnly,
    DatabaseRefused,
    DatabaseTimeout,
    StoreProblem,
    StoreUnavailable,
)
from chatkeep.store.sql import Append, Contention, Duplicate, Sql, StoreError

BUSY_MS = 5_000
CHECKPOINT_PAGES = 1000  # SQLite's own number
_APPEND = (
    "UPDATE messages SET content = content || ?, reasoning = reasoning || ?, written = written + ?"
    " WHERE message_id = ? AND written = ? AND status = 'generating'"
)
_DUPLICATE = {
    apsw.SQLITE_CONSTRAINT_UNIQUE,
    apsw.SQLITE_CONSTRAINT_PRIMARYKEY,
    apsw.SQLITE_CONSTRAINT_ROWID,
    apsw.SQLITE_CONSTRAINT_FOREIGNKEY,
}
# Errors that may be transient; every other one is a refusal.
_AWAY = (
    apsw.BusyError, apsw.LockedError, apsw.CantOpenError, apsw.PermissionsError, apsw.IOError, apsw.NoMemError,
    apsw.ProtocolError, apsw.ConnectionClosedError,
)  # fmt: skip


def prepare(raw: apsw.Connection) -> None:
    """Configure a new connection: WAL, busy timeout, foreign keys."""
    raw.set_busy_timeout(BUSY_MS)
    # The file keeps its mode. Setting it takes a lock, for which SQLite does not wait.
    if raw.pragma("journal_mode") != "wal":
        raw.execute("PRAGMA journal_mode = WAL")
    # In WAL mode, NORMAL loses nothing when a process is killed; only a power failure may lose the last commits.
    raw.execute("PRAGMA synchronous = NORMAL")
    raw.execute("PRAGMA foreign_keys = ON")
    # Overwrite deleted data in the file.
    raw.execute("PRAGMA secure_delete = ON")


class SqliteConnection:
    """The store's `DriverConnection` on an apsw connection."""

    def __init__(self, raw: apsw.Connection) -> None:
        self._raw = raw
        self.writes = 0
        self._interrupted = False

    def rows(self, sql: Sql, **values: Any) -> list[tuple[Any, ...]]:
        """Run a query and return its rows."""
        self._go_on()
        try:
            return self._raw.execute(sql.sqlite, values).fetchall()
        except apsw.Error as error:
            raise translated(error, sql.sqlite) from error

    @contextmanager
    def stream(self, sql: Sql, **values: Any) -> Iterator[Iterator[tuple[Any, ...]]]:
        """Run a query and read its rows one by one, only as far as the caller does."""
        self._go_on()
        try:
            with closing(self._raw.execute(sql.sqlite, values)) as cursor:
                yield cursor
        except apsw.Error as error:
            raise translated(error, sql.sqlite) from error

    def change(self, sql: Sql, **values: Any) -> int:
        """Run an INSERT, UPDATE or DELETE and return how many rows it matched."""
        try:
            self._raw.execute(sql.sqlite, values)
        except apsw.Error as error:
            raise translated(error, sql.sqlite) from error
        self.writes += 1
        return self._raw.changes()

    def change_each(self, sql: Sql, rows: list[dict[str, Any]]) -> None:
        """Run an INSERT for each row."""
        try:
            self._raw.executemany(sql.sqlite, rows)
        except apsw.Error as error:
            raise translated(error, sql.sqlite) from error
        self.writes += 1

    def append(self, appends: list[Append]) -> int:
        """Append to each reply that is still generating and has exactly ``at`` characters. Return how many."""
        rows = [(item.delta.text, item.delta.reasoning, item.length, item.reply_id.bytes, item.at) for item in appends]
        before = self._raw.total_changes()
        try:
            self._raw.executemany(_APPEND, rows)
        except apsw.Error as error:
            raise translated(error, _APPEND) from error
        return self._raw.total_changes() - before

    def begin(self, *, waits: bool = True) -> None:
        """Begin a transaction with the write lock: a later upgrade could fail at any statement."""
        if waits:
            self._say("BEGIN IMMEDIATE")
            return
        self._raw.set_busy_timeout(0)
        try:
            self._raw.execute("BEGIN IMMEDIATE")
        except apsw.BusyError as error:
            raise Contention from error
        except apsw.Error as error:
            raise translated(error) from error
        finally:
            self._raw.set_busy_timeout(BUSY_MS)

    def commit(self) -> None:
        """Commit."""
        self._say("COMMIT")

    def rollback(self) -> None:
        """Roll back the open transaction, if any."""
        if self._raw.in_transaction:
            self._say("ROLLBACK")

    def interrupt(self) -> None:
        """End the running query from another thread. It and all later ones raise `DatabaseTimeout`."""
        self._interrupted = True
        self._raw.interrupt()

    def _go_on(self) -> None:
        if self._interrupted:
            raise DatabaseTimeout(retry_after=5)

    def own_log(self) -> WriteAheadLog:
        """Turn off automatic checkpoints, and return the log of this connection."""
        return WriteAheadLog(self._raw)

    def empty_log(self) -> bool:
        """Checkpoint and truncate the write-ahead log. Return False if a reader is using it.

        Does not wait for readers: SQLite would hold the write lock meanwhile, and block every commit.
        """
        self._raw.set_busy_timeout(0)
        try:
            self._raw.wal_checkpoint()  # without the lock, so that the rest is quick
            self._raw.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.BusyError:
            return False
        except apsw.Error as error:
            raise translated(error) from error
        finally:
            self._raw.set_busy_timeout(BUSY_MS)
        return True

    def close(self) -> None:
        """Close the connection in any state."""
        self._raw.close(True)  # noqa: FBT003 - apsw's own signature: also with statements unfinished

    def _say(self, statement: str) -> None:
        try:
            self._raw.execute(statement)
        except apsw.Error as error:
            raise translated(error, statement) from error


class WriteAheadLog:
    """The write-ahead log of a connection without automatic checkpoints, which would wait for the disk."""

    def __init__(self, raw: apsw.Connection) -> None:
        self._raw = raw
        self._pages = 0
        self._checked = 0  # its length at the last checkpoint
        raw.set_wal_hook(self._note)

    @property
    def is_full(self) -> bool:
        """Whether the log has grown by `CHECKPOINT_PAGES` since the last checkpoint.

        While there are readers the log does not start over, and a checkpoint for each commit would slow all commits.
        """
        return self._pages - self._checked >= CHECKPOINT_PAGES

    def checkpoint(self) -> None:
        """Copy the log into the file, as far as no reader needs it. Raises `StoreProblem`."""
        self._checked = self._pages
        try:
            self._raw.wal_checkpoint()
        except apsw.BusyError:  # another connection is doing it
            pass
        except apsw.Error as error:
            raise translated(error) from error

    def _note(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        if pages < self._pages:  # the log has started over
            self._checked = 0
        self._pages = pages
        return apsw.SQLITE_OK


def translated(error: apsw.Error, statement: str = "") -> StoreError | StoreProblem:
    """Translate an exception of apsw to an error of the store. ``statement`` has no values."""
    if isinstance(error, apsw.ConstraintError) and getattr(error, "extendedresult", None) in _DUPLICATE:
        return Duplicate(str(error))
    if isinstance(error, apsw.InterruptError):
        return DatabaseTimeout(retry_after=5)
    if isinstance(error, apsw.ReadOnlyError):
        return DatabaseReadOnly(retry_after=5)
    if isinstance(error, apsw.FullError):
        return DatabaseFull(retry_after=5)
    return StoreUnavailable(retry_after=2) if isinstance(error, _AWAY) else DatabaseRefused.of(statement)
