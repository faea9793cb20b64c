"""Epochs: how an incremental export finds what has changed since the previous one.

Every changed row is stamped with the current epoch. A writing transaction keeps its epoch open until it has committed,
so no row of a closed epoch can appear later, in whatever order transactions commit. A cursor is a closed epoch, so it
misses nothing. Writers do not wait for each other.
"""

from __future__ import annotations

from chatkeep.store import counters
from chatkeep.store.engine import Database
from chatkeep.store.sql import Connection, Sql

ROW = "marks WHERE name = 'epoch'"
_GET = f"SELECT value FROM {ROW}"  # noqa: S608 - fixed parts only
# On SQLite there is one writer at a time.
_HOLD = Sql(_GET, mysql=f"{_GET} LOCK IN SHARE MODE")
_CLOSE = Sql("UPDATE marks SET value = value + 1 WHERE name = 'epoch'")


def hold(connection: Connection) -> int:
    """Return the current epoch, and keep it open until the transaction ends."""
    return int(connection.rows(_HOLD)[0][0])


def current(connection: Connection) -> int:
    """Return the current epoch."""
    return counters.get(connection, "epoch")


def close(database: Database) -> int:
    """Close the current epoch and begin the next. Return the closed one.

    Waits for the transactions that hold it. Raises `StoreUnavailable`.
    """

    def count_on(connection: Connection) -> int:
        # An autocommitted statement: a process paused in a transaction would block all turns.
        connection.change(_CLOSE)
        return current(connection) - 1  # later than ours if another process closes one at this moment

    return database.read(count_on, long=True)
