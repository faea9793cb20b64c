"""The table ``tombstones``: which conversations are gone, and since which epoch; no word of what they were."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from chatkeep.store import marks
from chatkeep.store.sql import Connection, Sql

Reason = Literal["deleted", "expired"]
# The last epoch of which a tombstone was forgotten: an increment that begins before it would miss some.
FORGOTTEN = "tombstones_forgotten"

_ROW = "INTO tombstones (conversation_id, owner, epoch, reason, deleted_at) VALUES (:id, :owner, :epoch, :reason, :now)"
_BURY = Sql(f"INSERT OR IGNORE {_ROW}", mysql=f"INSERT IGNORE {_ROW}")
_UNBURY = Sql("DELETE FROM tombstones WHERE conversation_id = :id")
_OLD = Sql("SELECT conversation_id, epoch FROM tombstones WHERE deleted_at < :before ORDER BY deleted_at LIMIT :limit")


def bury(connection: Connection, owner: str, id: UUID, reason: Reason, now: int) -> None:
    """Remember that a conversation is gone; the first reason counts."""
    connection.change(_BURY, id=id.bytes, owner=owner, reason=reason, now=now, epoch=connection.epoch)


def unbury(connection: Connection, id: UUID) -> None:
    """Forget that a conversation was gone: it is back."""
    connection.change(_UNBURY, id=id.bytes)


def forget(connection: Connection, before: int, limit: int) -> int:
    """Forget up to ``limit`` tombstones from before that time; return how many, and note up to which epoch."""
    old = connection.rows(_OLD, before=before, limit=limit)
    for known, _ in old:
        connection.change(_UNBURY, id=known)
    if old:
        marks.put(connection, FORGOTTEN, max(marks.get(connection, FORGOTTEN), *(epoch for _, epoch in old)))
    return len(old)
