"""The table ``holdings``: the number of messages and the bytes of text of each owner with a storage quota.

An owner's row is made when it is first needed. Transactions that add or delete messages update it; without a row,
nothing is counted. Processes without quotas or of an older version don't update it, so it is corrected by counting
again: one statement reads the row and the real counts, and the difference is added.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple
from uuid import UUID

from chatkeep.domain.conversation import Message
from chatkeep.store.sql import Connection, Sql, in_list

# The prefix of subjects that stand for rows of this table; subjects of windows never have it.
_PREFIX = "="
_BYTES = "OCTET_LENGTH(messages.content) + OCTET_LENGTH(messages.reasoning)"
# A running reply counts as a message from its beginning; its text counts when it ends.
_FINAL = f"COALESCE(SUM(CASE WHEN messages.status = 'generating' THEN 0 ELSE {_BYTES} END), 0)"
_COUNT = f"COUNT(messages.id), {_FINAL}"
_GET = Sql("SELECT messages, bytes FROM holdings WHERE owner = :owner")
_ADD = Sql("UPDATE holdings SET messages = messages + :messages, bytes = bytes + :bytes WHERE owner = :owner")
_REMOVE = Sql("DELETE FROM holdings WHERE owner = :owner")
_REMOVE_UNUSED = Sql("DELETE FROM holdings WHERE owner = :owner AND messages = 0 AND bytes = 0")
_ADD_REPLY = Sql(
    "UPDATE holdings SET bytes = bytes + COALESCE((SELECT OCTET_LENGTH(content) + OCTET_LENGTH(reasoning) FROM messages"
    " WHERE message_id = :id), 0) WHERE owner = :owner"
)
_UNTIL = Sql(f"SELECT {_COUNT} FROM messages WHERE conversation_id = :of AND timestamp <= :until")  # noqa: S608 - fixed parts only
_DRIFT = Sql(
    "SELECT holdings.messages, holdings.bytes, (SELECT COUNT(*) FROM conversations JOIN messages"  # noqa: S608 - the same
    " ON messages.conversation_id = conversations.id WHERE conversations.owner = :owner),"
    f" (SELECT {_FINAL} FROM conversations JOIN messages"
    " ON messages.conversation_id = conversations.id WHERE conversations.owner = :owner)"
    " FROM holdings WHERE holdings.owner = :owner"
)
_NEXT = tuple(
    Sql(f"SELECT owner FROM {table} WHERE owner > :after ORDER BY owner LIMIT 1")  # noqa: S608 - the same
    for table in ("conversations", "holdings")
)
LAST = 2**63 - 1


class Stored(NamedTuple):
    """A number of messages, and the bytes of their text."""

    messages: int = 0
    bytes: int = 0

    @classmethod
    def of(cls, messages: Sequence[Message]) -> Stored:
        """Return the size of messages."""
        return cls(len(messages), sum(len(one.content.encode()) + len(one.reasoning.encode()) for one in messages))


def subject(owner: str) -> str:
    """Return the subject with which a transaction locks an owner's row from its beginning."""
    return _PREFIX + owner


def owner_of(held: str) -> str | None:
    """Return the owner of a subject, or None if it is another kind of subject."""
    return held.removeprefix(_PREFIX) if held.startswith(_PREFIX) else None


def hold(connection: Connection, owners: Iterable[str]) -> None:
    """Lock the rows of owners until the transaction ends, and insert missing ones."""
    wanted = sorted(set(owners))
    if wanted:
        values = in_list("owner", wanted)[1]
        held = connection.rows(_hold(len(wanted)), **values)
        if len(held) < len(wanted):
            connection.change(_begin(len(wanted)), **values)


@cache
def _hold(count: int) -> Sql:
    places = in_list("owner", range(count))[0]
    select = f"SELECT owner FROM holdings WHERE owner IN ({places})"  # noqa: S608 - placeholders only
    mysql = f"SELECT owner FROM holdings FORCE INDEX (PRIMARY) WHERE owner IN ({places})"  # noqa: S608 - the same
    return Sql(select, mysql=f"{mysql} ORDER BY owner LIMIT {count} FOR UPDATE")


@cache
def _begin(count: int) -> Sql:
    insert = (
        f"INTO holdings (owner, messages, bytes) VALUES {', '.join(f'(:owner{index}, 0, 0)' for index in range(count))}"
    )
    return Sql(f"INSERT {insert} ON CONFLICT DO NOTHING", mysql=f"INSERT IGNORE {insert}")


def get(connection: Connection, owner: str) -> Stored | None:
    """Return what an owner has stored, or None if that is not counted."""
    rows = connection.rows(_GET, owner=owner)
    return Stored(*map(int, rows[0])) if rows else None


def add(connection: Connection, owner: str, more: Stored) -> None:
    """Add to an owner's counts, if they are counted."""
    connection.change(_ADD, owner=owner, **more._asdict())


def add_reply(connection: Connection, owner: str, reply_id: UUID) -> None:
    """Add the text of a reply that has ended."""
    connection.change(_ADD_REPLY, owner=owner, id=reply_id.bytes)


def subtract(connection: Connection, owner: str, conversation_id: UUID, until: int = LAST) -> None:
    """Subtract the messages of a conversation up to a time, which the transaction is about to delete."""
    if get(connection, owner) is not None:
        [row] = connection.rows(_UNTIL, of=conversation_id.bytes, until=until)
        add(connection, owner, Stored(-int(row[0]), -int(row[1])))


def subtract_some(connection: Connection, owner: str, ids: Sequence[UUID]) -> None:
    """Subtract some messages, which the transaction is about to delete."""
    if ids and get(connection, owner) is not None:
        places, values = in_list("id", [one.bytes for one in ids])
        [row] = connection.rows(Sql(f"SELECT {_COUNT} FROM messages WHERE message_id IN ({places})"), **values)  # noqa: S608
        add(connection, owner, Stored(-int(row[0]), -int(row[1])))


def remove(connection: Connection, owner: str) -> None:
    """Delete an owner's row."""
    connection.change(_REMOVE, owner=owner)


def remove_unused(connection: Connection, owner: str) -> None:
    """Delete an owner's row that counts nothing."""
    connection.change(_REMOVE_UNUSED, owner=owner)


def drift(connection: Connection, owner: str) -> Stored:
    """Return the difference between the real counts and an owner's row. Reads all of the owner's messages."""
    rows = connection.rows(_DRIFT, owner=owner)
    if not rows:
        return Stored()
    messages, size, real_messages, real_size = map(int, rows[0])
    return Stored(real_messages - messages, real_size - size)


def next_owner(connection: Connection, after: str) -> str | None:
    """Return the first owner after ``after`` with conversations or a row."""
    found = [str(rows[0][0]) for sql in _NEXT if (rows := connection.rows(sql, after=after))]
    return min(found, default=None)
