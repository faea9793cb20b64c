"""MySQL and MariaDB through PyMySQL, which gevent can switch away from."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import pymysql
from pymysql.constants import CLIENT, ER
from pymysql.cursors import SSCursor

from chatkeep.errors import DatabaseTimeout, StoreUnavailable
from chatkeep.store.ledger import Ledger
from chatkeep.store.notes import Note
from chatkeep.store.sql import Append, Contention, Duplicate, Sql, StoreError

# The server ends a statement that takes longer than it may. Where it does not, because it hangs or cannot be reached,
# the client gives up so much later.
GRACE_S = 0.5
# A connection that writes belongs to a process that is paused, or a host that is gone, if it says nothing for longer.
IDLE_S = 5
# A row is compared with all others of its statement, so that more of them cost the server more than the client saves.
ROWS_AT_ONCE = 64
CONNECT_ARGS: dict[str, Any] = {
    "charset": "utf8mb4",
    "autocommit": True,
    "connect_timeout": 5,
    # UPDATE counts the rows that it matched, as SQLite does, not those whose values differ.
    "client_flag": CLIENT.FOUND_ROWS,
}
FAILURES = (pymysql.Error, OSError)
"""What PyMySQL raises."""
_CONTENTION = {ER.LOCK_DEADLOCK, ER.CHECKREAD}
_ENDED = {ER.STATEMENT_TIMEOUT, ER.QUERY_TIMEOUT, ER.QUERY_INTERRUPTED}


def connect_args(seconds: float) -> dict[str, Any]:
    """Return the arguments of a connection on which a statement may take so long."""
    patience = None if math.isinf(seconds) else seconds + GRACE_S
    return CONNECT_ARGS | {"read_timeout": patience, "write_timeout": patience}


def connect(arguments: dict[str, Any]) -> pymysql.Connection[Any]:
    """Return a fresh connection. Raises `FAILURES`, and `RuntimeError` if a password cannot be sent."""
    try:
        return pymysql.connect(**arguments)
    except RuntimeError as error:
        raise RuntimeError(
            "MySQL's caching_sha2_password needs TLS or the package cryptography: pip install 'chatkeep[mysql-rsa]'"
        ) from error


def prepare(raw: pymysql.Connection[Any], seconds: float) -> None:
    """Set up a fresh connection on which a statement may take so long."""
    with raw.cursor() as cursor:
        # No gap locks: two turns on neighbouring conversations must not wait for each other.
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        # Transactions are short: a lock that is held for longer belongs to a process that hangs.
        cursor.execute("SET SESSION innodb_lock_wait_timeout = 4")
        if not math.isinf(seconds):
            cursor.execute("SELECT @@version")
            cursor.execute(limit(str(cursor.fetchall()[0][0]), seconds))


def limit(version: str, seconds: float) -> str:
    """Return the statement that limits how long the session's statements may take: on MySQL only those that read.

    MySQL would also tell the size of tables as it was a day ago.
    """
    if "mariadb" in version.lower():
        return f"SET SESSION max_statement_time = {seconds}"
    return f"SET SESSION max_execution_time = {round(seconds * 1000)}, information_schema_stats_expiry = 0"


class MysqlConnection:
    """The store's `Connection` on a PyMySQL connection."""

    def __init__(self, raw: pymysql.Connection[Any]) -> None:
        self._raw = raw
        self._cursor = raw.cursor()
        self._number: int = raw.thread_id()  # type: ignore[no-untyped-call]
        self.writes = 0
        self.epoch: int | None = None
        self.ledger = Ledger()
        self.notes: list[Note] = []
        self.unanswered: int | None = None
        """The server's number of the connection, if nobody hears any more how its last statement ends."""

    def rows(self, sql: Sql, **values: Any) -> list[tuple[Any, ...]]:
        """Run a query and return its rows."""
        self._execute(sql.mysql, values)
        return list(self._cursor.fetchall())

    @contextmanager
    def stream(self, sql: Sql, **values: Any) -> Iterator[Iterator[tuple[Any, ...]]]:
        """Run a query whose rows are read one by one; what is not wanted of them is sent nevertheless."""
        self.unanswered = self._number
        try:
            with self._raw.cursor(SSCursor) as cursor:
                cursor.execute(sql.mysql, values)
                yield iter(cursor.fetchone, None)
        except FAILURES as error:
            raise self._failed(error) from error
        self.unanswered = None

    def change(self, sql: Sql, **values: Any) -> int:
        """Run an INSERT, UPDATE or DELETE and return how many rows it matched."""
        matched = self._execute(sql.mysql, values)
        self.writes += 1
        return matched

    def append(self, appends: list[Append]) -> int:
        """Append to every reply that is still generating and holds just ``at`` characters; return how many did."""
        return sum(
            self._append(appends[first : first + ROWS_AT_ONCE]) for first in range(0, len(appends), ROWS_AT_ONCE)
        )

    def _append(self, appends: list[Append]) -> int:
        """Append with one statement: a statement for each costs the client eight times as much."""
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
        return self._execute(statement, values)

    def begin(self, *, waits: bool = True) -> None:  # noqa: ARG002 - the server keeps rows, never all of the database
        """Begin a transaction."""
        try:
            self._raw.begin()
        except FAILURES as error:
            raise translated(error) from error

    def commit(self) -> None:
        """Make the transaction durable."""
        try:
            self._raw.commit()
        except FAILURES as error:
            raise translated(error) from error

    def rollback(self) -> None:
        """Undo the transaction, as far as one is open."""
        try:
            self._raw.rollback()
        except FAILURES as error:
            raise translated(error) from error

    def kill(self, number: int) -> None:
        """End the statement of another connection, if it has not ended by now."""
        with contextlib.suppress(pymysql.Error):
            self._cursor.execute(f"KILL QUERY {number}")

    def end_when_idle(self) -> None:
        """Have the server end the session, and its transaction, whose locks others wait for, after `IDLE_S` idle."""
        self._execute(f"SET SESSION wait_timeout = {IDLE_S}", None)

    def close(self) -> None:
        """Close the connection, whatever its state."""
        with contextlib.suppress(pymysql.Error, OSError):
            self._raw.close()

    def _execute(self, statement: str, values: Any) -> int:
        """Run a statement; return how many rows it found or matched."""
        self.unanswered = self._number
        try:
            matched: int = self._cursor.execute(statement, values)
        except FAILURES as error:
            raise self._failed(error) from error
        self.unanswered = None
        return matched

    def _failed(self, error: Exception) -> StoreError | StoreUnavailable:
        """Return what to raise in place of one of `FAILURES`."""
        if self._raw.open:  # it was the server that said so
            self.unanswered = None
        return translated(error)


def translated(error: Exception) -> StoreError | StoreUnavailable:
    """Return what the store raises in place of one of `FAILURES`."""
    if isinstance(error, pymysql.IntegrityError):
        return Duplicate(str(error))
    number = error.args[0] if error.args else 0
    if number in _ENDED:
        return DatabaseTimeout(retry_after=5)
    return Contention(str(error)) if number in _CONTENTION else StoreUnavailable(retry_after=2)
