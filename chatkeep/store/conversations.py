"""The table ``conversations``. Functions take the owner, which isolates owners from each other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple
from uuid import UUID

from chatkeep.domain.conversation import Conversation, id_of
from chatkeep.store import holdings, search, tombstones
from chatkeep.store.sql import Connection, Sql
from chatkeep.store.tombstones import Reason
from chatkeep.store.transaction import Transaction

_COLUMNS = (
    "id, owner, title, `system`, metadata, created_at, last_active, ttl, expires_at, pinned, message_count, current_id,"
    " forks"
)
_ALIVE = "(expires_at IS NULL OR expires_at > :now)"
_GET = Sql(f"SELECT {_COLUMNS} FROM conversations WHERE id = :id AND owner = :owner AND {_ALIVE}")  # noqa: S608
_LOCK = Sql(_GET.sqlite, mysql=f"{_GET.sqlite} FOR UPDATE")
_INSERT = Sql(
    f"INSERT INTO conversations ({_COLUMNS}, epoch) VALUES (:id, :owner, :title, :system, :metadata,"  # noqa: S608
    " :created_at, :last_active, :ttl, :expires_at, :pinned, :message_count, :current_id, :forks, :epoch)"
)
_UPDATE = Sql(
    "UPDATE conversations SET title = :title, `system` = :system, metadata = :metadata,"
    " last_active = :last_active, ttl = :ttl, expires_at = :expires_at, pinned = :pinned,"
    " message_count = :message_count, current_id = :current_id, forks = :forks, epoch = :epoch"
    " WHERE id = :id AND owner = :owner"
)
# A changed message also changes its conversation's epoch, even if the clock went back.
_TOUCH = Sql(
    "UPDATE conversations SET epoch = :epoch, expires_at = CASE WHEN last_active >= :now THEN expires_at"
    " WHEN pinned = 1 OR ttl IS NULL THEN NULL ELSE :now + ttl * 1000000 END,"
    " last_active = CASE WHEN last_active >= :now THEN last_active ELSE :now END WHERE id = :id"
)
_DELETE = Sql(f"DELETE FROM conversations WHERE id = :id AND owner = :owner AND {_ALIVE}")  # noqa: S608


_EXPIRED = Sql(
    "SELECT owner, id FROM conversations WHERE expires_at <= :now AND id NOT IN (SELECT conversation_id FROM leases)"
    " ORDER BY expires_at LIMIT :limit"
)
_COUNT_EXPIRED = Sql("SELECT COUNT(*) FROM conversations WHERE expires_at <= :now")
_EXPIRE = Sql(
    "UPDATE conversations SET expires_at = :now, epoch = :epoch"  # noqa: S608
    f" WHERE id = :id AND owner = :owner AND {_ALIVE}"
)
# Like deleting the row: the reply ends, and its end does not postpone the expiry.
_END_REPLY = Sql("DELETE FROM leases WHERE conversation_id = :id")
_REMOVE = Sql("DELETE FROM conversations WHERE id = :id")
_LATEST = Sql("SELECT MAX(last_active) FROM conversations WHERE owner = :owner")
_SOME = "SELECT id FROM conversations WHERE owner = :owner ORDER BY id LIMIT :limit"
_LOCK_SOME = Sql(_SOME, mysql=f"{_SOME} FOR UPDATE")


# On SQLite and on MySQL. Without the hint, all (un)pinned conversations would be read and sorted.
_TABLES = ("conversations", "conversations")
_BY_CREATION = (
    "conversations INDEXED BY ix_conversations_of_owner",
    "conversations FORCE INDEX (ix_conversations_of_owner)",
)


# Find one message of a conversation that matches. SQLite would collect all of its messages for IN, and MariaDB those of
# all conversations for EXISTS.
_MATCHING_MESSAGE = "(SELECT {} FROM messages WHERE conversation_id = conversations.id AND {})"


@dataclass(frozen=True, slots=True)
class Filter:
    """Select the conversations of a list.

    ``query`` keeps those whose title or messages contain all of its words, ignoring case. ``pinned`` keeps those that
    are pinned, or those that are not.
    """

    query: str | None = None
    pinned: bool | None = None


EVERY = Filter()


Sorting = Literal["activity", "created"]


class Position(NamedTuple):
    """The end of a page of a list by activity. Stays valid when its last conversation changes."""

    last_active: int
    id: UUID
    until: int | None = None
    """The newest activity when the first page was read. An ascending list ends there; otherwise it would never end, and
    repeat conversations that become active meanwhile."""


def get(connection: Connection, owner: str, id: UUID, now: int) -> Conversation | None:
    """Return a conversation that has not expired by ``now``."""
    rows = connection.rows(_GET, id=id.bytes, owner=owner, now=now)
    return _conversation(rows[0]) if rows else None


def lock(connection: Connection, owner: str, id: UUID, now: int) -> Conversation | None:
    """Return a conversation like `get`, and lock it until the transaction ends."""
    rows = connection.rows(_LOCK, id=id.bytes, owner=owner, now=now)
    return _conversation(rows[0]) if rows else None


def insert(connection: Transaction, conversation: Conversation) -> None:
    """Insert a conversation."""
    connection.change(_INSERT, **_values(conversation), created_at=conversation.created_at, epoch=connection.epoch)


def update(connection: Transaction, conversation: Conversation) -> None:
    """Update a locked conversation."""
    connection.change(_UPDATE, **_values(conversation), epoch=connection.epoch)


def touch(connection: Transaction, id: UUID, now: int) -> None:
    """Record activity, which postpones the expiry."""
    connection.change(_TOUCH, id=id.bytes, now=now, epoch=connection.epoch)


def delete(connection: Transaction, owner: str, id: UUID, now: int) -> bool:
    """Delete a conversation with its messages. Return whether it existed."""
    holdings.subtract(connection, owner, id)
    if connection.change(_DELETE, id=id.bytes, owner=owner, now=now) == 0:
        return False
    tombstones.bury(connection, owner, id, "deleted", now)
    return True


def expire(connection: Transaction, owner: str, id: UUID, now: int) -> bool:
    """Expire a conversation that is to be deleted. Return whether it existed.

    It becomes invisible, its reply ends, and it is swept later.
    """
    if connection.change(_EXPIRE, id=id.bytes, owner=owner, now=now, epoch=connection.epoch) == 0:
        return False
    connection.change(_END_REPLY, id=id.bytes)
    tombstones.bury(connection, owner, id, "deleted", now)
    return True


def expired(connection: Connection, now: int, limit: int) -> list[tuple[str, UUID]]:
    """Return owner and id of expired conversations without a running reply, the longest expired first."""
    return [(owner, id_of(known)) for owner, known in connection.rows(_EXPIRED, now=now, limit=limit)]


def count_expired(connection: Connection, now: int) -> int:
    """Return how many conversations have expired by ``now``."""
    return int(connection.rows(_COUNT_EXPIRED, now=now)[0][0])


def remove(connection: Transaction, owner: str, id: UUID, now: int, reason: Reason = "expired") -> None:
    """Delete a conversation with its remaining messages, expired or not."""
    connection.change(_REMOVE, id=id.bytes)
    tombstones.bury(connection, owner, id, reason, now)


def lock_some(connection: Connection, owner: str, limit: int) -> list[UUID]:
    """Return the first of an owner's conversations, expired or not, and lock them."""
    return [id_of(row[0]) for row in connection.rows(_LOCK_SOME, owner=owner, limit=limit)]


