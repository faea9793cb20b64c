"""Everything there is, as one JSON document or as JSON lines: lossless, every message of the tree."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec

from chatkeep.exports.formats.text import encode, second_text, time_text, uuid_text
from chatkeep.store.exports import ConversationRow, RecordRow

VERSION = 1


class Ndjson:
    """A line for each conversation, followed by one for each of its messages."""

    media_type: ClassVar = "application/x-ndjson"
    suffix: ClassVar = "ndjson"
    branch_only: ClassVar = False
    records: ClassVar = True
    sealed: ClassVar = True

    def __init__(self) -> None:
        self._head = b""

    def begin(self) -> bytes:
        """Return the line that names the kind of file."""
        return encode({"object": "export", "version": VERSION}) + b"\n"

    def conversation(self, row: ConversationRow) -> bytes:
        """Return the conversation's line."""
        self._head = b'{"object":"message","conversation_id":"%b","id":"' % uuid_text(row.id)
        return encode(_conversation(row)) + b"\n"

    def messages(self, rows: Iterable[RecordRow]) -> bytes:
        """Return the messages' lines."""
        return _records(rows, self._head, self._head, b"}\n")

    def finish(self) -> bytes:
        """Return nothing: the seal ends it."""
        return b""

    def seal(self, conversations: int, messages: int, sha256: str) -> bytes:
        """Return the last line."""
        return encode(_end(conversations, messages, sha256)) + b"\n"


class Json:
    """One document in which every conversation holds its messages."""

    media_type: ClassVar = "application/json"
    suffix: ClassVar = "json"
    branch_only: ClassVar = False
    records: ClassVar = True
    sealed: ClassVar = True

    def __init__(self) -> None:
        self._between = b""
        self._first = b""

    def begin(self) -> bytes:
        """Return what is around the conversations."""
        return b'{"object":"export","version":%d,"conversations":[\n' % VERSION

    def conversation(self, row: ConversationRow) -> bytes:
        """Return a conversation up to its first message."""
        between, self._between, self._first = self._between, b"\n]},\n", b""
        return between + encode(_conversation(row))[:-1] + b',"messages":[\n'

    def messages(self, rows: Iterable[RecordRow]) -> bytes:
        """Return the next messages."""
        head = b'{"object":"message","id":"'
        written = _records(rows, self._first + head, b",\n" + head, b"}")
        self._first = b",\n" if written else self._first
        return written

    def finish(self) -> bytes:
        """Return what ends the last conversation and the list of them."""
        return (b"\n]}\n" if self._between else b"") + b"],\n"

    def seal(self, conversations: int, messages: int, sha256: str) -> bytes:
        """Return the last line, which is the document's last member."""
        return b'"end":' + encode(_end(conversations, messages, sha256)) + b"}\n"


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


def _end(conversations: int, messages: int, sha256: str) -> dict[str, Any]:
    return {"object": "export.end", "conversations": conversations, "messages": messages, "sha256": sha256}


def _records(rows: Iterable[RecordRow], first: bytes, following: bytes, tail: bytes) -> bytes:
    """Return messages as JSON; what they begin with ends just before the id."""
    parts: list[bytes] = []
    head, previous, previous_text = first, b"", b""
    for _, id, parent_id, timestamp, members in rows:  # noqa: A001
        if parent_id is None:
            parent = b'","parent_id":null,"timestamp":"'
        else:
            # Mostly the message before, whose text is there.
            text = previous_text if parent_id == previous else uuid_text(parent_id)
            parent = b'","parent_id":"' + text + b'","timestamp":"'
        previous, previous_text = id, uuid_text(id)
        second, fraction = divmod(timestamp, 1_000_000)
        parts += (head, previous_text, parent, second_text(second), b'%06dZ"' % fraction, members, tail)
        head = following
    return b"".join(parts)
