"""Reasoning that a model writes into its reply as a ``<think>`` block. Pure: no I/O."""

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
# Blanks that are waited with for what follows them.
_MOST_HELD = 256


class _Stage(Enum):
    BEGINNING = auto()
    BLOCK = auto()
    BEHIND = auto()  # blanks between the block and the text are not shown


class ThinkBlock:
    """Splits a reply that may begin with one block into text and reasoning, however its pieces are cut.

    A block without its opening tag is known if its closing tag is in the first piece, as in a reply that is no stream.
    """

    __slots__ = ("_closing", "_has_thought", "_held", "_is_open", "_stage", "is_over")

    def __init__(self, *, is_open: bool = False) -> None:
        """Begin before the block, or with ``is_open`` within one whose opening tag the prompt has."""
        self.is_over = False
        """Whether all that comes is text."""
        self._stage = _Stage.BEGINNING
        self._closing = ""
        self._is_open = is_open
        self._has_thought = False
        self._held = ""

    def split(self, piece: str) -> tuple[str, str]:
        """Return the text and the reasoning that ``piece`` completes."""
        if self.is_over or not piece:
            return piece, ""
        held, self._held = self._held + piece, ""
        if self._stage is _Stage.BEGINNING:
            return self._begin(held)
        return self._within(held) if self._stage is _Stage.BLOCK else (self._behind(held), "")

    def flush(self) -> tuple[str, str]:
        """Return what was held back because of what could have followed."""
        held, self._held = self._held, ""
        return ("", held.rstrip()) if self._stage is _Stage.BLOCK else (held, "")

    def _begin(self, held: str) -> tuple[str, str]:
        start = held.lstrip()
        for opening, closing in _TAGS.items():
            if start.startswith(opening):
                self._stage, self._closing = _Stage.BLOCK, closing
                return self._within(start.removeprefix(opening))
        if len(held) <= _MOST_HELD and any(opening.startswith(start) for opening in _TAGS):
            self._held = held
            return "", ""
        if self._is_open:
            self._stage, self._closing = _Stage.BLOCK, "</think>"
            return self._within(held)
        thought, text = split_unopened(held)
        self._stage, self.is_over = _Stage.BEHIND, bool(text)
        return text, thought

    def _within(self, held: str) -> tuple[str, str]:
        thought, closing, text = held.partition(self._closing)
        if closing:
            self._stage = _Stage.BEHIND
            return self._behind(text), self._led(thought.rstrip())
        sure = held[: len(held) - _overlap(held, self._closing)]
        shown = sure.rstrip()
        if len(sure) - len(shown) > _MOST_HELD:
            shown = sure
        self._held = held[len(shown) :]
        return "", self._led(shown)

    def _led(self, thought: str) -> str:
        """Return a piece of the reasoning without the blanks that it begins with."""
        thought = thought if self._has_thought else thought.lstrip()
        self._has_thought = self._has_thought or bool(thought)
        return thought

    def _behind(self, held: str) -> str:
        text = held.lstrip()
        self.is_over = bool(text)
        return text


def split_unopened(reply: str) -> tuple[str, str]:
    """Return the reasoning that a reply begins with if its opening tag is missing, and the text behind it."""
    for opening, closing in _TAGS.items():
        thought, tag, text = reply.partition(closing)
        stands_alone = thought[-1:] in _LINE_ENDS or text[:1] in _LINE_ENDS
        if tag and stands_alone and opening not in thought:
            return thought.strip(), text.lstrip()
    return "", reply


def _overlap(text: str, tag: str) -> int:
    """Return how many characters at the end of ``text`` may be the beginning of ``tag``."""
    return next((size for size in range(min(len(tag) - 1, len(text)), 0, -1) if text.endswith(tag[:size])), 0)