def end_reply(connection: Connection, id: UUID) -> None:
    """End a conversation's running reply, if any, and discard it."""
    connection.change(_END_REPLY, id=id.bytes)


def by_activity(
    connection: Connection,
    owner: str,
    now: int,
    *,
    limit: int,
    after: Position | None,
    ascending: bool,
    only: Filter = EVERY,
) -> list[Conversation]:
    """Return conversations by activity, after ``after``."""
    beyond = ">" if ascending else "<"
    where = ""
    if after is not None and after.until is not None and ascending:
        where += " AND last_active <= :until"
    if after is not None:
        # The first condition sets where the index scan begins. MariaDB does not do that for a row comparison alone.
        where += f" AND last_active {beyond}= :last_active AND (last_active {beyond} :last_active OR id {beyond} :id)"
    statement, values = _list_sql(only, where, ("last_active", "id"), ascending=ascending)
    if after is not None:
        values |= {"last_active": after.last_active, "id": after.id.bytes, "until": after.until}
    rows = connection.rows(statement, owner=owner, now=now, limit=limit, **values)
    return [_conversation(row) for row in rows]


def by_creation(
    connection: Connection,
    owner: str,
    now: int,
    *,
    limit: int,
    after: UUID | None,
    ascending: bool,
    only: Filter = EVERY,
) -> list[Conversation]:
    """Return conversations by creation, which is by id, after ``after``."""
    where = f" AND id {'>' if ascending else '<'} :id" if after is not None else ""
    statement, values = _list_sql(only, where, ("id",), _BY_CREATION, ascending=ascending)
    if after is not None:
        values["id"] = after.bytes
    rows = connection.rows(statement, owner=owner, now=now, limit=limit, **values)
    return [_conversation(row) for row in rows]


