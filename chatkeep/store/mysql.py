"""MySQL and MariaDB through PyMySQL, which cooperates with gevent."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import pymysql
from pymysql.constants import CLIENT, CR, ER
from pymysql.cursors import SSCursor

from chatkeep.errors import (
    DatabaseFull,
    DatabaseReadOnly,
    DatabaseRefused,
    DatabaseTimeout,
    OutcomeUnknown,
    StoreProblem,
    StoreUnavailable,
)
from chatkeep.store.sql import Append, Contention, Duplicate, Sql, StoreError

# The server ends a statement that exceeds its time limit. If the server hangs or cannot be reached, the client gives up
# this much later.
GRACE_S = 0.5
# A writing connection that is idle for longer belongs to a paused process or a dead host.
IDLE_S = 5
# Refuse text that does not fit, whatever the server's own mode; it would be truncated.
SQL_MODE = "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION"
# A schema change that waits for a table blocks all later statements. After this long it lets them go on.
TABLE_LOCK_S = 3
# A migration that is idle for so long belongs to a paused process or a dead host.
MIGRATION_IDLE_S = 60
# The server compares each row with all others of its statement, so more rows would cost more than the client saves.
ROWS_AT_ONCE = 64
CONNECT_ARGS: dict[str, Any] = {
    "charset": "utf8mb4",
    "autocommit": True,
    "connect_timeout": 5,
    # UPDATE counts matched rows, like SQLite, not changed ones.
    "client_flag": CLIENT.FOUND_ROWS,
}
FAILURES = (pymysql.Error, OSError)
"""What PyMySQL raises."""
# Errors of the server by number; PyMySQL has no names for the bare numbers. Every other number is a refusal.
_DUPLICATE = {ER.DUP_KEY, ER.DUP_ENTRY, 1586, ER.NO_REFERENCED_ROW, ER.NO_REFERENCED_ROW_2}
_CONTENTION = {ER.LOCK_DEADLOCK, ER.CHECKREAD, ER.TABLE_DEF_CHANGED}
_ENDED = {ER.STATEMENT_TIMEOUT, ER.QUERY_TIMEOUT, ER.QUERY_INTERRUPTED}
_READ_ONLY = {
    ER.OPTION_PREVENTS_STATEMENT,  # read_only, super_read_only
    ER.OPEN_AS_READONLY,
    1792,  # transaction_read_only
    1836,  # a server that starts or stops replicating
    1874,  # innodb_read_only
    1881,  # innodb_force_recovery
}
_FULL = {ER.DISK_FULL, ER.RECORD_FILE_FULL}
# Some file errors differ only in the system's message, which both servers write in English.
_NO_ROOM = re.compile(r"No space left on device|Disk quota exceeded")
_AWAY = {
    # The server has no free connection, or no longer accepts this user.
    ER.CON_COUNT_ERROR, ER.TOO_MANY_USER_CONNECTIONS, ER.USER_LIMIT_REACHED, ER.OUTOFMEMORY, ER.OUT_OF_RESOURCES,
    ER.CANT_CREATE_THREAD, ER.BAD_HOST_ERROR, ER.HANDSHAKE_ERROR, ER.HOST_IS_BLOCKED, ER.HOST_NOT_PRIVILEGED,
    ER.ACCESS_DENIED_ERROR, ER.DBACCESS_DENIED_ERROR, ER.BAD_DB_ERROR, 1698, 1820, 1862, 3118, 4151,
    # The server shuts down, has closed the connection, or cannot serve; 1047 comes from a Galera node.
    ER.SERVER_SHUTDOWN, ER.NORMAL_SHUTDOWN, ER.GOT_SIGNAL, ER.SHUTDOWN_COMPLETE, ER.FORCING_CLOSE,
    ER.ABORTING_CONNECTION, ER.NEW_ABORTING_CONNECTION, ER.NET_READ_ERROR, ER.NET_READ_INTERRUPTED,
    ER.NET_ERROR_ON_WRITE, ER.NET_WRITE_INTERRUPTED, 1927, 3032, 3168, 3169, 4031, ER.UNKNOWN_COM_ERROR,
    # Other transactions hold the locks.
    ER.LOCK_WAIT_TIMEOUT, ER.LOCK_TABLE_FULL,
}  # fmt: skip
_OF_CLIENT = range(2000, 3000)  # errors of PyMySQL itself: no answer
_CLOSED = 0  # the same, for a closed connection
_NOT_SENT = {_CLOSED, CR.CR_SERVER_GONE_ERROR}
# A character takes up to four bytes in a statement.
_BYTES_OF_CHARACTER = 4


def connect_args(seconds: float) -> dict[str, Any]:
    """Return the arguments of a connection with a time limit for statements."""
    patience = None if math.isinf(seconds) else seconds + GRACE_S
    return CONNECT_ARGS | {"read_timeout": patience, "write_timeout": patience}


def connect(arguments: dict[str, Any]) -> pymysql.Connection[Any]:
    """Return a new connection. Raises `FAILURES`, and `RuntimeError` if a password cannot be sent."""
    try:
        return pymysql.connect(**arguments)
    except RuntimeError as error:
        raise RuntimeError(
            "MySQL's caching_sha2_password needs TLS or the package cryptography: pip install 'chatkeep[mysql-rsa]'"
        ) from error


def prepare(raw: pymysql.Connection[Any], seconds: float) -> None:
    """Configure a new connection with a time limit for statements."""
    with raw.cursor() as cursor:
        # No gap locks: two turns on neighbouring conversations must not wait for each other.
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        # Transactions are short: a lock held for longer belongs to a process that hangs.
        cursor.execute(f"SET SESSION innodb_lock_wait_timeout = 4, sql_mode = '{SQL_MODE}'")
        cursor.execute("SELECT @@version, @@max_allowed_packet")
        version, raw.max_allowed_packet = cursor.fetchall()[0]
        if math.isinf(seconds):
            cursor.execute(f"SET SESSION lock_wait_timeout = {TABLE_LOCK_S}, wait_timeout = {MIGRATION_IDLE_S}")
        else:
            cursor.execute(limit(str(version), seconds))


def limit(version: str, seconds: float) -> str:
    """Return the statement that sets the session's time limit for statements; on MySQL only for reads.

    On MySQL it also turns off the cache of table statistics, which would be a day old.
    """
    if "mariadb" in version.lower():
        return f"SET SESSION max_statement_time = {seconds}"
    return f"SET SESSION max_execution_time = {round(seconds * 1000)}, information_schema_stats_expiry = 0"


class MysqlConnection:
    """The store's `DriverConnection` on a PyMySQL connection."""

    def __init__(self, raw: pymysql.Connection[Any]) -> None:
        self._raw = raw
        self._cursor = raw.cursor()
        self._number: int = raw.thread_id()  # type: ignore[no-untyped-call]
        self._packet: int = raw.max_allowed_packet
        self.writes = 0
        self.unanswered: int | None = None
        """The connection's id on the server, if the client gave up on its last statement."""

    def rows(self, sql: Sql, **values: Any) -> list[tuple[Any, ...]]:
        """Run a query and return its rows."""
        self._execute(sql.mysql, values)
        return list(self._cursor.fetchall())

    @contextmanager
    def stream(self, sql: Sql, **values: Any) -> Iterator[Iterator[tuple[Any, ...]]]:
        """Run a query and read its rows one by one. The server sends all of them, even if the caller stops."""
        self.unanswered = self._number
        try:
            with self._raw.cursor(SSCursor) as cursor:
                cursor.execute(sql.mysql, values)
                yield iter(cursor.fetchone, None)
        except FAILURES as error:
            raise self._failed(error, sql.mysql) from error
        self.unanswered = None

    def change(self, sql: Sql, **values: Any) -> int:
        """Run an INSERT, UPDATE or DELETE and return how many rows it matched."""
        matched = self._execute(sql.mysql, values)
        self.writes += 1
        return matched

    def change_each(self, sql: Sql, rows: list[dict[str, Any]]) -> None:
        """Run an INSERT for all rows, in statements of up to 1 MB, or of one larger row."""
        self.unanswered = self._number
        try:
            self._cursor.executemany(sql.mysql, rows)
        except FAILURES as error:
            raise self._failed(error, sql.mysql) from error
        self.unanswered = None
        self.writes += 1

    def append(self, appends: list[Append]) -> int:
        """Append to each reply that is still generating and has exactly ``at`` characters. Return how many."""
        return sum(
            self._append(appends[first : first + ROWS_AT_ONCE]) for first in range(0, len(appends), ROWS_AT_ONCE)
        )

    def _append(self, appends: list[Append]) -> int:
        """Append with one statement. One statement for each would cost the client eight times as much."""
        case = " ".join(["WHEN %s THEN %s"] * len(appends))
        places = ", ".join(["%s"] * len(appends))
        # MySQL assigns from left to right, so `written`, which WHERE checks, is assigned last.
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

    def begin(self, *, waits: bool = True) -> None:  # noqa: ARG002 - servers lock rows, not the database
        """Begin a transaction."""
        try:
            self._raw.begin()
        except FAILURES as error:
            raise translated(error, "BEGIN") from error

    def commit(self) -> None:
        """Commit. Raises `OutcomeUnknown` if the server does not confirm it."""
        try:
            self._raw.commit()
        except FAILURES as error:
            raise uncommitted(error) from error

    def rollback(self) -> None:
        """Roll back the open transaction, if any."""
        try:
            self._raw.rollback()
        except FAILURES as error:
            raise translated(error, "ROLLBACK") from error

    def kill(self, number: int) -> None:
        """End another connection's statement if it is still running."""
        with contextlib.suppress(pymysql.Error):
            self._cursor.execute(f"KILL QUERY {number}")

    def end_when_idle(self) -> None:
        """Have the server end the session and release its locks when it is idle for `IDLE_S`."""
        self._execute(f"SET SESSION wait_timeout = {IDLE_S}", None)

    def close(self) -> None:
        """Close the connection in any state."""
        with contextlib.suppress(pymysql.Error, OSError):
            self._raw.close()

    def _execute(self, statement: str, values: Any) -> int:
        """Run a statement. Return how many rows it found or matched."""
        self.unanswered = self._number
        try:
            query = self._cursor.mogrify(statement, values)
            self._require_fit(query)
            matched: int = self._cursor.execute(query)
        except FAILURES as error:
            raise self._failed(error, statement) from error
        self.unanswered = None
        return matched

    def _require_fit(self, query: str) -> None:
        """Refuse a statement that is too large: the server would close the connection, as if it were down."""
        if len(query) * _BYTES_OF_CHARACTER >= self._packet and len(query.encode()) >= self._packet:
            raise pymysql.OperationalError(ER.NET_PACKET_TOO_LARGE, "larger than max_allowed_packet")

    def _failed(self, error: Exception, statement: str) -> StoreError | StoreProblem:
        """Translate one of `FAILURES`."""
        if self._raw.open:  # the error is the server's answer
            self.unanswered = None
        return translated(error, statement)


