"""The table ``tombstones``: deleted and expired conversations with their epochs, for incremental exports."""

from __future__ import annotations

from typing import Literal, NamedTuple
from uuid import UUID

from chatkeep.store import counters
from chatkeep.store.sql import Connection, Sql
from chatkeep.store.transaction import Transaction

Reason = Literal["deleted", "expired"]
# The last epoch of a deleted tombstone. An increment that begins before it would miss some.
FORGOTTEN = "tombstones_forgotten"

_ROW = "INTO tombstones (conversation_id, owner, epoch, reason, deleted_at) VALUES (:id, :owner, :epoch, :reason, :now)"
_BURY = Sql(f"INSERT OR IGNORE {_ROW}", mysql=f"INSERT IGNORE {_ROW}")
_UNBURY = Sql("DELETE FROM tombstones WHERE conversation_id = :id")
_OWNER = Sql("SELECT owner FROM tombstones WHERE conversation_id = :id")
_OLD = Sql("SELECT conversation_id, epoch FROM tombstones WHERE deleted_at < :before ORDER BY deleted_at LIMIT :limit")

_PAGE = Sql(
    "SELECT conversation_id, epoch, reason, deleted_at FROM tombstones WHERE owner = :owner"
    " AND epoch >= :epoch AND (epoch > :epoch OR conversation_id > :after) ORDER BY epoch, conversation_id LIMIT :limit"
)


class TombstoneRow(NamedTuple):
    """A tombstone's columns."""

    conversation_id: bytes
    epoch: int
    reason: str
    deleted_at: int


def bury(connection: Transaction, owner: str, id: UUID, reason: Reason, now: int) -> None:
    """Add a tombstone. Does not change an existing one."""
    connection.change(_BURY, id=id.bytes, owner=owner, reason=reason, now=now, epoch=connection.epoch)


def unbury(connection: Connection, id: UUID) -> None:
    """Delete a tombstone, because its conversation is back."""
    connection.change(_UNBURY, id=id.bytes)


def owner_of(connection: Connection, id: UUID) -> str | None:
    """Return the owner of a deleted or expired conversation, or None."""
    rows = connection.rows(_OWNER, id=id.bytes)
    return str(rows[0][0]) if rows else None


def page(connection: Connection, owner: str, epoch: int, after: bytes, limit: int) -> list[TombstoneRow]:
    """Return tombstones by epoch and id, after the position (``epoch``, ``after``)."""
    rows = connection.rows(_PAGE, owner=owner, epoch=epoch, after=after, limit=limit)
    return [TombstoneRow._make(row) for row in rows]


def forget(connection: Connection, before: int, limit: int) -> int:
    """Delete up to ``limit`` tombstones before that time, and store up to which epoch. Return how many."""
    old = connection.rows(_OLD, before=before, limit=limit)
    for known, _ in old:
        connection.change(_UNBURY, id=known)
    if old:
        counters.put(connection, FORGOTTEN, max(counters.get(connection, FORGOTTEN), *(epoch for _, epoch in old)))
    return len(old)
