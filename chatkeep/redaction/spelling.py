"""One spelling for what looks alike: full-width digits, dashes of all lengths, spaces of all widths; pure.

Every character becomes exactly one character, so that a place in the spelled text is the same place in the text.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

INVISIBLE = "\u200b"
"""What every character that takes no room is spelled as: it may stand between any two others."""
_DOTS = "·•‧∙⋅・･"
_PLANES = (range(0x80, 0x10000), range(0x1D400, 0x1D800), range(0xE0000, 0xE01F0))


def spelled(text: str) -> str:
    """Return a text of the same length in which what looks alike is alike."""
    if text.isascii():
        return text
    table, odd = _table()
    return text.translate(table) if odd.search(text) else text


@cache
def _table() -> tuple[dict[int, str], re.Pattern[str]]:
    """Return what is spelled otherwise, and a pattern that finds it: ordinary Chinese has little of it."""
    table = {code: new for plane in _PLANES for code in plane if (new := _spelling(chr(code))) != chr(code)}
    codes = sorted(table)
    starts = [code for code in codes if code - 1 not in table]
    ends = [code for code in codes if code + 1 not in table]
    ranges = (f"\\U{start:08x}-\\U{end:08x}" for start, end in zip(starts, ends, strict=True))
    return table, re.compile(f"[{''.join(ranges)}]")


def _spelling(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category == "Pd" or character == "\N{MINUS SIGN}":
        return "-"
    if category == "Zs":
        return " "
    # Me: what is drawn around another character, such as the key of 1\ufe0f\u20e3.
    if category in {"Cf", "Me"} or unicodedata.name(character, "").startswith("VARIATION SELECTOR"):
        return INVISIBLE
    if character in _DOTS:
        return "."
    # Not of numbers in circles and footnotes: ①138… is the first of a list, and not a longer number.
    alike = unicodedata.normalize("NFKC", character) if category != "No" else character
    return alike if len(alike) == 1 else character