def latest(connection: Connection, owner: str) -> int | None:
    """Return the newest activity in an owner's conversations, or None if there are none."""
    at = connection.rows(_LATEST, owner=owner)[0][0]
    return None if at is None else int(at)


def _list_sql(
    only: Filter, behind: str, order: tuple[str, ...], tables: tuple[str, str] = _TABLES, *, ascending: bool
) -> tuple[Sql, dict[str, Any]]:
    """Return the statement of a list and the parameters of its query."""
    where = f"owner = :owner AND {_ALIVE}"
    if only.pinned is not None:
        where += f" AND pinned = {int(only.pinned)}"  # not a parameter: SQLite uses a partial index only for a constant
    where += behind
    direction = "ASC" if ascending else "DESC"
    end = f"ORDER BY {', '.join(f'{column} {direction}' for column in order)} LIMIT :limit"
    values: dict[str, Any] = {}
    sqlite, mysql = (f"SELECT {_COLUMNS} FROM {table} WHERE {where}" for table in tables)  # noqa: S608 - fixed parts only
    for number, word in enumerate(search.words(only.query) if only.query else ()):
        (title, other_title), (content, other) = (search.conditions(name, number) for name in ("title", "content"))
        sqlite = f"{sqlite} AND ({title} OR EXISTS {_MATCHING_MESSAGE.format('1', content)})"
        mysql = f"{mysql} AND ({other_title} OR id IN {_MATCHING_MESSAGE.format('conversation_id', other)})"
        values |= search.patterns(word, number)
    return Sql(f"{sqlite} {end}", mysql=f"{mysql} {end}"), values


def _values(conversation: Conversation) -> dict[str, Any]:
    """Return the parameters of the columns that can change."""
    return {
        "id": conversation.id.bytes,
        "owner": conversation.owner,
        "title": conversation.title,
        "system": conversation.system,
        "metadata": json.dumps(conversation.metadata, ensure_ascii=False) if conversation.metadata else "{}",
        "last_active": conversation.last_active,
        "ttl": conversation.ttl,
        "expires_at": conversation.expires_at,
        "pinned": int(conversation.pinned),
        "message_count": conversation.message_count,
        "current_id": conversation.current_id.bytes if conversation.current_id else None,
        "forks": conversation.forks,
    }


def _conversation(row: tuple[Any, ...]) -> Conversation:
    """Convert a row of `_COLUMNS`."""
    return Conversation(
        id=id_of(row[0]),
        owner=row[1],
        title=row[2],
        system=row[3],
        metadata=json.loads(row[4]) if row[4] != "{}" else {},
        created_at=row[5],
        last_active=row[6],
        ttl=row[7],
        expires_at=row[8],
        pinned=bool(row[9]),
        message_count=row[10],
        current_id=id_of(row[11]) if row[11] else None,
        forks=row[12],
    )
