"""Lossless formats with every message of the tree: one JSON document, or JSON Lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from chatkeep.exports.formats.text import encode, one_line, second_text, time_text, uuid_text, uuid_texts
from chatkeep.store.exports import ConversationRow, RecordRow
from chatkeep.store.tombstones import TombstoneRow

VERSION = 1


@dataclass(frozen=True, slots=True)
class Seal:
    """The last line: counts, and the SHA-256 of all bytes before this line.

    ``tombstones`` is the number in an increment; ``cursor`` begins the next one.
    """

    conversations: int
    messages: int
    sha256: str
    tombstones: int | None = None
    cursor: str | None = None


class Ndjson:
    """A line for each conversation, followed by one for each of its messages."""

    media_type: ClassVar = "application/x-ndjson"
    suffix: ClassVar = "ndjson"
    branch_only: ClassVar = False
    records: ClassVar = True

    def __init__(self) -> None:
        self._head = b""

    def begin(self, since: str | None = None) -> bytes:
        """Return the line with the file's type, and the cursor of an increment."""
        return _head(since) + b"\n"

    def conversation(self, row: ConversationRow) -> bytes:
        """Return the conversation's line."""
        self._head = b'{"object":"message","conversation_id":"%b","id":"' % uuid_text(row.id)
        return encode(_conversation(row)) + b"\n"

    def messages(self, rows: Sequence[RecordRow]) -> bytes:
        """Return the messages' lines."""
        return _records(rows, self._head, self._head, b"}\n")

    def finish(self) -> bytes:
        """Return nothing: the seal ends it."""
        return b""

    def tombstones(self, pages: Iterable[list[TombstoneRow]]) -> Iterator[bytes]:
        """Yield a line for each tombstone, page by page."""
        for rows in pages:
            yield b"".join(encode(_tombstone(row)) + b"\n" for row in rows)

    def seal(self, seal: Seal) -> bytes:
        """Return the last line."""
        return encode(_end(seal)) + b"\n"


class Json:
    """One document in which every conversation holds its messages."""

    media_type: ClassVar = "application/json"
    suffix: ClassVar = "json"
    branch_only: ClassVar = False
    records: ClassVar = True

    def __init__(self) -> None:
        self._between = b""
        self._first = b""

    def begin(self, since: str | None = None) -> bytes:
        """Return the document's beginning, with the cursor of an increment."""
        return _head(since)[:-1] + b',"conversations":[\n'

    def conversation(self, row: ConversationRow) -> bytes:
        """Return the conversation up to its first message."""
        between, self._between, self._first = self._between, b"\n]},\n", b""
        return between + encode(_conversation(row))[:-1] + b',"messages":[\n'

    def messages(self, rows: Sequence[RecordRow]) -> bytes:
        """Return the next messages."""
        head = b'{"object":"message","id":"'
        written = _records(rows, self._first + head, b",\n" + head, b"}")
        self._first = b",\n" if written else self._first
        return written

    def finish(self) -> bytes:
        """Return the end of the last conversation and of the list."""
        return (b"\n]}\n" if self._between else b"") + b"],\n"

    def tombstones(self, pages: Iterable[list[TombstoneRow]]) -> Iterator[bytes]:
        """Yield the list of tombstones, page by page."""
        yield b'"tombstones":[\n'
        between = b""
        for rows in pages:
            yield between + b",\n".join(encode(_tombstone(row)) for row in rows)
            between = b",\n"
        yield b"\n],\n"

    def seal(self, seal: Seal) -> bytes:
        """Return the last line, which is the document's last member."""
        return b'"end":' + encode(_end(seal)) + b"}\n"


def _head(since: str | None) -> bytes:
    return encode(_without_none({"object": "export", "version": VERSION, "since": since}))


def _conversation(row: ConversationRow) -> dict[str, Any]:
    return {
        "object": "conversation",
        "id": uuid_text(row.id).decode(),
        "title": row.title,
        "system": row.system,
        "ttl": row.ttl,
        "pinned": bool(row.pinned),
        "metadata": msgspec.Raw(row.metadata.encode()),
        "message_count": row.message_count,
        "current_id": None if row.current_id is None else uuid_text(row.current_id).decode(),
        "created_at": time_text(row.created_at).decode(),
        "last_active": time_text(row.last_active).decode(),
        "expires_at": None if row.expires_at is None else time_text(row.expires_at).decode(),
    }


def _tombstone(row: TombstoneRow) -> dict[str, Any]:
    return {
        "object": "tombstone",
        "id": uuid_text(row.conversation_id).decode(),
        "reason": row.reason,
        "deleted_at": time_text(row.deleted_at).decode(),
    }


def _end(seal: Seal) -> dict[str, Any]:
    return _without_none(
        {
            "object": "export.end",
            "conversations": seal.conversations,
            "messages": seal.messages,
            "tombstones": seal.tombstones,
            "sha256": seal.sha256,
            "cursor": seal.cursor,
        }
    )


def _without_none(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _records(rows: Sequence[RecordRow], first: bytes, following: bytes, tail: bytes) -> bytes:
    """Render messages as JSON. ``first`` and ``following`` are what precedes their ids."""
    parts: list[bytes] = []
    head, previous, previous_text = first, b"", b""
    for text, row in zip(uuid_texts([row[1] for row in rows]), rows, strict=True):
        _, id, parent_id, timestamp, members = row  # noqa: A001
        if parent_id is None:
            parent = b'","parent_id":null,"timestamp":"'
        else:
            # Usually the previous message, whose text is known.
            parent_text = previous_text if parent_id == previous else uuid_text(parent_id)
            parent = b'","parent_id":"' + parent_text + b'","timestamp":"'
        second, fraction = divmod(timestamp, 1_000_000)
        parts += (head, text, parent, second_text(second), b'%06dZ"' % fraction, one_line(members), tail)
        head, previous, previous_text = following, id, text
    return b"".join(parts)