def translated(error: Exception, statement: str) -> StoreError | StoreProblem:
    """Translate one of `FAILURES` to an error of the store. ``statement`` has no values."""
    number = error.args[0] if error.args else None
    if number in _DUPLICATE:
        return Duplicate(str(error))
    if number in _CONTENTION:
        return Contention(str(error))
    if number in _ENDED:
        return DatabaseTimeout(retry_after=5)
    if number in _READ_ONLY:
        return DatabaseReadOnly(retry_after=5)
    if number in _FULL or _NO_ROOM.search(str(error)):
        return DatabaseFull(retry_after=5)
    return StoreUnavailable(retry_after=2) if _is_away(error, number) else DatabaseRefused.of(statement)


def _is_away(error: Exception, number: Any) -> bool:
    """Return whether the server is unreachable or shutting down."""
    if isinstance(error, OSError) or not isinstance(number, int):  # PyMySQL has no number for protocol errors
        return True
    return number == _CLOSED or number in _OF_CLIENT or number in _AWAY


def uncommitted(error: Exception) -> StoreError | StoreProblem:
    """Translate one of `FAILURES` at a COMMIT.

    Without an answer, or if the server is shutting down, the outcome is unknown.
    """
    found = translated(error, "COMMIT")
    number = error.args[0] if error.args else None
    rolled_back = isinstance(found, (StoreError, DatabaseReadOnly, DatabaseFull, DatabaseRefused))
    if number in _NOT_SENT or (rolled_back and number != ER.ERROR_DURING_COMMIT):
        return found
    return OutcomeUnknown(retry_after=2)
