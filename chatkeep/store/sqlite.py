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
# What may be over in a moment; everything else that SQLite says is a refusal.
_AWAY = (
    apsw.BusyError, apsw.LockedError, apsw.CantOpenError, apsw.PermissionsError, apsw.IOError, apsw.NoMemError,
    apsw.ProtocolError, apsw.ConnectionClosedError,
)  # fmt: skip


def prepare(raw: apsw.Connection) -> None:
    """Set up a fresh connection: WAL, a wait for other writers, foreign keys."""
    raw.set_busy_timeout(BUSY_MS)
    # The file keeps its mode. To set it takes a lock, for which SQLite does not wait.
    if raw.pragma("journal_mode") != "wal":
        raw.execute("PRAGMA journal_mode = WAL")
    # In WAL mode NORMAL loses nothing when a process is killed; only a power cut may take the last commits.
    raw.execute("PRAGMA synchronous = NORMAL")
    raw.execute("PRAGMA foreign_keys = ON")
    # What is deleted or rewritten leaves no trace in the file.
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
        """Run a query whose rows are read one by one, and only as far as they are wanted."""
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
        """Run an INSERT once for each row of values."""
        try:
            self._raw.executemany(sql.sqlite, rows)
        except apsw.Error as error:
            raise translated(error, sql.sqlite) from error
        self.writes += 1

    def append(self, appends: list[Append]) -> int:
        """Append to every reply that is still generating and holds just ``at`` characters; return how many did."""
        rows = [(item.delta.text, item.delta.reasoning, item.length, item.reply_id.bytes, item.at) for item in appends]
        before = self._raw.total_changes()
        try:
            self._raw.executemany(_APPEND, rows)
        except apsw.Error as error:
            raise translated(error, _APPEND) from error
        return self._raw.total_changes() - before

    def begin(self, *, waits: bool = True) -> None:
        """Begin a transaction that holds the write lock from the start: a later upgrade could fail at any statement."""
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
        """Make the transaction durable."""
        self._say("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction, as far as one is open."""
        if self._raw.in_transaction:
            self._say("ROLLBACK")

    def interrupt(self) -> None:
        """End the query that runs, from another thread, and let no other one begin: those raise `DatabaseTimeout`."""
        self._interrupted = True
        self._raw.interrupt()

    def _go_on(self) -> None:
        if self._interrupted:
            raise DatabaseTimeout(retry_after=5)

    def own_log(self) -> WriteAheadLog:
        """Return the log that this connection fills from now on without a checkpoint."""
        return WriteAheadLog(self._raw)

    def empty_log(self) -> bool:
        """Bring the write-ahead log into the file and cut it off; return whether nobody was reading it.

        SQLite would wait for who reads, with the write lock in its hand: every commit of every process would, too.
        """
        self._raw.set_busy_timeout(0)
        try:
            self._raw.wal_checkpoint()  # without the lock: what is left then takes a moment
            self._raw.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.BusyError:
            return False
        except apsw.Error as error:
            raise translated(error) from error
        finally:
            self._raw.set_busy_timeout(BUSY_MS)
        return True

    def close(self) -> None:
        """Close the connection, whatever its state."""
        self._raw.close(True)  # noqa: FBT003 - apsw's own signature: also with statements unfinished

    def _say(self, statement: str) -> None:
        try:
            self._raw.execute(statement)
        except apsw.Error as error:
            raise translated(error, statement) from error


class WriteAheadLog:
    """The write-ahead log as a connection fills it, which makes no checkpoints any more: these wait for the disk."""

    def __init__(self, raw: apsw.Connection) -> None:
        self._raw = raw
        self._pages = 0
        self._checked = 0  # its length at the last checkpoint
        raw.set_wal_hook(self._note)

    @property
    def is_full(self) -> bool:
        """Whether it has become so much longer as SQLite lets it become by itself.

        While somebody reads it does not begin anew, and a checkpoint for each commit would make all of them slow.
        """
        return self._pages - self._checked >= CHECKPOINT_PAGES

    def checkpoint(self) -> None:
        """Bring it into the file, as far as no reader needs it. Raises `StoreProblem`."""
        self._checked = self._pages
        try:
            self._raw.wal_checkpoint()
        except apsw.BusyError:  # another connection is at it
            pass
        except apsw.Error as error:
            raise translated(error) from error

    def _note(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        if pages < self._pages:  # it has begun anew
            self._checked = 0
        self._pages = pages
        return apsw.SQLITE_OK


def translated(error: apsw.Error, statement: str = "") -> StoreError | StoreProblem:
    """Return what the store raises in place of an exception of apsw's; ``statement`` is without values."""
    if isinstance(error, apsw.ConstraintError) and getattr(error, "extendedresult", None) in _DUPLICATE:
        return Duplicate(str(error))
    if isinstance(error, apsw.InterruptError):
        return DatabaseTimeout(retry_after=5)
    if isinstance(error, apsw.ReadOnlyError):
        return DatabaseReadOnly(retry_after=5)
    if isinstance(error, apsw.FullError):
        return DatabaseFull(retry_after=5)
    return StoreUnavailable(retry_after=2) if isinstance(error, _AWAY) else DatabaseRefused.of(statement)
