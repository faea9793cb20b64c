"""Build the SQL conditions of a case-insensitive substring search. Pure.

On SQLite it uses SQLite's operators: a Python function would need the GIL for each row, and block the event loop. LIKE
is fast, but ignores the case of ASCII only. GLOB is exact and ten times slower, so CASE applies it only to what LIKE
finds (AND would evaluate both). Both stop at a NUL, so NULs are replaced by another character.

MySQL and MariaDB fold cases differently from Python, so they lower both texts themselves.
"""

from __future__ import annotations

MOST_WORDS = 8
_SQLITE = (
    "CASE WHEN INSTR(CAST({0} AS BLOB), x'00')"
    " THEN (REPLACE(JSON_QUOTE({0}), '\\u0000', '\\uffff') ->> '$') GLOB :glob_{1}"
    " WHEN {0} LIKE :like_{1} ESCAPE '!' THEN {0} GLOB :glob_{1} END"
)
_MYSQL = "LOWER({0}) LIKE LOWER(:text_{1} COLLATE utf8mb4_bin) ESCAPE '!'"
_IN_PLACE_OF_NUL = "\uffff"
# More letters with this lower case.
_MORE = {"i": "İ", "k": "\u212a", "å": "\u212b", "ß": "ẞ", "θ": "ϴ", "ω": "\u2126"}


def words(query: str) -> list[str]:
    """Split a query into words, all of which must match. The longest is first, because it matches the fewest texts.

    The last of `MOST_WORDS` words is the rest of the query. A blank query is one word.
    """
    found = dict.fromkeys(query.strip().split(maxsplit=MOST_WORDS - 1))
    return sorted(found, key=len, reverse=True) or [query]


def conditions(column: str, number: int = 0) -> tuple[str, str]:
    """Return the condition that a column contains the text of `patterns`, for SQLite and for MySQL."""
    return _SQLITE.format(column, number), _MYSQL.format(column, number)


def patterns(text: str, number: int = 0) -> dict[str, str]:
    """Return the parameters of `conditions` for a text. ``number`` distinguishes texts in one statement."""
    letters = [_variants(letter) for letter in text.replace("\0", _IN_PLACE_OF_NUL)]
    return {
        f"like_{number}": f"%{''.join(map(_like, letters))}%",
        f"glob_{number}": f"*{''.join(map(_glob, letters))}*",
        f"text_{number}": f"%{''.join(map(_escaped, text))}%",
    }


def _variants(letter: str) -> list[str]:
    """Return a letter in all its cases, without upper cases of several letters."""
    small = letter.lower()[0]
    found = {letter, small, small.upper(), small.title(), _MORE.get(small, small)}
    return sorted(one for one in found if len(one) == 1)


def _like(variants: list[str]) -> str:
    """Return the LIKE pattern of a letter: any character if LIKE does not know its cases."""
    if len(variants) == 1 or variants[-1].isascii():
        return _escaped(variants[0])
    return "_"


def _glob(variants: list[str]) -> str:
    together = "".join(variants)
    return f"[{together}]" if len(variants) > 1 or together in "*?[" else together


def _escaped(letter: str) -> str:
    """Escape a letter for LIKE, with ``!`` as the escape character."""
    return f"!{letter}" if letter in "!%_" else letter
