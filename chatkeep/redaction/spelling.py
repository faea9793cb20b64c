"""Normalise look-alike characters: full-width digits, all dashes, all spaces. Pure.

Each character becomes exactly one character, so positions in both texts are equal.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

INVISIBLE = "\u200b"
"""Replaces every zero-width character."""
_ALIKE = {
    character: plain
    for plain, characters in {
        ".": "·•‧∙⋅・⸱⸳ꞏ",
        "-": "\N{MINUS SIGN}\N{HYPHEN BULLET}\N{MODIFIER LETTER MINUS SIGN}\N{HEAVY MINUS SIGN}ー─━",
        "/": "\N{FRACTION SLASH}\N{DIVISION SLASH}\N{BIG SOLIDUS}\u2571",
        " ": "\u2028\u2029\N{BRAILLE PATTERN BLANK}",
    }.items()
    for character in characters
}
_ALIKE_CATEGORIES = {"Pd": "-", "Zs": " "}
# Visible control characters: ends of lines and columns.
_WHITE = "\t\n\v\f\r"
_OVERLAY, _DIACRITIC = 1, 200
"""Canonical combining classes of marks that do not change a character: the first, and all from the second on."""
# Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt), which Python lacks: invisible.
_IGNORABLE = (
    (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip
# Also invisible: noncharacters, a number joiner, an empty notehead, a filler.
_EMPTY = ((0xFDD0, 0xFDEF), (0xFFFE, 0xFFFF), (0x1107F, 0x1107F), (0x1D159, 0x1D159), (0x16FE4, 0x16FE4))
# Zeros of decimal digits that are newer than the Unicode version of the oldest Python.
_YOUNG_ZEROS = (
    0x10D40, 0x116D0, 0x116DA, 0x11BF0, 0x11DE0, 0x11F50, 0x16130, 0x16D70, 0x1CCF0, 0x1E4F0, 0x1E5F1,
)  # fmt: skip
_FIRST_PLANE = 0xFFFF
_PLANES = (range(0x20000), range(0xE0000, 0xE1000))


def normalise(text: str) -> str:
    """Return a normalised text of the same length."""
    if text.isascii() and text.isprintable():
        return text
    table, odd = _table()
    return text.translate(table) if odd.search(text) else text


@cache
def _table() -> tuple[dict[int, str], re.Pattern[str]]:
    """Return the replacements, and a pattern that finds whether a text needs any: ordinary Chinese rarely does."""
    table = {code: new for plane in _PLANES for code in plane if (new := _normal_form(chr(code))) != chr(code)}
    table |= {zero + digit: str(digit) for zero in _YOUNG_ZEROS for digit in range(10)}
    table |= {code: INVISIBLE for begin, end in _IGNORABLE + _EMPTY for code in range(begin, end + 1)}
    # `re` would try ranges beyond the first plane one by one, so all of those characters go through the table.
    codes = [code for code in sorted(table) if code <= _FIRST_PLANE]
    starts = [code for code in codes if code - 1 not in table]
    ends = [code for code in codes if code + 1 not in table]
    ranges = (f"\\U{start:08x}-\\U{end:08x}" for start, end in zip(starts, ends, strict=True))
    return table, re.compile(f"[{''.join(ranges)}\U00010000-\U0010ffff]")


def _normal_form(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if plain := _ALIKE.get(character) or _ALIKE_CATEGORIES.get(category):
        return plain
    if _is_invisible(character, category):
        return INVISIBLE
    # Except numbers in circles and footnotes: ①138… is an item of a list, not a longer number.
    alike = unicodedata.normalize("NFKC", character) if category != "No" else character
    return _normal_form(alike) if len(alike) == 1 and alike != character else character


def _is_invisible(character: str, category: str) -> bool:
    """Return whether a character is invisible, or drawn over another one like the frame of a key."""
    if category == "Mn":
        combining = unicodedata.combining(character)
        return combining == _OVERLAY or combining >= _DIACRITIC
    return category in {"Cf", "Me"} or (category == "Cc" and character not in _WHITE)
