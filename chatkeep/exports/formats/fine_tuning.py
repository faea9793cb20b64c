"""Conversations to train a model with: OpenAI's JSON lines for fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from chatkeep.exports.formats.text import ASSISTANT, json_text
from chatkeep.model import Role, Status
from chatkeep.store.exports import ConversationRow, MessageRow, kind_of

_LINE = b'{"messages":['


class FineTuning:
    """A line for each conversation: the system prompt, then the turns whose reply is whole.

    A question without such a reply is left out, and so is a conversation without any turn. OpenAI takes no fields of
    others: that a message was generated is told by its role alone.
    """

    media_type: ClassVar = "application/jsonl"
    suffix: ClassVar = "jsonl"
    branch_only: ClassVar = True
    records: ClassVar = False

    def __init__(self) -> None:
        self._head = _LINE
        self._tail = b""
        self._question: bytes | None = None

    def begin(self) -> bytes:
        """Return nothing: the first line is the beginning."""
        return b""

    def conversation(self, row: ConversationRow) -> bytes:
        """Return the end of the line before; this one begins with its first turn."""
        ended = self.finish()
        system = _message(Role.SYSTEM, row.system.encode()) + b"," if row.system else b""
        self._head, self._question = _LINE + system, None
        return ended

    def messages(self, rows: Sequence[MessageRow]) -> bytes:
        """Return the turns that are whole."""
        parts: list[bytes] = []
        for row in map(MessageRow._make, rows):
            kind = kind_of(row.kind)
            if kind.role != ASSISTANT:
                self._question = row.content
            elif kind.status == Status.COMPLETED and self._question is not None:
                turn = _message(Role.USER, self._question) + b"," + _message(Role.ASSISTANT, row.content)
                parts.append(self._head + turn)
                self._head, self._tail, self._question = b",", b"]}\n", None
        return b"".join(parts)

    def finish(self) -> bytes:
        """Return the end of the last line."""
        ended, self._tail = self._tail, b""
        return ended


def _message(role: Role, content: bytes) -> bytes:
    return b'{"role":"%b","content":"%b"}' % (role.encode(), json_text(content))
