"""Conversations to be read by people: the current branch in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from chatkeep.exports.formats.text import ASSISTANT, time_text
from chatkeep.model import Status
from chatkeep.store.exports import ConversationRow, MessageRow, kind_of

# In both languages of the page, wherever the file is read (GB 45438-2025 asks for the mark in the text itself).
AI_GENERATED = "AI generated · AI 生成"


class Markdown:
    """A heading for each conversation and each message; what was said stands there as it is."""

    media_type: ClassVar = "text/markdown"
    suffix: ClassVar = "md"
    branch_only: ClassVar = True
    records: ClassVar = False

    def __init__(self) -> None:
        self._between = ""

    def begin(self) -> bytes:
        """Return nothing: the first heading is the beginning."""
        return b""

    def conversation(self, row: ConversationRow) -> bytes:
        """Return the conversation's heading, and its system prompt."""
        between, self._between = self._between, "---\n\n"
        system = f"## System\n\n{row.system}\n\n" if row.system else ""
        return f"{between}# {' '.join(row.title.split())}\n\n{system}".encode()

    def messages(self, rows: Sequence[MessageRow]) -> bytes:
        """Return the messages under headings."""
        return b"".join(_heading(row) + row.content + b"\n\n" for row in map(MessageRow._make, rows))

    def finish(self) -> bytes:
        """Return nothing: the last message is the end."""
        return b""


def _heading(row: MessageRow) -> bytes:
    """Return who says it and when; of a reply also that a model wrote it, and what became of it if it isn't whole."""
    kind = kind_of(row.kind)
    notes = [time_text(row.timestamp).decode()]
    if kind.role == ASSISTANT:
        notes = [AI_GENERATED, *([kind.model] if kind.model else []), *notes]
    if kind.status != Status.COMPLETED:
        notes.append(kind.status)
    return f"## {kind.role.capitalize()}\n\n*{' · '.join(notes)}*\n\n".encode()
