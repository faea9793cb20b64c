"""OpenAI's fine-tuning format (JSON Lines)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from chatkeep.domain.conversation import Role
from chatkeep.exports.formats.text import json_text
from chatkeep.exports.formats.turns import Turn, Turns
from chatkeep.store.exports import ConversationRow, MessageRow

_LINE = b'{"messages":['


class FineTuning:
    """A line for each conversation: the system prompt, then the turns with a complete answer.

    Skips questions without such an answer, and conversations without turns. An answer in several steps is one message.
    OpenAI accepts no other fields, so only the role says that a message is AI-generated.
    """

    media_type: ClassVar = "application/jsonl"
    suffix: ClassVar = "jsonl"
    branch_only: ClassVar = True
    records: ClassVar = False

    def __init__(self) -> None:
        self._head = _LINE
        self._tail = b""
        self._turns = Turns()

    def begin(self) -> bytes:
        """Return nothing."""
        return b""

    def conversation(self, row: ConversationRow) -> bytes:
        """Return the end of the previous line. The new line begins with its first turn."""
        ended = self.finish()
        system = _message(Role.SYSTEM, row.system.encode()) + b"," if row.system else b""
        self._head = _LINE + system
        return ended

    def messages(self, rows: Sequence[MessageRow]) -> bytes:
        """Return the complete turns."""
        return self._written(self._turns.add(rows))

    def finish(self) -> bytes:
        """Return the last turn, and the end of the last line."""
        last = self._written(self._turns.finish())
        ended, self._tail = self._tail, b""
        return last + ended

    def _written(self, turns: Iterable[Turn]) -> bytes:
        parts: list[bytes] = []
        for question, replies, whole in turns:
            if not whole or question is None:
                continue
            answer = b"\n\n".join(reply.content for reply in replies if reply.content)
            turn = _message(Role.USER, question.content) + b"," + _message(Role.ASSISTANT, answer)
            parts.append(self._head + turn)
            self._head, self._tail = b",", b"]}\n"
        return b"".join(parts)


def _message(role: Role, content: bytes) -> bytes:
    return b'{"role":"%b","content":"%b"}' % (role.encode(), json_text(content))
