"""The table ``duties``: which process is the leader for each singleton task."""

from __future__ import annotations

from uuid import UUID

from chatkeep.store.sql import Connection, Duplicate, Sql

_TAKE = Sql(
    "UPDATE duties SET worker_id = :worker_id"
    " WHERE name = :name AND (worker_id = :worker_id OR worker_id NOT IN (SELECT id FROM workers))"
)
_INSERT = Sql("INSERT INTO duties (name, worker_id) VALUES (:name, :worker_id)")
_ANY = Sql("SELECT 1 FROM duties WHERE name = :name")


def acquire(connection: Connection, name: str, worker_id: UUID) -> bool:
    """Return whether this process is the leader. It becomes the leader if there is none, or the leader is gone."""
    if connection.change(_TAKE, name=name, worker_id=worker_id.bytes):
        return True
    if connection.rows(_ANY, name=name):
        return False
    try:
        connection.change(_INSERT, name=name, worker_id=worker_id.bytes)
    except Duplicate:
        return False
    return True
