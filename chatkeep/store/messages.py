"""The table ``messages``. A conversation's owner is checked before anything here is called with its id."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from chatkeep.model import Message, Role, Said, Status, Usage, id_of
from chatkeep.store.sql import Connection, Sql, in_list

_COLUMNS = (
    "message_id, conversation_id, parent_id, position, role, content, timestamp, status, reasoning, model,"
    " finish_reason, error, error_detail, input_tokens, output_tokens, cached"
)
_INSERT = Sql(
    f"INSERT INTO messages ({_COLUMNS}, written, on_branch, epoch)"  # noqa: S608
    " VALUES (:message_id, :conversation_id, :parent_id, :position, :role, :content, :timestamp, :status, :reasoning,"
    " :model, :finish_reason, :error, :error_detail, :input_tokens, :output_tokens, :cached, :written, 1, :epoch)"
)
_GET = Sql(f"SELECT {_COLUMNS} FROM messages WHERE message_id = :id AND conversation_id = :of")  # noqa: S608
_FINISH = Sql(
    "UPDATE messages SET status = :status, finish_reason = :finish_reason, error = :error,"
    " error_detail = :error_detail, cached = :cached, epoch = :epoch, model = COALESCE(:model, model),"
    " input_tokens = :input_tokens, output_tokens = :output_tokens"
    " WHERE message_id = :id AND status = 'generating'"
)
_LATEST = Sql(
    "SELECT role, content, error FROM messages WHERE conversation_id = :conversation_id AND on_branch = 1"
    " AND timestamp <= :until ORDER BY timestamp DESC LIMIT :limit"
)
_LEAVE_BRANCH = Sql(
    "UPDATE messages SET on_branch = 0, epoch = :epoch"
    " WHERE conversation_id = :of AND on_branch = 1 AND timestamp > :after"
)
_JOIN_BRANCH = Sql("UPDATE messages SET on_branch = 1, epoch = :epoch WHERE message_id = :id")
_STEP = Sql("SELECT parent_id, on_branch, timestamp FROM messages WHERE message_id = :id")
_TREE = Sql("SELECT message_id, parent_id FROM messages WHERE conversation_id = :of ORDER BY timestamp")
_DELETE_SOME = Sql(
    "DELETE FROM messages WHERE id IN (SELECT id FROM messages WHERE conversation_id = :of LIMIT :limit)",
    # MySQL knows no LIMIT in a subquery, but one in DELETE itself.
    mysql="DELETE FROM messages WHERE conversation_id = :of LIMIT :limit",
)
_PROGRESS = Sql("SELECT status, written FROM messages WHERE message_id = :id")
# Four times as quick as the enumerations' own way, for there are dozens in a request.
_ROLES = {role.value: role for role in Role}
_STATUSES = {status.value: status for status in Status}
_TIMESTAMP = Sql("SELECT timestamp FROM messages WHERE message_id = :id AND conversation_id = :conversation_id")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a reply's row is: its status and how many characters it holds, content and reasoning together."""

    status: Status
    written: int


def insert(connection: Connection, message: Message) -> None:
    """Store a new message at the end of the current branch."""
    connection.change(
        _INSERT,
        message_id=message.id.bytes,
        conversation_id=message.conversation_id.bytes,
        parent_id=message.parent_id.bytes if message.parent_id else None,
        position=message.position,
        role=message.role.value,
        content=message.content,
        timestamp=message.timestamp,
        status=message.status.value,
        reasoning=message.reasoning,
        model=message.model,
        finish_reason=message.finish_reason,
        error=message.error,
        error_detail=message.error_detail,
        input_tokens=message.usage.input_tokens if message.usage else None,
        output_tokens=message.usage.output_tokens if message.usage else None,
        cached=int(message.cached),
        written=len(message.content) + len(message.reasoning),
        epoch=connection.epoch,
    )


def get(connection: Connection, conversation_id: UUID, id: UUID) -> Message | None:
    """Return one message of a conversation."""
    rows = connection.rows(_GET, id=id.bytes, of=conversation_id.bytes)
    return _message(rows[0]) if rows else None


def latest(connection: Connection, conversation_id: UUID, until: int, limit: int) -> list[Said]:
    """Return the branch's last ``limit`` messages up to the time ``until``, oldest first."""
    rows = connection.rows(_LATEST, conversation_id=conversation_id.bytes, until=until, limit=limit)
    return [Said(_ROLES[role], content, error) for role, content, error in reversed(rows)]


def page(
    connection: Connection, conversation_id: UUID, *, limit: int, after: UUID | None, ascending: bool
) -> list[Message] | None:
    """Return messages of the current branch, beginning behind ``after``; None where there is no such message."""
    values = {"conversation_id": conversation_id.bytes, "limit": limit}
    if after is not None:
        found = connection.rows(_TIMESTAMP, id=after.bytes, conversation_id=conversation_id.bytes)
        if not found:
            return None
        values["timestamp"] = found[0][0]
    return [_message(row) for row in connection.rows(_page(after is not None, ascending), **values)]


