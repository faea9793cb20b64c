"""Read the tables for an export, by keyset pagination, with texts as UTF-8 bytes.

Decoding texts to ``str`` only to write them to a file would take a third of an export's CPU time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from chatkeep.store.sql import Connection, Sql, in_list, quoted

# A piece is read and rendered at once. It ends with whichever comes first, as a message may have a megabyte.
PIECE = 400
PIECE_BYTES = 256 * 1024
_CONVERSATIONS = 100
# A running reply keeps its conversation alive, and postpones its expiry when it ends.
_ALIVE = (
    "(expires_at IS NULL OR expires_at > :now"
    " OR EXISTS (SELECT 1 FROM leases WHERE leases.conversation_id = conversations.id))"
)
_COUNT = Sql(f"SELECT COUNT(*) FROM conversations WHERE owner = :owner AND {_ALIVE}")  # noqa: S608
_LAST = Sql("SELECT MAX(id) FROM conversations WHERE owner = :owner")
_EARLIEST, _LATEST = -(2**63), 2**63 - 1
_TIMESTAMP = 3  # its index in both kinds of rows


@dataclass(frozen=True, slots=True)
class Selection:
    """What to export: all conversations of an owner, or one.

    ``start`` (inclusive) and ``end`` (exclusive) limit messages by time, in µs since 1970. ``since`` selects what has
    changed after that epoch, ``branch_only`` the messages of the current branch. Messages come as `RecordRow` if
    ``records`` is set, else as `MessageRow`.
    """

    owner: str
    conversation_id: UUID | None = None
    start: int | None = None
    end: int | None = None
    since: int | None = None
    branch_only: bool = False
    records: bool = False

    @property
    def ranged(self) -> bool:
        """Whether conversations without a message in the range are skipped."""
        return self.start is not None or self.end is not None


class ConversationRow(NamedTuple):
    """A conversation's columns."""

    id: bytes
    title: str
    system: str | None
    metadata: str
    created_at: int
    last_active: int
    ttl: int | None
    expires_at: int | None
    pinned: int
    message_count: int
    current_id: bytes | None
    epoch: int


class RecordRow(NamedTuple):
    """A message for lossless formats: the database renders the JSON members after the timestamp.

    Rendering them in Python costs a fifth more of an export's CPU time, and holds the GIL.
    """

    conversation_id: bytes
    id: bytes
    parent_id: bytes | None
    timestamp: int
    members: bytes


class MessageRow(NamedTuple):
    """A message's columns; ``kind`` is the JSON of a `Kind`."""

    conversation_id: bytes
    id: bytes
    parent_id: bytes | None
    timestamp: int
    position: int
    content: bytes
    reasoning: bytes
    input_tokens: int | None
    output_tokens: int
    """Undefined if ``input_tokens`` is None."""
    kind: str


class Kind(NamedTuple):
    """The columns with few distinct values. They are read as one text, whose decoding is cached."""

    on_branch: int
    role: str
    status: str
    model: str | None
    finish_reason: str | None
    error: str | None
    cached: int


Piece = tuple[list[ConversationRow], list[Any]]
_KEYS = "conversation_id, message_id, parent_id, timestamp"
_OPTIONAL = ("model", "finish_reason", "error", "error_detail")
_MEMBERS = {
    "position": "`position`",
    "on_branch": "CASE on_branch WHEN 1 THEN 'true' ELSE 'false' END",
    "role": """'"', `role`, '"'""",  # an enumeration, like the status
    "ai_generated": "CASE `role` WHEN 'assistant' THEN 'true' ELSE 'false' END",
    "status": """'"', status, '"'""",
    **{name: f"CASE WHEN {name} IS NULL THEN 'null' ELSE JSON_QUOTE({name}) END" for name in _OPTIONAL},
    "cached": "CASE cached WHEN 1 THEN 'true' ELSE 'false' END",
    "usage": "CASE WHEN input_tokens IS NULL THEN 'null' ELSE"
    """ CONCAT('{"input_tokens":', input_tokens, ',"output_tokens":', output_tokens, '}') END""",
    "content": "JSON_QUOTE(content)",
    "reasoning": "JSON_QUOTE(reasoning)",
}


