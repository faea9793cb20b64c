"""Reading the tables for an export: in keyset pages, as rows whose text is UTF-8 in bytes.

Text that only travels into a file need not become ``str`` first: that would be a third of an export's CPU time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from chatkeep.store.sql import Connection, Sql, in_list

# Messages that are read and rendered at once. More would be no faster, and each may have a megabyte.
PIECE = 100
_CONVERSATIONS = 100
_ALIVE = "(expires_at IS NULL OR expires_at > :now)"
_COUNT = Sql(f"SELECT COUNT(*) FROM conversations WHERE owner = :owner AND {_ALIVE}")  # noqa: S608
_EARLIEST, _LATEST = -(2**63), 2**63 - 1
_TIMESTAMP = 3  # where it stands in both kinds of rows


@dataclass(frozen=True, slots=True)
class Scope:
    """What is exported: everything of the owner, or one conversation.

    Only messages from ``start`` on and before ``end`` (µs since 1970) count, and with ``branch_only`` only those of the
    current branch. ``records`` asks for `RecordRow`, else messages are a `MessageRow` each.
    """

    owner: str
    conversation_id: UUID | None = None
    start: int | None = None
    end: int | None = None
    branch_only: bool = False
    records: bool = False

    @property
    def ranged(self) -> bool:
        """Whether conversations without a message in the range are left out."""
        return self.start is not None or self.end is not None


class ConversationRow(NamedTuple):
    """A conversation's columns as they are stored."""

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


class RecordRow(NamedTuple):
    """A message of which the database has made a part of a JSON object: the members behind the timestamp.

    That costs half of what it would in Python, and other threads run meanwhile.
    """

    conversation_id: bytes
    id: bytes
    parent_id: bytes | None
    timestamp: int
    members: bytes


class MessageRow(NamedTuple):
    """A message's columns as they are stored; ``kind`` is the JSON of a `Kind`."""

    conversation_id: bytes
    id: bytes
    parent_id: bytes | None
    timestamp: int
    position: int
    content: bytes
    reasoning: bytes
    input_tokens: int | None
    output_tokens: int
    """Says nothing where ``input_tokens`` is None."""
    kind: str


class Kind(NamedTuple):
    """The columns that have few different values: read as one text, they need to be looked at but once for each."""

    on_branch: int
    role: str
    status: str
    model: str | None
    finish_reason: str | None
    error: str | None
    cached: int


Piece = tuple[list[ConversationRow], list[Any]]
_KEYS = "conversation_id, message_id, parent_id, timestamp"
_MEMBERS = {
    "position": "position",
    "on_branch": "CASE on_branch WHEN 1 THEN 'true' ELSE 'false' END",
    "role": "JSON_QUOTE(role)",
    "ai_generated": "CASE role WHEN 'assistant' THEN 'true' ELSE 'false' END",
    "status": "JSON_QUOTE(status)",
    "model": "COALESCE(JSON_QUOTE(model), 'null')",
    "finish_reason": "COALESCE(JSON_QUOTE(finish_reason), 'null')",
    "error": "COALESCE(JSON_QUOTE(error), 'null')",
    "cached": "CASE cached WHEN 1 THEN 'true' ELSE 'false' END",
    "usage": "CASE WHEN input_tokens IS NULL THEN 'null' ELSE"
    """ CONCAT('{"input_tokens":', input_tokens, ',"output_tokens":', output_tokens, '}') END""",
    "content": "JSON_QUOTE(content)",
    "reasoning": "JSON_QUOTE(reasoning)",
}


