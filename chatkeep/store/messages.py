"""The table ``messages``. Callers check a conversation's owner before they call anything here with its id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, islice
from typing import Any, NamedTuple
from uuid import UUID

from chatkeep.domain.conversation import PAGE_BYTES, Message, Role, Said, Status, Usage, id_of
from chatkeep.store import holdings
from chatkeep.store.sql import Connection, Sql, in_list
from chatkeep.store.transaction import Transaction

_COLUMNS = (
    "message_id, conversation_id, parent_id, `position`, `role`, content, timestamp, status, reasoning, model,"
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
    "SELECT `role`, content, error, finish_reason FROM messages WHERE conversation_id = :conversation_id"
    " AND on_branch = 1 AND timestamp <= :until ORDER BY timestamp DESC LIMIT :limit"
)
_LEAVE_BRANCH = "UPDATE messages SET on_branch = 0, epoch = :epoch WHERE "
_LEAVING = (
    "conversation_id = :of AND on_branch = 1 AND timestamp > :after AND timestamp <= :until"
    " ORDER BY timestamp DESC LIMIT :limit"
)
_LEAVE_SOME = Sql(
    f"{_LEAVE_BRANCH} id IN (SELECT id FROM messages WHERE {_LEAVING})",  # noqa: S608 - fixed parts only
    mysql=f"{_LEAVE_BRANCH} {_LEAVING}",
)
# From a message to the root. After a thousand steps MySQL refuses to go on, and MariaDB stops without an error.
_ANCESTORS = Sql(
    "WITH RECURSIVE above (message_id, parent_id, timestamp, on_branch, steps) AS ("
    "SELECT message_id, parent_id, timestamp, on_branch, 1 FROM messages"
    " WHERE message_id = :id AND conversation_id = :of"
    " UNION ALL SELECT parent.message_id, parent.parent_id, parent.timestamp, parent.on_branch, above.steps + 1"
    " FROM above JOIN messages AS parent ON parent.message_id = above.parent_id WHERE above.steps < :limit"
    ") SELECT message_id, parent_id, timestamp, on_branch FROM above"
)
_NEWER = Sql(
    "SELECT message_id, parent_id, timestamp FROM messages WHERE conversation_id = :of AND timestamp > :after"
    " ORDER BY timestamp LIMIT :limit"
)
_FORKS = Sql(
    "SELECT COUNT(*) - COUNT(DISTINCT parent_id) - (COUNT(parent_id) < COUNT(*)) FROM messages"
    " WHERE conversation_id = :of"
)
_FORKED = "SELECT parent_id FROM messages WHERE conversation_id = :of AND on_branch = 0 AND {} GROUP BY parent_id"
_FORKED_ROOT = Sql(_FORKED.format("parent_id IS NULL"))
_SIBLINGS = (
    "SELECT message_id, timestamp FROM messages WHERE conversation_id = :of AND on_branch = 0 AND {}"
    " ORDER BY id DESC LIMIT :limit"
)
_SIBLINGS_OF, _SIBLINGS_OF_ROOT = (
    Sql(_SIBLINGS.format("parent_id = :parent")),
    Sql(_SIBLINGS.format("parent_id IS NULL")),
)
_OLDEST = Sql("SELECT timestamp, written FROM messages WHERE conversation_id = :of ORDER BY timestamp LIMIT :limit")
_COUNT = Sql("SELECT COUNT(*) FROM messages WHERE conversation_id = :of")
_COUNT_UNTIL = Sql(
    "SELECT COUNT(*) FROM messages WHERE conversation_id = :of AND on_branch = 1 AND timestamp <= :until"
)
_SPAN = Sql(
    f"SELECT {_COLUMNS} FROM messages WHERE conversation_id = :of AND on_branch = 1"  # noqa: S608
    " AND timestamp >= :start AND timestamp <= :until ORDER BY timestamp LIMIT :limit"
)
_DELETE_UNTIL = Sql("DELETE FROM messages WHERE conversation_id = :of AND timestamp <= :until")
_PROGRESS = Sql("SELECT status, written FROM messages WHERE message_id = :id")
# Four times as fast as calling the enumerations.
_ROLES = {role.value: role for role in Role}
_STATUSES = {status.value: status for status in Status}
_TIMESTAMP = Sql("SELECT timestamp FROM messages WHERE message_id = :id AND conversation_id = :conversation_id")


# The most that one transaction deletes or changes, whichever comes first. Turns wait that long for theirs.
ROWS, CHARACTERS = 400, 2_000_000
# The most steps to the root that one statement reads.
STEPS = 400
# The most siblings to return of a message: the newest.
SIBLINGS = 100


class Step(NamedTuple):
    """A message's position in the tree."""

    id: UUID
    parent_id: UUID | None
    timestamp: int
    on_branch: bool = False


class Deleted(NamedTuple):
    """How many messages were deleted, and whether none are left."""

    rows: int
    all: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """A reply's status and the characters in its row, content and reasoning together."""

    status: Status
    written: int


