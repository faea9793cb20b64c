"""The table ``conversations``. Every function takes the owner, so that nobody reaches what isn't theirs."""

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
# Also where the clock went back, the change of a message is one of its conversation.
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
# As the deletion of the row does: the reply ends, and its end puts off no expiry.
_END_REPLY = Sql("DELETE FROM leases WHERE conversation_id = :id")
_REMOVE = Sql("DELETE FROM conversations WHERE id = :id")
_LATEST = Sql("SELECT MAX(last_active) FROM conversations WHERE owner = :owner")
_SOME = "SELECT id FROM conversations WHERE owner = :owner ORDER BY id LIMIT :limit"
_LOCK_SOME = Sql(_SOME, mysql=f"{_SOME} FOR UPDATE")


# On SQLite, and on MySQL. Without the hint, all that is pinned, or is not, would be read and sorted.
_TABLES = ("conversations", "conversations")
_BY_CREATION = (
    "conversations INDEXED BY ix_conversations_of_owner",
    "conversations FORCE INDEX (ix_conversations_of_owner)",
)


# Whether one message of a conversation fulfils a condition; the rest of them is not read then. SQLite would gather all
# of them for IN, and MariaDB those of all conversations for EXISTS.
_OF_IT = "(SELECT {} FROM messages WHERE conversation_id = conversations.id AND {})"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which conversations a list has.

    ``query`` keeps those whose title or messages contain each of its words, in any case of letters; ``pinned`` those
    that are pinned, or those that are not.
    """

    query: str | None = None
    pinned: bool | None = None


EVERY = Filter()


Sorting = Literal["activity", "created"]


class Position(NamedTuple):
    """Where a page of a list by activity ends, whatever becomes of its last conversation later."""

    last_active: int
    id: UUID
    until: int | None = None
    """The newest activity when the first page was read: an ascending list ends there, or else it would never end, and
    have conversations twice that become active meanwhile."""


def get(connection: Connection, owner: str, id: UUID, now: int) -> Conversation | None:
    """Return a conversation that has not expired by ``now``."""
    rows = connection.rows(_GET, id=id.bytes, owner=owner, now=now)
    return _conversation(rows[0]) if rows else None


def lock(connection: Connection, owner: str, id: UUID, now: int) -> Conversation | None:
    """Return a conversation as `get` does and keep others from changing it until the transaction ends."""
    rows = connection.rows(_LOCK, id=id.bytes, owner=owner, now=now)
    return _conversation(rows[0]) if rows else None


def insert(connection: Transaction, conversation: Conversation) -> None:
    """Store a new conversation."""
    connection.change(_INSERT, **_values(conversation), created_at=conversation.created_at, epoch=connection.epoch)


def update(connection: Transaction, conversation: Conversation) -> None:
    """Store what a locked conversation became."""
    connection.change(_UPDATE, **_values(conversation), epoch=connection.epoch)


def touch(connection: Transaction, id: UUID, now: int) -> None:
    """Note activity, which puts expiry off."""
    connection.change(_TOUCH, id=id.bytes, now=now, epoch=connection.epoch)


def delete(connection: Transaction, owner: str, id: UUID, now: int) -> bool:
    """Delete a conversation with its messages; return whether there was one."""
    holdings.take_off(connection, owner, id)
    if connection.change(_DELETE, id=id.bytes, owner=owner, now=now) == 0:
        return False
    tombstones.bury(connection, owner, id, "deleted", now)
    return True


def expire(connection: Transaction, owner: str, id: UUID, now: int) -> bool:
    """Let a deleted conversation expire now; return whether there was one.

    It is not seen any more, its reply ends, and it is swept later.
    """
    if connection.change(_EXPIRE, id=id.bytes, owner=owner, now=now, epoch=connection.epoch) == 0:
        return False
    connection.change(_END_REPLY, id=id.bytes)
    tombstones.bury(connection, owner, id, "deleted", now)
    return True


def expired(connection: Connection, now: int, limit: int) -> list[tuple[str, UUID]]:
    """Return owner and id of what has expired by ``now`` and has no running reply, the longest expired first."""
    return [(owner, id_of(known)) for owner, known in connection.rows(_EXPIRED, now=now, limit=limit)]


def count_expired(connection: Connection, now: int) -> int:
    """Return how many conversations have expired by ``now``."""
    return int(connection.rows(_COUNT_EXPIRED, now=now)[0][0])


def remove(connection: Transaction, owner: str, id: UUID, now: int, reason: Reason = "expired") -> None:
    """Delete a conversation with what is left of its messages, whether it has expired or not."""
    connection.change(_REMOVE, id=id.bytes)
    tombstones.bury(connection, owner, id, reason, now)


def lock_some(connection: Connection, owner: str, limit: int) -> list[UUID]:
    """Return the first of an owner's conversations, expired or not, and keep others from changing them."""
    return [id_of(row[0]) for row in connection.rows(_LOCK_SOME, owner=owner, limit=limit)]