class _AdaptiveLimit:
    """Adapts a query's LIMIT to the size of rows.

    MySQL sends all rows of a result even if only the first are read, so ask for fewer after long ones.
    """

    def __init__(self, most: int) -> None:
        self.rows = most
        self._most = most

    def read(
        self, connection: Connection, sql: Sql, values: dict[str, Any], size_of: Callable[[tuple[Any, ...]], int]
    ) -> tuple[list[tuple[Any, ...]], bool]:
        """Return rows up to `PIECE_BYTES`, and whether there may be more."""
        found: list[tuple[Any, ...]] = []
        asked, size = self.rows, 0
        with connection.stream(sql, limit=asked, **values) as rows:
            for row in islice(rows, asked):
                found.append(row)
                size += size_of(row)
                if size >= PIECE_BYTES:
                    break
        self.rows = min(self._most, 2 * (len(found) if size >= PIECE_BYTES else asked))
        return found, size >= PIECE_BYTES or len(found) == asked


class Pages:
    """Reads a selection in pages: conversations by id, which is by creation, and their messages by time.

    Between pages no cursor is open, which would keep SQLite's write-ahead log growing.

    An increment is read by epoch and id. A conversation that changes meanwhile moves to the current epoch, ahead of the
    position, so nothing is missed, but it may come twice.
    """

    def __init__(self, selection: Selection) -> None:
        self.ended = False
        self._selection = selection
        self._last: bytes | None = None
        self._epoch = 0 if selection.since is None else selection.since + 1
        self._after = b""
        self._within: int | None = None  # the messages of the conversation ``_after`` are read up to this time
        self._conversations, self._messages = _AdaptiveLimit(_CONVERSATIONS), _AdaptiveLimit(PIECE)

    def page(self, connection: Connection, now: int) -> Iterator[Piece]:
        """Yield the next pieces: conversations that begin there, and messages of these or of the previous one.

        The caller ends a page by stopping the iteration. `ended` is set when nothing is left.
        """
        yield from self._rest(connection)
        batch = self._read_conversations(connection, now)
        self.ended = not batch
        while batch:
            group = _fitting(batch, self._messages.rows)
            messages = self._read_messages(connection, [one.id for one in group], self._selection.start)
            if self._within is not None:
                group = [one for one in group if one.id <= messages[-1][0]]
            self._epoch, self._after = group[-1].epoch, group[-1].id
            del batch[: len(group)]
            yield group, messages
            yield from self._rest(connection)

    def _rest(self, connection: Connection) -> Iterator[Piece]:
        """Yield the rest of a conversation that is larger than a piece."""
        while self._within is not None:
            yield [], self._read_messages(connection, [self._after], self._within + 1)

    def _read_conversations(self, connection: Connection, now: int) -> list[ConversationRow]:
        selection = self._selection
        if self._last is None:
            # Skip conversations that begin during the export, or it might never end.
            self._last = connection.rows(_LAST, owner=selection.owner)[0][0] or b""
        values = {"owner": selection.owner, "now": now, "after": self._after, "last": self._last}
        if selection.conversation_id is not None:
            values["id"] = selection.conversation_id.bytes
        if selection.since is not None:
            values["epoch"] = self._epoch
        if selection.ranged:
            values |= self._range(selection.start)
        sql = _conversation_sql(
            one=selection.conversation_id is not None, ranged=selection.ranged, changed=selection.since is not None
        )
        found, _ = self._conversations.read(connection, sql, values, _size_of_conversation)
        return [ConversationRow._make(row) for row in found]

    def _read_messages(self, connection: Connection, ids: list[bytes], start: int | None) -> list[Any]:
        selection = self._selection
        values = in_list("of", ids)[1] | self._range(start)
        if selection.since is not None:
            values["since"] = selection.since
        sql = _message_sql(
            len(ids), branch_only=selection.branch_only, records=selection.records, changed=selection.since is not None
        )
        size_of = _size_of_record if selection.records else _size_of_message
        found, more = self._messages.read(connection, sql, values, size_of)
        self._within = found[-1][_TIMESTAMP] if more else None
        return found

    def _range(self, start: int | None) -> dict[str, int]:
        end = self._selection.end
        return {"start": _EARLIEST if start is None else start, "end": _LATEST if end is None else end}