def insert(connection: Transaction, message: Message) -> None:
    """Insert a message at the end of the current branch."""
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
    return [Said(_ROLES[role], *ended) for role, *ended in reversed(rows)]


def page(
    connection: Connection, conversation_id: UUID, *, limit: int, after: UUID | None, ascending: bool
) -> list[Message] | None:
    """Return messages of the current branch after ``after``; None if that message does not exist.

    Stops early when the messages exceed a page of `PAGE_BYTES`.
    """
    values: dict[str, Any] = {"conversation_id": conversation_id.bytes, "limit": limit}
    if after is not None:
        behind = timestamp_of(connection, conversation_id, after)
        if behind is None:
            return None
        values["timestamp"] = behind
    found, characters = list[Message](), 0
    with connection.stream(_page(after is not None, ascending), **values) as rows:
        for message in map(_message, rows):
            found.append(message)
            if characters > PAGE_BYTES:
                break
            characters += len(message.content) + len(message.reasoning)
    return found


@cache
def _page(follows: bool, ascending: bool) -> Sql:  # noqa: FBT001 - private, and cheaper to cache than keywords
    """Return the statement of `page`."""
    direction, beyond = ("ASC", ">") if ascending else ("DESC", "<")
    where = "conversation_id = :conversation_id AND on_branch = 1"
    if follows:
        where += f" AND timestamp {beyond} :timestamp"
    return Sql(f"SELECT {_COLUMNS} FROM messages WHERE {where} ORDER BY timestamp {direction} LIMIT :limit")  # noqa: S608


def last_up_to(connection: Connection, conversation_id: UUID, tip: UUID | None, limit: int) -> list[Message]:
    """Return up to ``limit`` messages from ``tip`` towards the root. Other branches cost nothing."""
    walk = ancestors(connection, conversation_id, tip, min(limit, STEPS))
    return get_many(connection, [step.id for step in islice(walk, limit)])


def ancestors(connection: Connection, conversation_id: UUID, id: UUID | None, steps: int = STEPS) -> Iterator[Step]:
    """Yield the messages from one of them to the root, read lazily: first ``steps``, then more at once."""
    step = id
    while step is not None:
        rows = connection.rows(_ANCESTORS, id=step.bytes, of=conversation_id.bytes, limit=steps)
        yield from (Step(id_of(one), _id(parent), at, bool(on)) for one, parent, at, on in rows)
        step, steps = _id(rows[-1][1]) if rows else None, min(steps * 8, STEPS)


def newer(connection: Connection, conversation_id: UUID, after: int, limit: int) -> list[Step]:
    """Return up to ``limit`` messages newer than ``after``, of all branches, oldest first."""
    rows = connection.rows(_NEWER, of=conversation_id.bytes, after=after, limit=limit)
    return [Step(id_of(one), _id(parent), at) for one, parent, at in rows]


def timestamp_of(connection: Connection, conversation_id: UUID, id: UUID) -> int | None:
    """Return the timestamp of a conversation's message, or None."""
    rows = connection.rows(_TIMESTAMP, id=id.bytes, conversation_id=conversation_id.bytes)
    return int(rows[0][0]) if rows else None


def span(
    connection: Connection, conversation_id: UUID, until: int, *, skip: int, limit: int, forked: bool
) -> list[Message]:
    """Return messages of the current branch up to the time ``until``, oldest first, without the first ``skip``.

    Unless the conversation is ``forked``, the index alone is read to skip.
    """
    values = {"of": conversation_id.bytes, "until": until}
    first = connection.rows(_first(forked), **values, skip=skip)
    if not first:
        return []
    return [_message(row) for row in connection.rows(_SPAN, **values, start=first[0][0], limit=limit)]


@cache
def _first(forked: bool) -> Sql:  # noqa: FBT001 - private, and cheaper to cache than keywords
    """Return the statement that finds where `span` begins."""
    where = "conversation_id = :of AND timestamp <= :until" + (" AND on_branch = 1" if forked else "")
    return Sql(f"SELECT timestamp FROM messages WHERE {where} ORDER BY timestamp LIMIT 1 OFFSET :skip")  # noqa: S608 - fixed parts only


def count_until(connection: Connection, conversation_id: UUID, until: int) -> int:
    """Return the number of messages of the current branch up to a time. Reads all of them."""
    return int(connection.rows(_COUNT_UNTIL, of=conversation_id.bytes, until=until)[0][0])


def get_many(connection: Connection, ids: list[UUID]) -> list[Message]:
    """Return messages in the order of ``ids``."""
    if not ids:
        return []
    places, values = in_list("id", (item.bytes for item in ids))
    rows = connection.rows(Sql(f"SELECT {_COLUMNS} FROM messages WHERE message_id IN ({places})"), **values)  # noqa: S608
    found = {message.id: message for message in map(_message, rows)}
    return [found[item] for item in ids]


