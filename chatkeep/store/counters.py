"""The table ``marks``: named numbers that all processes share."""

from __future__ import annotations

from uuid import uuid4

from chatkeep.store.sql import Connection, Sql

_GET = Sql("SELECT value FROM marks WHERE name = :name")
_UPDATE = Sql("UPDATE marks SET value = :value WHERE name = :name")
_COUNT = Sql("UPDATE marks SET value = value + 1 WHERE name = :name")
_INSERT = Sql("INSERT INTO marks (name, value) VALUES (:name, :value)")


def get(connection: Connection, name: str) -> int:
    """Return a number, 0 if it was never set."""
    rows = connection.rows(_GET, name=name)
    return int(rows[0][0]) if rows else 0


def put(connection: Connection, name: str, value: int) -> None:
    """Set a number."""
    if connection.change(_UPDATE, name=name, value=value) == 0:
        connection.change(_INSERT, name=name, value=value)


def count(connection: Connection, name: str) -> None:
    """Increment a number that was set before."""
    connection.change(_COUNT, name=name)


def try_out(connection: Connection) -> None:
    """Insert a row that no other transaction touches. The caller rolls it back."""
    connection.change(_INSERT, name=f"probe {uuid4().hex}", value=0)
