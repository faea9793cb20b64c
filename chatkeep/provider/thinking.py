"""Separate the ``<think>`` block at the beginning of a reply from its text. Pure: no I/O."""

from __future__ import annotations

from enum import Enum, auto

_TAGS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
}
_LINE_ENDS = ("", "\n", "\r")
# The most white space that is held back.
_MOST_HELD = 256


class _Stage(Enum):
    BEGINNING = auto()
    BLOCK = auto()
    BEHIND = auto()  # white space between the block and the text is dropped


class ThinkBlock:
    """Splits a reply into text and reasoning incrementally.

    A block without its opening tag is recognised if its closing tag is in the first piece, as in a reply that is not
    streamed.
    """

    __slots__ = ("_closing", "_has_thought", "_held", "_is_open", "_stage", "is_over")

    def __init__(self, *, is_open: bool = False) -> None:
        """Begin before the block, or within it if ``is_open``, because the prompt has its opening tag."""
        self.is_over = False
        """Whether only text follows."""
        self._stage = _Stage.BEGINNING
        self._closing = ""
        self._is_open = is_open
        self._has_thought = False
        self._held = ""

    def split(self, piece: str) -> tuple[str, str]:
        """Return the text and the reasoning of ``piece`` that are certain."""
        if self.is_over or not piece:
            return piece, ""
        held, self._held = self._held + piece, ""
        if self._stage is _Stage.BEGINNING:
            return self._begin(held)
        return self._in_block(held) if self._stage is _Stage.BLOCK else (self._after_block(held), "")

    def flush(self) -> tuple[str, str]:
        """Return the text and the reasoning that were held back."""
        held, self._held = self._held, ""
        return ("", held.rstrip()) if self._stage is _Stage.BLOCK else (held, "")

    def _begin(self, held: str) -> tuple[str, str]:
        start = held.lstrip()
        for opening, closing in _TAGS.items():
            if start.startswith(opening):
                self._stage, self._closing = _Stage.BLOCK, closing
                return self._in_block(start.removeprefix(opening))
        if len(held) <= _MOST_HELD and any(opening.startswith(start) for opening in _TAGS):
            self._held = held
            return "", ""
        if self._is_open:
            self._stage, self._closing = _Stage.BLOCK, "</think>"
            return self._in_block(held)
        thought, text = split_unopened(held)
        self._stage, self.is_over = _Stage.BEHIND, bool(text)
        return text, thought

    def _in_block(self, held: str) -> tuple[str, str]:
        thought, closing, text = held.partition(self._closing)
        if closing:
            self._stage = _Stage.BEHIND
            return self._after_block(text), self._without_leading_blanks(thought.rstrip())
        sure = held[: len(held) - _overlap(held, self._closing)]
        shown = sure.rstrip()
        if len(sure) - len(shown) > _MOST_HELD:
            shown = sure
        self._held = held[len(shown) :]
        return "", self._without_leading_blanks(shown)

    def _without_leading_blanks(self, thought: str) -> str:
        """Drop the white space before the reasoning."""
        thought = thought if self._has_thought else thought.lstrip()
        self._has_thought = self._has_thought or bool(thought)
        return thought

    def _after_block(self, held: str) -> str:
        text = held.lstrip()
        self.is_over = bool(text)
        return text


def split_unopened(reply: str) -> tuple[str, str]:
    """Return the reasoning at the beginning of a reply without an opening tag, and the text after it."""
    for opening, closing in _TAGS.items():
        thought, tag, text = reply.partition(closing)
        stands_alone = thought[-1:] in _LINE_ENDS or text[:1] in _LINE_ENDS
        if tag and stands_alone and opening not in thought:
            return thought.strip(), text.lstrip()
    return "", reply


def _overlap(text: str, tag: str) -> int:
    """Return how many characters at the end of ``text`` may begin ``tag``."""
    return next((size for size in range(min(len(tag) - 1, len(text)), 0, -1) if text.endswith(tag[:size])), 0)
