"""The table ``idempotency_keys``: the turn of each Idempotency-Key."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from chatkeep.domain.conversation import id_of
from chatkeep.store.sql import Connection, Sql

KEPT_US = 24 * 3600 * 1_000_000

_GET = Sql(
    "SELECT request_hash, conversation_id, reply_id, created_at FROM idempotency_keys"
    " WHERE owner = :owner AND `key` = :key"
)
_INSERT = Sql(
    "INSERT INTO idempotency_keys (owner, `key`, request_hash, conversation_id, reply_id, created_at)"
    " VALUES (:owner, :key, :request_hash, :conversation_id, :reply_id, :created_at)"
)
_OF_OWNER = Sql(
    "SELECT `key`, created_at FROM idempotency_keys WHERE owner = :owner AND `key` > :after ORDER BY `key` LIMIT :limit"
)
_DELETE = Sql("DELETE FROM idempotency_keys WHERE owner = :owner AND `key` = :key")
_FORGET = Sql(
    "DELETE FROM idempotency_keys WHERE (owner, `key`) IN"
    " (SELECT owner, `key` FROM idempotency_keys WHERE owner = :owner LIMIT :limit)",
    # MySQL allows LIMIT in DELETE, but not in a subquery.
    mysql="DELETE FROM idempotency_keys WHERE owner = :owner LIMIT :limit",
)
_EXPIRE = Sql(
    "DELETE FROM idempotency_keys WHERE (owner, `key`) IN"
    " (SELECT owner, `key` FROM idempotency_keys WHERE created_at < :before LIMIT :limit)",
    mysql="DELETE FROM idempotency_keys WHERE created_at < :before ORDER BY created_at LIMIT :limit",
)


@dataclass(frozen=True, slots=True)
class IdempotencyRecord:
    """The turn of a key, and the SHA-256 of its request."""

    request_hash: bytes
    conversation_id: UUID
    reply_id: UUID


def get(connection: Connection, owner: str, key: str, now: int) -> IdempotencyRecord | None:
    """Return the record of a key. Deletes it if it is older than 24 hours."""
    rows = connection.rows(_GET, owner=owner, key=key)
    if not rows:
        return None
    if rows[0][3] < now - KEPT_US:
        connection.change(_DELETE, owner=owner, key=key)
        return None
    return IdempotencyRecord(bytes(rows[0][0]), id_of(rows[0][1]), id_of(rows[0][2]))


def insert(connection: Connection, owner: str, key: str, known: IdempotencyRecord, now: int) -> None:
    """Store a key. Raises `Duplicate` if another process did so at the same time."""
    connection.change(
        _INSERT,
        owner=owner,
        key=key,
        request_hash=known.request_hash,
        conversation_id=known.conversation_id.bytes,
        reply_id=known.reply_id.bytes,
        created_at=now,
    )


def of_owner(connection: Connection, owner: str, after: str, limit: int) -> list[tuple[str, int]]:
    """Return up to ``limit`` keys of an owner after ``after``, and when each was stored."""
    return [(str(key), int(at)) for key, at in connection.rows(_OF_OWNER, owner=owner, after=after, limit=limit)]


def forget(connection: Connection, owner: str, limit: int) -> int:
    """Delete up to ``limit`` keys of an owner. Return how many."""
    return connection.change(_FORGET, owner=owner, limit=limit)


def expire(connection: Connection, now: int, limit: int) -> int:
    """Delete up to ``limit`` keys that are older than 24 hours. Return how many."""
    return connection.change(_EXPIRE, before=now - KEPT_US, limit=limit)
