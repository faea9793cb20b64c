"""The table ``shares``: links for reading conversations without a key, with the hashes of their tokens."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from chatkeep.domain.conversation import id_of
from chatkeep.store.sql import Connection, Sql

_INSERT = Sql(
    "INSERT INTO shares (conversation_id, owner, digest, tip_id, created_at)"
    " VALUES (:conversation_id, :owner, :digest, :tip_id, :created_at)"
)
_GET = Sql("SELECT created_at FROM shares WHERE conversation_id = :id AND owner = :owner")
_FIND = Sql("SELECT conversation_id, owner, digest, tip_id, created_at FROM shares WHERE digest = :digest")
# Through conversations, because shares have no index by owner.
_SHARED = (
    "SELECT id, (SELECT created_at FROM shares WHERE shares.conversation_id = conversations.id) FROM conversations{}"
    " WHERE owner = :owner AND id > :after ORDER BY id LIMIT :limit"
)
_OF_OWNER = Sql(_SHARED.format(""), mysql=_SHARED.format(" FORCE INDEX (ix_conversations_of_owner)"))
_DELETE = Sql("DELETE FROM shares WHERE conversation_id = :id AND owner = :owner")


@dataclass(frozen=True, slots=True)
class Share:
    """A conversation's link; ``tip_id`` is the last message that it shows."""

    conversation_id: UUID
    owner: str
    digest: bytes
    tip_id: UUID | None
    created_at: int


def put(connection: Connection, share: Share) -> None:
    """Store a conversation's link. Replaces an existing one."""
    delete(connection, share.owner, share.conversation_id)
    connection.change(
        _INSERT,
        conversation_id=share.conversation_id.bytes,
        owner=share.owner,
        digest=share.digest,
        tip_id=share.tip_id.bytes if share.tip_id else None,
        created_at=share.created_at,
    )


def since(connection: Connection, owner: str, conversation_id: UUID) -> int | None:
    """Return when a conversation was shared, or None if it is not."""
    rows = connection.rows(_GET, id=conversation_id.bytes, owner=owner)
    return int(rows[0][0]) if rows else None


def find(connection: Connection, digest: bytes) -> Share | None:
    """Return the link whose token has this hash, or None."""
    rows = connection.rows(_FIND, digest=digest)
    if not rows:
        return None
    conversation_id, owner, found, tip_id, created_at = rows[0]
    return Share(id_of(conversation_id), owner, bytes(found), UUID(bytes=tip_id) if tip_id else None, created_at)


def of_owner(connection: Connection, owner: str, after: bytes, limit: int) -> list[tuple[UUID, int | None]]:
    """Return up to ``limit`` conversations of an owner after the id ``after``, and when each was shared."""
    return [(id_of(id), at) for id, at in connection.rows(_OF_OWNER, owner=owner, after=after, limit=limit)]  # noqa: A001


def delete(connection: Connection, owner: str, conversation_id: UUID) -> bool:
    """Revoke a conversation's link. Return whether it had one."""
    return connection.change(_DELETE, id=conversation_id.bytes, owner=owner) > 0