def finish(connection: Transaction, reply: Message) -> None:
    """Store a reply's final status, finish reason, error, model and usage. Its text is stored already."""
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


def leave_branch(connection: Transaction, conversation_id: UUID, after: int, until: int = 2**63 - 1) -> int:
    """Take the newest messages after a time off the current branch, at most `ROWS`. Return how many."""
    span = {"after": after, "until": until, "limit": ROWS}
    return connection.change(_LEAVE_SOME, of=conversation_id.bytes, **span, epoch=connection.epoch)


def join_branch(connection: Transaction, ids: Sequence[UUID]) -> int:
    """Put messages on the current branch. Return how many."""
    if not ids:
        return 0
    places, values = in_list("id", (item.bytes for item in ids))
    statement = Sql(f"UPDATE messages SET on_branch = 1, epoch = :epoch WHERE message_id IN ({places})")  # noqa: S608
    return connection.change(statement, **values, epoch=connection.epoch)


def forks(connection: Connection, conversation_id: UUID) -> int:
    """Return how many messages of a conversation have an older sibling. Reads all of them."""
    return int(connection.rows(_FORKS, of=conversation_id.bytes)[0][0])


def siblings(connection: Connection, conversation_id: UUID, shown: list[Message]) -> dict[UUID, list[UUID]]:
    """Return the siblings of those of ``shown`` that have any: ids by time, their own included, at most `SIBLINGS`.

    ``shown`` are on the current branch, so their siblings are not.
    """
    of = conversation_id.bytes
    parents = [message.parent_id.bytes for message in shown if message.parent_id]
    forked: set[UUID | None] = set()
    if parents:
        places, values = in_list("parent", parents)
        rows = connection.rows(Sql(_FORKED.format(f"parent_id IN ({places})")), of=of, **values)
        forked.update(id_of(row[0]) for row in rows)
    if len(parents) < len(shown) and connection.rows(_FORKED_ROOT, of=of):
        forked.add(None)
    return {message.id: _with_siblings(connection, message) for message in shown if message.parent_id in forked}


def _with_siblings(connection: Connection, message: Message) -> list[UUID]:
    values: dict[str, Any] = {"of": message.conversation_id.bytes, "limit": SIBLINGS}
    if message.parent_id is None:
        rows = connection.rows(_SIBLINGS_OF_ROOT, **values)
    else:
        rows = connection.rows(_SIBLINGS_OF, **values, parent=message.parent_id.bytes)
    found = [(int(at), id_of(one)) for one, at in rows]
    return [one for _, one in sorted([*found, (message.timestamp, message.id)])]


def count(connection: Connection, conversation_id: UUID) -> int:
    """Return how many messages a conversation has, on all branches. Reads the index of all of them."""
    return int(connection.rows(_COUNT, of=conversation_id.bytes)[0][0])


def is_long(connection: Connection, conversation_id: UUID) -> bool:
    """Return whether a conversation has more messages or text than one transaction should delete."""
    oldest = connection.rows(_OLDEST, of=conversation_id.bytes, limit=ROWS + 1)
    return len(oldest) > ROWS or sum(written for _, written in oldest) > CHARACTERS


def delete_some(connection: Connection, owner: str, conversation_id: UUID, limit: int = ROWS) -> Deleted:
    """Delete the oldest messages of a conversation: at least 1, at most ``limit``, and about `CHARACTERS`."""
    oldest = connection.rows(_OLDEST, of=conversation_id.bytes, limit=limit + 1)
    ends = accumulate(written for _, written in oldest[:limit])
    fitting = max(1, sum(end <= CHARACTERS for end in ends))
    if oldest:
        until = int(oldest[:fitting][-1][0])
        holdings.subtract(connection, owner, conversation_id, until)
        connection.change(_DELETE_UNTIL, of=conversation_id.bytes, until=until)
    return Deleted(min(fitting, len(oldest)), len(oldest) <= fitting)


def progress(connection: Connection, id: UUID) -> Progress | None:
    """Return the progress of a reply, or None if its row is gone."""
    rows = connection.rows(_PROGRESS, id=id.bytes)
    return Progress(_STATUSES[rows[0][0]], rows[0][1]) if rows else None


def progress_of(connection: Connection, ids: list[UUID]) -> dict[UUID, Progress]:
    """Return the progress of these replies, without those whose rows are gone."""
    places, values = in_list("id", (item.bytes for item in ids))
    statement = Sql(f"SELECT message_id, status, written FROM messages WHERE message_id IN ({places})")  # noqa: S608
    rows = connection.rows(statement, **values)
    return {id_of(row[0]): Progress(_STATUSES[row[1]], row[2]) for row in rows}


def _id(known: bytes | None) -> UUID | None:
    return id_of(known) if known else None


def _message(row: tuple[Any, ...]) -> Message:
    """Convert a row of `_COLUMNS`."""
    return Message(
        id=id_of(row[0]),
        conversation_id=id_of(row[1]),
        parent_id=_id(row[2]),
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