@cache
def _page(follows: bool, ascending: bool) -> Sql:  # noqa: FBT001 - private, and a cache takes no better
    """Return the statement of `page`."""
    direction, beyond = ("ASC", ">") if ascending else ("DESC", "<")
    where = "conversation_id = :conversation_id AND on_branch = 1"
    if follows:
        where += f" AND timestamp {beyond} :timestamp"
    return Sql(f"SELECT {_COLUMNS} FROM messages WHERE {where} ORDER BY timestamp {direction} LIMIT :limit")  # noqa: S608


def path(connection: Connection, conversation_id: UUID, tip: UUID | None) -> list[UUID]:
    """Return the ids of the messages from the first to ``tip``, whichever branch is the current one."""
    parents: dict[bytes, bytes | None] = dict(connection.rows(_TREE, of=conversation_id.bytes))
    found, step = [], tip.bytes if tip else None
    while step is not None and step in parents:
        found.append(id_of(step))
        step = parents[step]
    return found[::-1]


def some(connection: Connection, ids: list[UUID]) -> list[Message]:
    """Return messages in the order in which they are named."""
    if not ids:
        return []
    places, values = in_list("id", (item.bytes for item in ids))
    rows = connection.rows(Sql(f"SELECT {_COLUMNS} FROM messages WHERE message_id IN ({places})"), **values)  # noqa: S608
    found = {message.id: message for message in map(_message, rows)}
    return [found[item] for item in ids]


def finish(connection: Connection, reply: Message) -> None:
    """Store a reply's final status, finish reason, error, model and usage; its text is there already."""
    connection.change(
        _FINISH,
        id=reply.id.bytes,
        status=reply.status.value,
        finish_reason=reply.finish_reason,
        error=reply.error,
        error_detail=reply.error_detail,
        cached=int(reply.cached),
        model=reply.model,
        input_tokens=reply.usage.input_tokens if reply.usage else None,
        output_tokens=reply.usage.output_tokens if reply.usage else None,
        epoch=connection.epoch,
    )


def switch_branch(connection: Connection, conversation_id: UUID, tip: UUID | None) -> None:
    """Make the messages from the root to ``tip`` the current branch; None makes it empty."""
    joining, step, after = [], tip.bytes if tip else None, 0
    while step is not None:
        parent, on_branch, timestamp = connection.rows(_STEP, id=step)[0]
        if on_branch:
            after = timestamp
            break
        joining.append(step)
        step = parent
    connection.change(_LEAVE_BRANCH, of=conversation_id.bytes, after=after, epoch=connection.epoch)
    for id in joining:  # noqa: A001
        connection.change(_JOIN_BRANCH, id=id, epoch=connection.epoch)


def siblings(connection: Connection, conversation_id: UUID) -> dict[UUID | None, list[UUID]]:
    """Return the children of every message of a conversation, oldest first; those without a parent are under None."""
    found: dict[UUID | None, list[UUID]] = {}
    for message_id, parent_id in connection.rows(_TREE, of=conversation_id.bytes):
        found.setdefault(id_of(parent_id) if parent_id else None, []).append(id_of(message_id))
    return found


def delete_some(connection: Connection, conversation_id: UUID, limit: int) -> int:
    """Delete up to ``limit`` messages of a conversation; return how many."""
    return connection.change(_DELETE_SOME, of=conversation_id.bytes, limit=limit)


def progress(connection: Connection, id: UUID) -> Progress | None:
    """Return how far a reply is, or None where its row is gone."""
    rows = connection.rows(_PROGRESS, id=id.bytes)
    return Progress(_STATUSES[rows[0][0]], rows[0][1]) if rows else None


def progress_of(connection: Connection, ids: list[UUID]) -> dict[UUID, Progress]:
    """Return how far each of these replies is; one whose row is gone is missing."""
    places, values = in_list("id", (item.bytes for item in ids))
    statement = Sql(f"SELECT message_id, status, written FROM messages WHERE message_id IN ({places})")  # noqa: S608
    rows = connection.rows(statement, **values)
    return {id_of(row[0]): Progress(_STATUSES[row[1]], row[2]) for row in rows}


def _message(row: tuple[Any, ...]) -> Message:
    """Return the message of a row of `_COLUMNS`."""
    return Message(
        id=id_of(row[0]),
        conversation_id=id_of(row[1]),
        parent_id=id_of(row[2]) if row[2] else None,
        position=row[3],
        role=_ROLES[row[4]],
        content=row[5],
        timestamp=row[6],
        status=_STATUSES[row[7]],
        reasoning=row[8],
        model=row[9],
        finish_reason=row[10],
        error=row[11],
        error_detail=row[12],
        usage=None if row[13] is None else Usage(row[13], row[14]),
        cached=bool(row[15]),
    )
