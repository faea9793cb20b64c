"""Fences: in which epoch an end user was last erased. A fence is a row of the table ``tombstones``.

An erasure deletes everything in one pass. What began before it may still write afterwards: the end of a running reply,
an import, usage that a process has not stored yet. Each of these knows the epoch in which it began, and compares it
with the fence in the transaction that writes. The row holds a hash in place of the owner, so an export never shows it,
and the sweeper forgets it like any tombstone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from chatkeep.store.sql import Connection, Sql, in_list
from chatkeep.store.transaction import Transaction

_ROW = "INTO tombstones (conversation_id, owner, epoch, reason, deleted_at) VALUES (:id, '', :epoch, 'fence', :now)"
# The time always changes: a cluster replicates no update that leaves a row as it was, and so detects no conflict.
_LATER = "deleted_at = CASE WHEN tombstones.deleted_at < :now THEN :now ELSE tombstones.deleted_at + 1 END"
_RAISE = Sql(
    f"INSERT {_ROW} ON CONFLICT (conversation_id) DO UPDATE SET epoch = :epoch, {_LATER}",
    mysql=f"INSERT {_ROW} ON DUPLICATE KEY UPDATE epoch = :epoch, {_LATER}",
)
_TOUCH = Sql(
    f"INSERT {_ROW} ON CONFLICT (conversation_id) DO UPDATE SET {_LATER}",
    mysql=f"INSERT {_ROW} ON DUPLICATE KEY UPDATE {_LATER}",
)


def raise_fence(connection: Transaction, owner: str, now: int) -> None:
    """Fence off everything of an end user that began in this epoch or before."""
    connection.change(_RAISE, id=_id(owner), epoch=connection.epoch, now=now)


def touch(connection: Transaction, owner: str, now: int) -> None:
    """Exclude an erasure of an end user until the transaction ends: both write the same row, also on a cluster."""
    connection.change(_TOUCH, id=_id(owner), epoch=0, now=now)


def erased(connection: Connection, owners: Collection[str], since: int) -> set[str]:
    """Return those of the owners that were erased in the epoch ``since`` or later. Only end users are ever erased."""
    ids = {_id(owner): owner for owner in owners if "/" in owner}
    if not ids:
        return set()
    places, values = in_list("id", ids)
    statement = f"SELECT conversation_id FROM tombstones WHERE conversation_id IN ({places}) AND epoch >= :since"  # noqa: S608
    rows = connection.rows(Sql(statement), **values, since=since)
    return {ids[bytes(row[0])] for row in rows}


def _id(owner: str) -> bytes:
    return hashlib.sha256(owner.encode()).digest()[:16]
