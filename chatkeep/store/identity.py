"""Which database it is: a random number, so that what is kept outside of it, as in Redis, names the one it belongs to.

A copy and a restored backup get a number of their own: they are other databases, and may be used beside the first.
"""

from __future__ import annotations

import contextlib
import secrets

from chatkeep.store import counters, tombstones
from chatkeep.store.sql import Connection, Duplicate, Sql

DATABASE = "database"
"""The mark that holds the number."""
# More epochs than are ever closed between a backup and what was lost after it.
LEAP = 2**32
_INSERT = Sql("INSERT INTO marks (name, value) VALUES (:name, :value)")
_FORGET = Sql("DELETE FROM marks WHERE name = :name")
_LEAP = Sql("UPDATE marks SET value = value + :leap WHERE name = 'epoch'")


def number(connection: Connection) -> int:
    """Return the database's number; whoever asks first makes it."""
    found = counters.get(connection, DATABASE)
    if found:
        return found
    with contextlib.suppress(Duplicate):  # another process was faster
        connection.change(_INSERT, name=DATABASE, value=1 + secrets.randbelow(2**63 - 1))
    return counters.get(connection, DATABASE)


def renew(connection: Connection) -> None:
    """Make an older state, which was restored, a database of its own: nothing that others remember is about it.

    It forgets its number, and refuses the cursors of exports that were given out so far. Some may be from after the
    backup, and an increment that began there would miss what this database changes.
    """
    connection.change(_FORGET, name=DATABASE)
    if connection.change(_LEAP, leap=LEAP):
        counters.put(connection, tombstones.FORGOTTEN, counters.get(connection, "epoch"))