def count(connection: Connection, owner: str, now: int) -> int:
    """Return how many conversations an owner has."""
    return int(connection.rows(_COUNT, owner=owner, now=now)[0][0])


@lru_cache(maxsize=1024)
def kind_of(text: str) -> Kind:
    """Decode `MessageRow.kind`."""
    return Kind(*json.loads(text))


def _fitting(batch: list[ConversationRow], most: int) -> list[ConversationRow]:
    """Return the first conversations of a batch with fewer than ``most`` messages; a larger one comes alone.

    Their ids ascend, so the last message read tells which of them are read.
    """
    messages = 0
    for index, row in enumerate(batch):
        messages += row.message_count
        if index and (messages >= most or row.id < batch[index - 1].id):
            return batch[:index]
    return batch[:]


def _size_of_conversation(row: tuple[Any, ...]) -> int:
    _, title, system, metadata, *_ = row
    return len(title) + len(system or "") + len(metadata)


def _size_of_record(row: tuple[Any, ...]) -> int:
    return len(row[4])


def _size_of_message(row: tuple[Any, ...]) -> int:
    return len(row[5]) + len(row[6])


@cache
def _conversation_sql(*, one: bool, ranged: bool, changed: bool) -> Sql:
    """Return the statement that reads conversations by id, or by epoch and id."""
    where = f"owner = :owner AND {_ALIVE} AND id <= :last"
    where += " AND epoch >= :epoch AND (epoch > :epoch OR id > :after)" if changed else " AND id > :after"
    where += " AND id = :id" if one else ""
    # A conversation is created before its first message, and active until its last one or later.
    where += " AND last_active >= :start AND created_at < :end" if ranged else ""
    order, index = ("epoch, id", "epoch") if changed else ("id", "of_owner")
    # Without the hint, MySQL would sort all conversations rather than scan the index.
    hint = "" if one else f" FORCE INDEX (ix_conversations_{index})"
    select, rest = f"SELECT {quoted(ConversationRow._fields)} FROM conversations", f"WHERE {where} ORDER BY {order}"  # noqa: S608 - fixed parts only
    return Sql(f"{select} {rest} LIMIT :limit", mysql=f"{select}{hint} {rest} LIMIT :limit")


@cache
def _message_sql(amount: int, *, branch_only: bool, records: bool, changed: bool) -> Sql:
    """Return the statement that reads the messages of ``amount`` conversations.

    SQLite reads only as far as the caller does, and would be a quarter slower with a LIMIT.
    """
    places, _ = in_list("of", range(amount))
    where = f"conversation_id IN ({places}) AND timestamp >= :start AND timestamp < :end"
    where += " AND on_branch = 1" if branch_only else ""
    where += " AND epoch > :since" if changed else ""
    order = "ORDER BY conversation_id, timestamp"
    columns = _record_columns if records else _plain_columns
    return Sql(
        f"SELECT {columns('BLOB')} FROM messages WHERE {where} {order}",  # noqa: S608 - fixed parts only
        mysql=f"SELECT {columns('BINARY')} FROM messages WHERE {where} {order} LIMIT :limit",  # noqa: S608
    )


def _record_columns(binary: str) -> str:
    members = ", ".join(f"""',"{name}":', {expression}""" for name, expression in _MEMBERS.items())
    return f"{_KEYS}, CAST(CONCAT({members}) AS {binary})"


def _plain_columns(binary: str) -> str:
    texts = f"CAST(content AS {binary}), CAST(reasoning AS {binary})"
    return f"{_KEYS}, `position`, {texts}, input_tokens, output_tokens, JSON_ARRAY({quoted(Kind._fields)})"
