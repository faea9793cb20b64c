"""MySQL and MariaDB through PyMySQL, which gevent can switch away from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from typing import Any

import pymysql
from pymysql.constants import CLIENT, ER
from pymysql.cursors import SSCursor

from chatkeep.errors import StoreUnavailable
from chatkeep.store.ledger import Ledger
from chatkeep.store.notes import Note
from chatkeep.store.sql import Append, Contention, Duplicate, Sql

# A statement that takes longer than this has hung: the caller is told and the connection is given up.
TIMEOUT_S = 5
CONNECT_ARGS: dict[str, Any] = {
    "charset": "utf8mb4",
    "autocommit": True,
    "connect_timeout": 5,
    "read_timeout": TIMEOUT_S,
    "write_timeout": TIMEOUT_S,
    # UPDATE counts the rows that it matched, as SQLite does, not those whose values differ.
    "client_flag": CLIENT.FOUND_ROWS,
}
_CONTENTION = {ER.LOCK_DEADLOCK, ER.CHECKREAD}


def prepare(raw: pymysql.Connection[Any]) -> None:
    """Set up a fresh connection."""
    with raw.cursor() as cursor:
        # No gap locks: two turns on neighbouring conversations must not wait for each other.
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        # Transactions are short: a lock that is held for longer belongs to a process that hangs.
        cursor.execute("SET SESSION innodb_lock_wait_timeout = 5")


class MysqlConnection:
    """The store's `Connection` on a PyMySQL connection."""

    def __init__(self, raw: pymysql.Connection[Any]) -> None:
        self._raw = raw
        self.writes = 0
        self.epoch: int | None = None
        self.ledger = Ledger()
        self.notes: list[Note] = []

    def rows(self, sql: Sql, **values: Any) -> list[tuple[Any, ...]]:
        """Run a query and return its rows."""
        with translated(), self._raw.cursor() as cursor:
            cursor.execute(sql.mysql, values)
            return list(cursor.fetchall())

    @contextmanager
    def stream(self, sql: Sql, **values: Any) -> Iterator[Iterator[tuple[Any, ...]]]:
        """Run a query whose rows are read one by one; what is not wanted of them is sent nevertheless."""
        with translated(), self._raw.cursor(SSCursor) as cursor:
            cursor.execute(sql.mysql, values)
            yield iter(cursor.fetchone, None)

    def change(self, sql: Sql, **values: Any) -> int:
        """Run an INSERT, UPDATE or DELETE and return how many rows it matched."""
        with translated(), self._raw.cursor() as cursor:
            matched: int = cursor.execute(sql.mysql, values)
        self.writes += 1
        return matched

    def append(self, appends: list[Append]) -> int:
        """Append to every reply that is still generating and holds just ``at`` characters; return how many did.

        One statement for all of them: a statement each costs the client eight times as much.
        """
        case = " ".join(["WHEN %s THEN %s"] * len(appends))
        places = ", ".join(["%s"] * len(appends))
        # written is checked in WHERE and assigned last: MySQL assigns from left to right.
        statement = (
            f"UPDATE messages SET content = CONCAT(content, CASE message_id {case} END),"  # noqa: S608 - no values in it
            f" reasoning = CONCAT(reasoning, CASE message_id {case} END),"
            f" written = written + CASE message_id {case} END"
            f" WHERE message_id IN ({places}) AND written = CASE message_id {case} END AND status = 'generating'"
        )
        ids = [item.reply_id.bytes for item in appends]
        values: list[Any] = []
        for column in (
            [item.delta.text for item in appends],
            [item.delta.reasoning for item in appends],
            [item.length for item in appends],
        ):
            values += chain.from_iterable(zip(ids, column, strict=True))
        values += [*ids, *(part for item in appends for part in (item.reply_id.bytes, item.at))]
        with translated(), self._raw.cursor() as cursor:
            matched: int = cursor.execute(statement, values)
        return matched

    def begin(self, *, waits: bool = True) -> None:  # noqa: ARG002 - the server keeps rows, never all of the database
        """Begin a transaction."""
        with translated():
            self._raw.begin()

    def commit(self) -> None:
        """Make the transaction durable."""
        with translated():
            self._raw.commit()

    def rollback(self) -> None:
        """Undo the transaction, as far as one is open."""
        with translated():
            self._raw.rollback()

    def close(self) -> None:
        """Close the connection, whatever its state."""
        with contextlib.suppress(pymysql.Error, OSError):
            self._raw.close()


class _Translated:
    """Turns PyMySQL's exceptions into the store's; a class, because every statement passes through it."""

    def __enter__(self) -> None:
        """Let the statement run."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Raise `Duplicate`, `Contention` or `StoreUnavailable` in place of what PyMySQL raised."""
        if isinstance(error, pymysql.IntegrityError):
            raise Duplicate(str(error)) from error
        if isinstance(error, (pymysql.Error, OSError)):
            number = error.args[0] if error.args else 0
            if number in _CONTENTION:
                raise Contention(str(error)) from error
            raise StoreUnavailable(retry_after=2) from error


_translated = _Translated()


def translated() -> AbstractContextManager[None]:
    """Return what turns PyMySQL's exceptions into the store's."""
    return _translated
