"""Finding a text within texts, in any case of letters; pure.

On SQLite its own operators do it: a function of ours would need Python's global lock for each row, and the event loop
would wait for it. LIKE is quick and knows the case of ASCII alone; GLOB is exact, ten times slower, and asked only
about what LIKE finds: AND would ask both. Both stop at a NUL, so in texts that hold one another character takes its
place.

MySQL and MariaDB know other letters' cases than Python, so they make both texts small themselves.
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
# Further letters whose small form this is.
_MORE = {"i": "İ", "k": "\u212a", "å": "\u212b", "ß": "ẞ", "θ": "ϴ", "ω": "\u2126"}


def words(query: str) -> list[str]:
    """Return what a query asks for, of which all must be found: the longest first, since few texts hold it.

    What stands behind `MOST_WORDS` words is the last one; a query of blanks is itself one.
    """
    found = dict.fromkeys(query.strip().split(maxsplit=MOST_WORDS - 1))
    return sorted(found, key=len, reverse=True) or [query]


def conditions(column: str, number: int = 0) -> tuple[str, str]:
    """Return the condition that a column holds the text of `patterns`: on SQLite, and on MySQL."""
    return _SQLITE.format(column, number), _MYSQL.format(column, number)


def patterns(text: str, number: int = 0) -> dict[str, str]:
    """Return the parameters of `conditions` for a text; its number tells it from others in the same statement."""
    letters = [_variants(letter) for letter in text.replace("\0", _IN_PLACE_OF_NUL)]
    return {
        f"like_{number}": f"%{''.join(map(_like, letters))}%",
        f"glob_{number}": f"*{''.join(map(_glob, letters))}*",
        f"text_{number}": f"%{''.join(map(_escaped, text))}%",
    }


def _variants(letter: str) -> list[str]:
    """Return a letter in all its cases; those of which the upper case has several letters are left out."""
    small = letter.lower()[0]
    found = {letter, small, small.upper(), small.title(), _MORE.get(small, small)}
    return sorted(one for one in found if len(one) == 1)


def _like(variants: list[str]) -> str:
    """Return what LIKE is to find in a letter's place: anything where it does not know the cases."""
    if len(variants) == 1 or variants[-1].isascii():
        return _escaped(variants[0])
    return "_"


def _glob(variants: list[str]) -> str:
    together = "".join(variants)
    return f"[{together}]" if len(variants) > 1 or together in "*?[" else together


def _escaped(letter: str) -> str:
    """Return a letter for which LIKE finds nothing but itself, with ``!`` as the escape character."""
    return f"!{letter}" if letter in "!%_" else letter
