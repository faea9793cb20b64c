"""The database's identity: a random number that names it in data stored elsewhere, such as in Redis.

A copy and a restored backup get their own number: they are other databases, which may be used beside the first.
"""

from __future__ import annotations

import contextlib
import secrets

from chatkeep.store import counters, tombstones
from chatkeep.store.sql import Connection, Duplicate, Sql

DATABASE = "database"
"""The mark that holds the number."""
# More epochs than are ever closed between a backup and the loss of the database.
LEAP = 2**32
_INSERT = Sql("INSERT INTO marks (name, value) VALUES (:name, :value)")
_FORGET = Sql("DELETE FROM marks WHERE name = :name")
_LEAP = Sql("UPDATE marks SET value = value + :leap WHERE name = 'epoch'")


def number(connection: Connection) -> int:
    """Return the database's number. Creates it on first use."""
    found = counters.get(connection, DATABASE)
    if found:
        return found
    with contextlib.suppress(Duplicate):  # another process created it
        connection.change(_INSERT, name=DATABASE, value=1 + secrets.randbelow(2**63 - 1))
    return counters.get(connection, DATABASE)


def renew(connection: Connection) -> None:
    """Give a restored backup its own identity, so that data of others does not refer to it.

    Deletes its number and invalidates all export cursors. Some may be from after the backup, and an increment from
    there would miss changes of this database.
    """
    connection.change(_FORGET, name=DATABASE)
    if connection.change(_LEAP, leap=LEAP):
        counters.put(connection, tombstones.FORGOTTEN, counters.get(connection, "epoch"))
