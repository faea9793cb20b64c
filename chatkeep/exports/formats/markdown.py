"""The current branch as Markdown, for reading."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from chatkeep.domain.conversation import Status
from chatkeep.exports.formats.markup import embedded, title
from chatkeep.exports.formats.text import ASSISTANT, time_text
from chatkeep.exports.formats.turns import Ending, Turn, Turns, ending_of
from chatkeep.store.exports import ConversationRow, Kind, MessageRow, kind_of

# In both languages, wherever the file is read. GB 45438-2025 requires the mark in the text itself.
AI_GENERATED = "AI generated · AI 生成"


class Markdown:
    """A heading for each conversation, question and reply, with the text as Markdown below it."""

    media_type: ClassVar = "text/markdown"
    suffix: ClassVar = "md"
    branch_only: ClassVar = True
    records: ClassVar = False

    def __init__(self) -> None:
        self._between = ""
        self._turns = Turns()

    def begin(self) -> bytes:
        """Return nothing."""
        return b""

    def conversation(self, row: ConversationRow) -> bytes:
        """Return the end of the previous conversation, then this one's heading and system prompt."""
        ended = self.finish()
        between, self._between = self._between, "---\n\n"
        system = b"## System\n\n%b\n\n" % embedded(row.system.encode()) if row.system else b""
        return ended + f"{between}# {title(row.title)}\n\n".encode() + system

    def messages(self, rows: Sequence[MessageRow]) -> bytes:
        """Return the complete turns with their headings."""
        return b"".join(map(_turn, self._turns.add(rows)))

    def finish(self) -> bytes:
        """Return the last turn."""
        return b"".join(map(_turn, self._turns.finish()))


def _turn(turn: Turn) -> bytes:
    asked = turn.question
    said = [(asked.timestamp, asked.content, kind_of(asked.kind))] if asked else []
    return b"".join(_said(*one) for one in (*said, *turn.replies))


def _said(timestamp: int, content: bytes, kind: Kind) -> bytes:
    """Render a message: role, time and text; for a reply also the AI mark, the model and why it is incomplete."""
    notes = [time_text(timestamp).decode()]
    if kind.role == ASSISTANT:
        notes = [AI_GENERATED, *([title(kind.model)] if kind.model else []), *notes]
    if kind.status != Status.COMPLETED:
        notes.append(kind.status)
    elif kind.finish_reason and ending_of(kind) is not Ending.WHOLE:
        notes.append(title(kind.finish_reason))
    return f"## {kind.role.capitalize()}\n\n*{' · '.join(notes)}*\n\n".encode() + embedded(content) + b"\n\n"