def end_reply(connection: Connection, id: UUID) -> None:
    """End a conversation's running reply, if there is one, of which nothing shall be kept."""
    connection.change(_END_REPLY, id=id.bytes)


def newest(
    connection: Connection,
    owner: str,
    now: int,
    *,
    limit: int,
    after: Position | None,
    ascending: bool,
    only: Filter = EVERY,
) -> list[Conversation]:
    """Return conversations by activity, beginning behind ``after``."""
    beyond = ">" if ascending else "<"
    where = ""
    if after is not None and after.until is not None and ascending:
        where += " AND last_active <= :until"
    if after is not None:
        # The first condition lets the index begin at the right place; a row comparison alone does not on MariaDB.
        where += f" AND last_active {beyond}= :last_active AND (last_active {beyond} :last_active OR id {beyond} :id)"
    statement, values = _listing(only, where, ("last_active", "id"), ascending=ascending)
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
    """Return conversations by their ids, which begin with the time of their creation, beginning behind ``after``."""
    where = f" AND id {'>' if ascending else '<'} :id" if after is not None else ""
    statement, values = _listing(only, where, ("id",), _BY_CREATION, ascending=ascending)
    if after is not None:
        values["id"] = after.bytes
    rows = connection.rows(statement, owner=owner, now=now, limit=limit, **values)
    return [_conversation(row) for row in rows]


def latest(connection: Connection, owner: str) -> int | None:
    """Return the newest activity in an owner's conversations; None where there are none."""
    at = connection.rows(_LATEST, owner=owner)[0][0]
    return None if at is None else int(at)


def _listing(
    only: Filter, behind: str, order: tuple[str, ...], tables: tuple[str, str] = _TABLES, *, ascending: bool
) -> tuple[Sql, dict[str, Any]]:
    """Return the statement of a list and the parameters that come from its query."""
    where = f"owner = :owner AND {_ALIVE}"
    if only.pinned is not None:
        where += (
            f" AND pinned = {int(only.pinned)}"  # no parameter: SQLite takes an index of some rows for a constant only
        )
    where += behind
    direction = "ASC" if ascending else "DESC"
    end = f"ORDER BY {', '.join(f'{column} {direction}' for column in order)} LIMIT :limit"
    values: dict[str, Any] = {}
    sqlite, mysql = (f"SELECT {_COLUMNS} FROM {table} WHERE {where}" for table in tables)  # noqa: S608 - fixed parts only
    for number, word in enumerate(search.words(only.query) if only.query else ()):
        (title, other_title), (content, other) = (search.conditions(name, number) for name in ("title", "content"))
        sqlite = f"{sqlite} AND ({title} OR EXISTS {_OF_IT.format('1', content)})"
        mysql = f"{mysql} AND ({other_title} OR id IN {_OF_IT.format('conversation_id', other)})"
        values |= search.patterns(word, number)
    return Sql(f"{sqlite} {end}", mysql=f"{mysql} {end}"), values


def _values(conversation: Conversation) -> dict[str, Any]:
    """Return the parameters of a conversation's columns, those aside that never change."""
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
    """Return the conversation of a row of `_COLUMNS`."""
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
