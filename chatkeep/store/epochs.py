"""Epochs: by which an increment of an export knows what has changed since the one before.

Every row that changes is stamped with the number of the epoch. A transaction that writes keeps the epoch from being
closed until it has committed, so once it is closed no row of it can appear any more, in whatever order transactions
commit: a cursor that is a closed epoch leaves nothing out. Writers do not wait for each other.
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
    """Return the epoch, which stays open until the transaction ends."""
    return int(connection.rows(_HOLD)[0][0])


def current(connection: Connection) -> int:
    """Return the epoch that is open."""
    return counters.get(connection, "epoch")


def close(database: Database) -> int:
    """Close the epoch and begin the next one; return the one that was closed.

    Waits for the transactions that hold it. Raises `StoreUnavailable`.
    """

    def count_on(connection: Connection) -> int:
        # A statement that commits itself: a process that is paused between two would let everybody else's turns wait.
        connection.change(_CLOSE)
        return current(connection) - 1  # a later one, where another process closes it at this moment

    return database.read(count_on, long=True)
