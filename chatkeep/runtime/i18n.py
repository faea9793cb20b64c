"""The two languages of what people read: English, in which the code says it, and Chinese."""

from __future__ import annotations

from functools import cache
from typing import Literal

from chatkeep.runtime.chinese import TEXTS

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
_GAP = "{}"
# A problem names a line, what is wrong there, and why.
_MOST_DEPTH = 3


def translated(text: str, language: Language) -> str:
    """Return an English text in a language; one that nobody has translated stays as it is.

    A text of the catalogue may have gaps, ``{}``; what fills them is translated, too, if it is in the catalogue. It may
    be a caller's text, so the time is linear in its length: no regular expression reads it, and nothing goes back.
    """
    return text if language == "en" else _translated(text, _MOST_DEPTH)


def _translated(text: str, depth: int) -> str:
    if text in TEXTS:
        return TEXTS[text]
    for pieces, words in _templates() if depth else ():
        fillings = _fillings(pieces, text)
        if fillings:
            return words.format(*(_translated(filling, depth - 1) for filling in fillings))
    return text


def _fillings(pieces: list[str], text: str) -> list[str]:
    """Return what fills the gaps between the pieces, nothing if the text is not made of them.

    Each gap has one character at least, and ends where the next piece first occurs.
    """
    first, *others, last = pieces
    end = len(text) - len(last)
    if not text.startswith(first) or not text.endswith(last):
        return []
    found, at = [], len(first)
    for piece in others:
        next_at = text.find(piece, at + 1, end)
        if next_at < 0:
            return []
        found.append(text[at:next_at])
        at = next_at + len(piece)
    return [*found, text[at:end]] if at < end else []


def language_of(locale: str) -> Language:
    """Return the language of a POSIX locale such as ``zh_CN.UTF-8``."""
    return "zh" if locale.lower().startswith("zh") else "en"


@cache
def _templates() -> list[tuple[list[str], str]]:
    """Return the texts with gaps, in pieces, and their translations; those that say the most first."""
    gapped = [(english.split(_GAP), chinese) for english, chinese in TEXTS.items() if _GAP in english]
    return sorted(gapped, key=lambda pair: len("".join(pair[0])), reverse=True)
