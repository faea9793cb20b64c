"""The turns of a branch: each question with every message that answers it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum, auto
from functools import lru_cache
from typing import Any, NamedTuple

from chatkeep.exports.formats.text import ASSISTANT
from chatkeep.model import Role, Status
from chatkeep.store.exports import Kind, MessageRow, kind_of

# A longer turn is handed on in parts, none of which is whole: memory must not grow with what a turn holds.
MOST_BYTES = 4 * 1024 * 1024
# Finish reasons of replies whose rest is missing or in the next message, as providers and other programs write them.
_CUT = {"length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"}
_PAUSED = {"tool_calls", "tool_call", "tool_use", "function_call", "pause_turn"}
_BROKEN = {
    "content_filter", "content_filtered", "filtered", "guardrail_intervened", "sensitive", "safety", "recitation",
    "blocklist", "prohibited_content", "spii", "image_safety", "refusal", "error", "error_toxic", "failed", "abort",
    "aborted", "cancelled", "interrupted", "other", "malformed_function_call", "unexpected_tool_call", "network_error",
    "insufficient_system_resource",
}  # fmt: skip


class Ending(Enum):
    """How a reply ends."""

    WHOLE = auto()
    CUT = auto()  # at a length limit: the next reply goes on amid the word
    PAUSED = auto()  # for a tool: the next reply is the answer, or the next step
    BROKEN = auto()


class Reply(NamedTuple):
    """A reply; one that was continued in further messages is a single one."""

    timestamp: int
    content: bytes
    kind: Kind
    """That of the last message."""


class Turn(NamedTuple):
    """A question and its replies, of which there are several if a model works in steps."""

    question: MessageRow | None
    """None if the replies have no question before them."""
    replies: list[Reply]
    whole: bool
    """Whether the question is a user's, and the replies are the whole answer to it."""


class Turns:
    """Gathers the messages of a branch, which come in any number of pieces, into turns."""

    def __init__(self) -> None:
        self._question: MessageRow | None = None
        self._replies: list[MessageRow] = []
        self._size = 0

    def take(self, rows: Iterable[Any]) -> Iterator[Turn]:
        """Yield the turns that are over with these messages."""
        for row in map(MessageRow._make, rows):
            if kind_of(row.kind).role != ASSISTANT:
                yield from self.end()
                self._question = row
                continue
            self._replies.append(row)
            self._size += len(row.content) + len(row.reasoning)
            if self._size > MOST_BYTES:
                yield self._ended()._replace(whole=False)

    def end(self) -> Iterator[Turn]:
        """Yield the last turn of the branch."""
        if self._question is not None or self._replies:
            yield self._ended()

    def _ended(self) -> Turn:
        question, rows = self._question, self._replies
        self._question, self._replies, self._size = None, [], 0
        asked = question is not None and kind_of(question.kind).role == Role.USER and bool(question.content.strip())
        return Turn(question, list(_joined(rows)), asked and _is_whole(rows))


@lru_cache(maxsize=1024)
def ending_of(kind: Kind) -> Ending:
    """Return how replies of a kind end."""
    reason = (kind.finish_reason or "").lower()
    if reason in _CUT and kind.status in {Status.COMPLETED, Status.TRUNCATED}:
        return Ending.CUT
    if kind.status != Status.COMPLETED or reason in _BROKEN:
        return Ending.BROKEN
    return Ending.PAUSED if reason in _PAUSED else Ending.WHOLE


def _is_whole(rows: list[MessageRow]) -> bool:
    """Return whether replies are an answer: none lacks its rest, but one without text that was tried again."""
    endings = [ending_of(kind_of(row.kind)) for row in rows]
    if endings[-1:] != [Ending.WHOLE] or not any(row.content.strip() for row in rows):
        return False
    return not any(row.content and ending is Ending.BROKEN for row, ending in zip(rows, endings, strict=True))


def _joined(rows: list[MessageRow]) -> Iterator[Reply]:
    parts: list[bytes] = []
    began = 0
    for index, row in enumerate(rows, 1):
        began = began if parts else row.timestamp
        parts.append(row.content)
        kind = kind_of(row.kind)
        if index == len(rows) or ending_of(kind) is not Ending.CUT:
            yield Reply(began, b"".join(parts), kind)
            parts = []
