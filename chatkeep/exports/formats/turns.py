"""Group the messages of a branch into turns: a question and its replies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum, auto
from functools import lru_cache
from typing import Any, NamedTuple

from chatkeep.domain.conversation import CONTENT_FILTER, LENGTH, REFUSAL, STOP, TOOL_CALLS, Role, Status
from chatkeep.exports.formats.text import ASSISTANT
from chatkeep.provider.finish_reasons import is_failure, reason_of
from chatkeep.store.exports import Kind, MessageRow, kind_of

# A longer turn is passed on in parts that don't count as complete, so that memory stays bounded.
MOST_BYTES = 4 * 1024 * 1024


class Ending(Enum):
    """How a reply ends."""

    WHOLE = auto()
    CUT = auto()  # at a length limit: the next reply continues it
    PAUSED = auto()  # for a tool: the next reply is the answer, or the next step
    BROKEN = auto()


_GOES_ON = {LENGTH: Ending.CUT, TOOL_CALLS: Ending.PAUSED}


class Reply(NamedTuple):
    """A reply, joined with the messages that continue it."""

    timestamp: int
    content: bytes
    kind: Kind
    """The last message's kind."""


class Turn(NamedTuple):
    """A question and its replies; there are several if the model worked in steps."""

    question: MessageRow | None
    """None if there is no question before the replies."""
    replies: list[Reply]
    whole: bool
    """Whether the question is a user's and its answer is complete."""


class Turns:
    """Groups the messages of a branch, which come in any number of pieces, into turns."""

    def __init__(self) -> None:
        self._question: MessageRow | None = None
        self._replies: list[MessageRow] = []
        self._size = 0

    def add(self, rows: Iterable[Any]) -> Iterator[Turn]:
        """Yield the turns that these messages complete."""
        for row in map(MessageRow._make, rows):
            if kind_of(row.kind).role != ASSISTANT:
                yield from self.finish()
                self._question = row
                continue
            self._replies.append(row)
            self._size += len(row.content) + len(row.reasoning)
            if self._size > MOST_BYTES:
                yield self._ended()._replace(whole=False)

    def finish(self) -> Iterator[Turn]:
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
    """Return how replies of a kind end. Imported replies have other programs' finish reasons."""
    word = kind.finish_reason or STOP
    reason = reason_of(word)
    if kind.status in {Status.COMPLETED, Status.TRUNCATED} and reason in _GOES_ON:
        return _GOES_ON[reason]
    is_broken = kind.status != Status.COMPLETED or reason in {CONTENT_FILTER, REFUSAL} or is_failure(word)
    return Ending.BROKEN if is_broken else Ending.WHOLE


def _is_whole(rows: list[MessageRow]) -> bool:
    """Return whether replies are a complete answer: all are whole or continued, except empty failed attempts."""
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
