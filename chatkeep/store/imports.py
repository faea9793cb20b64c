"""Write imported messages, many in one statement, and look up the positions of stored ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from chatkeep.domain.conversation import Message, Status, id_of
from chatkeep.store.sql import Connection, Sql, in_list, quoted
from chatkeep.store.transaction import Transaction

# The most rows and characters of a statement: MySQL takes 16 MiB by default.
_ROWS, _CHARACTERS = 50, 500_000
_IDS = 200
_COLUMNS = (
    "message_id", "conversation_id", "parent_id", "position", "on_branch", "role", "content", "reasoning", "written",
    "timestamp", "status", "model", "finish_reason", "error", "error_detail", "input_tokens",
    "output_tokens", "cached",
)  # fmt: skip
_POSITION = quoted(
    ("message_id", "conversation_id", "parent_id", "timestamp", "position", "status", "written", "on_branch")
)
_OWNER = Sql("SELECT owner FROM conversations WHERE id = :id")


class MessagePosition(NamedTuple):
    """The position of a stored message in its conversation, and the length of its text."""

    conversation_id: UUID
    parent_id: UUID | None
    timestamp: int
    position: int
    status: Status
    written: int
    """Characters of its text and reasoning."""
    on_branch: bool


def owner_of(connection: Connection, id: UUID) -> str | None:
    """Return the owner of a conversation, expired or not, or None if there is none."""
    rows = connection.rows(_OWNER, id=id.bytes)
    return str(rows[0][0]) if rows else None


def positions(connection: Connection, ids: Iterable[UUID]) -> dict[UUID, MessagePosition]:
    """Return the positions of those messages that are stored, in any conversation."""
    found: dict[UUID, MessagePosition] = {}
    for some in _chunks([id.bytes for id in ids]):  # noqa: A001
        named, values = in_list("id", some)
        sql = f"SELECT {_POSITION} FROM messages WHERE message_id IN ({named})"  # noqa: S608
        for row in connection.rows(Sql(sql), **values):
            parent_id = id_of(row[2]) if row[2] else None
            found[id_of(row[0])] = MessagePosition(
                id_of(row[1]), parent_id, row[3], row[4], Status(row[5]), row[6], bool(row[7])
            )
    return found


def remove(connection: Connection, conversation_id: UUID, ids: Iterable[UUID]) -> None:
    """Delete messages of a conversation that are about to be replaced."""
    for some in _chunks([id.bytes for id in ids]):  # noqa: A001
        named, values = in_list("id", some)
        sql = f"DELETE FROM messages WHERE message_id IN ({named}) AND conversation_id = :of"  # noqa: S608
        connection.change(Sql(sql), of=conversation_id.bytes, **values)


def add(connection: Transaction, messages: Iterable[Message], branch: Collection[UUID]) -> None:
    """Insert messages; those in ``branch`` are on the current branch."""
    for some in _statements(messages):
        values: dict[str, Any] = {"epoch": connection.epoch}
        for index, message in enumerate(some):
            row = _values(message, on_branch=message.id in branch)
            values |= {f"{column}_{index}": value for column, value in zip(_COLUMNS, row, strict=True)}
        connection.change(_insert(len(some)), **values)


@lru_cache(maxsize=_ROWS)
def _insert(amount: int) -> Sql:
    rows = ", ".join(f"({', '.join(f':{column}_{index}' for column in _COLUMNS)}, :epoch)" for index in range(amount))
    return Sql(f"INSERT INTO messages ({quoted(_COLUMNS)}, epoch) VALUES {rows}")  # noqa: S608 - names only


def _values(message: Message, *, on_branch: bool) -> tuple[Any, ...]:
    """Return the values of `_COLUMNS`."""
    return (
        message.id.bytes,
        message.conversation_id.bytes,
        message.parent_id.bytes if message.parent_id else None,
        message.position,
        int(on_branch),
        message.role.value,
        message.content,
        message.reasoning,
        len(message.content) + len(message.reasoning),
        message.timestamp,
        message.status.value,
        message.model,
        message.finish_reason,
        message.error,
        message.error_detail,
        message.usage.input_tokens if message.usage else None,
        message.usage.output_tokens if message.usage else None,
        int(message.cached),
    )


def _statements(messages: Iterable[Message]) -> Iterator[list[Message]]:
    """Yield the messages in groups that fit one statement."""
    group: list[Message] = []
    characters = 0
    for message in messages:
        length = len(message.content) + len(message.reasoning)
        if group and (len(group) == _ROWS or characters + length > _CHARACTERS):
            yield group
            group, characters = [], 0
        group.append(message)
        characters += length
    if group:
        yield group


def _chunks(ids: list[bytes]) -> Iterator[list[bytes]]:
    for start in range(0, len(ids), _IDS):
        yield ids[start : start + _IDS]