class Pages:
    """What is in a scope, page by page: conversations by id, which is by creation, and their messages by time.

    Between two pages nothing of the database is held: an open cursor would keep SQLite's write-ahead log growing.
    """

    def __init__(self, scope: Scope) -> None:
        self.ended = False
        self._scope = scope
        self._after = b""
        self._within: int | None = None  # the time up to which the messages of the conversation ``_after`` are read

    def page(self, connection: Connection, now: int) -> Iterator[Piece]:
        """Yield the next pieces: the conversations that begin there, and messages of these or of the one before.

        Whoever iterates decides where the page ends. `ended` is set once there is nothing left.
        """
        yield from self._rest(connection)
        batch = self._conversations(connection, now)
        self.ended = not batch
        for group in _groups(batch):
            messages = self._messages(connection, [one.id for one in group], self._scope.start)
            self._after = group[-1].id
            yield group, messages
            yield from self._rest(connection)

    def _rest(self, connection: Connection) -> Iterator[Piece]:
        """Yield what is left of a conversation that is larger than a piece."""
        while self._within is not None:
            yield [], self._messages(connection, [self._after], self._within + 1)

    def _conversations(self, connection: Connection, now: int) -> list[ConversationRow]:
        scope = self._scope
        sql = _conversation_sql(one=scope.conversation_id is not None, ranged=scope.ranged)
        values = {"owner": scope.owner, "now": now, "after": self._after, "limit": _CONVERSATIONS}
        if scope.conversation_id is not None:
            values["id"] = scope.conversation_id.bytes
        if scope.ranged:
            values |= self._range(scope.start)
        return [ConversationRow._make(row) for row in connection.rows(sql, **values)]

    def _messages(self, connection: Connection, ids: list[bytes], start: int | None) -> list[Any]:
        alone = len(ids) == 1
        sql = _message_sql(len(ids), alone=alone, branch_only=self._scope.branch_only, records=self._scope.records)
        limit = {"limit": PIECE} if alone else {}
        found = connection.rows(sql, **in_list("of", ids)[1], **self._range(start), **limit)
        self._within = found[-1][_TIMESTAMP] if alone and len(found) == PIECE else None
        return found

    def _range(self, start: int | None) -> dict[str, int]:
        end = self._scope.end
        return {"start": _EARLIEST if start is None else start, "end": _LATEST if end is None else end}


def count(connection: Connection, owner: str, now: int) -> int:
    """Return how many conversations the owner has."""
    return int(connection.rows(_COUNT, owner=owner, now=now)[0][0])


@lru_cache(maxsize=1024)
def kind_of(text: str) -> Kind:
    """Return the kind of a row."""
    return Kind(*json.loads(text))


def _groups(batch: list[ConversationRow]) -> Iterator[list[ConversationRow]]:
    """Yield the conversations in groups of at most `PIECE` messages; a larger one is a group by itself."""
    group: list[ConversationRow] = []
    messages = 0
    for row in batch:
        if group and messages + row.message_count > PIECE:
            yield group
            group, messages = [], 0
        group.append(row)
        messages += row.message_count
    if group:
        yield group


@cache
def _conversation_sql(*, one: bool, ranged: bool) -> Sql:
    """Return the statement that reads conversations in the order of the primary key.

    Both planners would rather take the owner's index, and sort all that the owner has for each page.
    """
    where = f"{_ALIVE} AND id > :after"
    where += " AND id = :id" if one else ""
    # A conversation is created before its first message and active at least until its last one.
    where += " AND last_active >= :start AND created_at < :end" if ranged else ""
    columns, order = ", ".join(ConversationRow._fields), "ORDER BY id LIMIT :limit"
    return Sql(
        f"SELECT {columns} FROM conversations WHERE +owner = :owner AND {where} {order}",  # noqa: S608 - fixed parts
        mysql=f"SELECT {columns} FROM conversations FORCE INDEX (PRIMARY) WHERE owner = :owner AND {where} {order}",  # noqa: S608
    )


@cache
def _message_sql(amount: int, *, alone: bool, branch_only: bool, records: bool) -> Sql:
    """Return the statement that reads the messages of ``amount`` conversations; of one alone, only a piece."""
    places, _ = in_list("of", range(amount))
    where = f"conversation_id IN ({places}) AND timestamp >= :start AND timestamp < :end"
    where += " AND on_branch = 1" if branch_only else ""
    order = "ORDER BY conversation_id, timestamp" + (" LIMIT :limit" if alone else "")
    columns = _record_columns if records else _plain_columns
    return Sql(
        f"SELECT {columns('BLOB')} FROM messages WHERE {where} {order}",  # noqa: S608 - fixed parts only
        mysql=f"SELECT {columns('BINARY')} FROM messages WHERE {where} {order}",  # noqa: S608
    )


def _record_columns(binary: str) -> str:
    members = ", ".join(f"""',"{name}":', {expression}""" for name, expression in _MEMBERS.items())
    return f"{_KEYS}, CAST(CONCAT({members}) AS {binary})"


def _plain_columns(binary: str) -> str:
    texts = f"CAST(content AS {binary}), CAST(reasoning AS {binary})"
    return f"{_KEYS}, position, {texts}, input_tokens, output_tokens, JSON_ARRAY({', '.join(Kind._fields)})"
