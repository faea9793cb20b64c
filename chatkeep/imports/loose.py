"""Values in other programs' JSON, read leniently: an odd value costs itself, never what is around it."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from chatkeep.imports.records import Record, Refused, decoded

# Seconds beyond this are ms, µs or ns: it is the year 2103.
_SECONDS = 4.2e9
# An escape in a JSON string: a whole surrogate pair, half of one, or anything else.
_ESCAPE = re.compile(rb"(?i)\\(?:ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|(ud[89a-f][0-9a-f]{2})|.)")
_REPLACEMENT = "\ufffd".encode()
# More bytes that are not UTF-8 than this, and than characters that are, mean that a text is in another encoding.
_MOST_DAMAGED = 8
_anything = msgspec.json.Decoder()


def value_of(record: Record) -> tuple[Any, int]:
    """Return the JSON value of a record, mended if its text is damaged, and how many characters are. Raises `Refused`.

    U+FFFD replaces half surrogate pairs and bytes that are not UTF-8. Raw control characters, NaN and Infinity, which
    some encoders write, are accepted.
    """
    try:
        return decoded(record, _anything), 0
    except Refused:
        if record.body is None:
            raise
        mended, damaged = _mended(record.body)
        try:
            return json.loads(mended, strict=False), damaged
        except (ValueError, RecursionError):
            pass
        raise


def _mended(body: bytes) -> tuple[str, int]:
    """Return a text whose damaged characters are replaced, and how many they are. Raises `Refused`."""
    halves = 0

    def whole(found: re.Match[bytes]) -> bytes:
        nonlocal halves
        halves += found[1] is not None
        return rb"\ufffd" if found[1] else found[0]

    escaped = _ESCAPE.sub(whole, body)
    mended = escaped.decode("utf-8", "replace")
    lost = mended.count("\ufffd") - escaped.count(_REPLACEMENT)
    kept = len(mended) - len(mended.encode("ascii", "ignore")) - lost
    if lost > kept + _MOST_DAMAGED:
        raise Refused("it is not written in UTF-8, or is damaged; convert the file to UTF-8 and import it again")
    return mended, halves + lost


def text(value: Any) -> str:
    """Return a string; "" for anything else."""
    return value if isinstance(value, str) else ""


def ident(value: Any) -> str:
    """Return an id, which some programs write as a number; "" for anything else."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text(value)


def members(value: Any) -> dict[str, Any]:
    """Return an object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """Return a list; an empty one for anything else."""
    return value if isinstance(value, list) else []


def objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a list."""
    return [one for one in items(value) if isinstance(one, dict)]


def idents(value: Any) -> list[str]:
    """Return the ids in a list."""
    return [found for one in items(value) if (found := ident(one))]


def texts(value: Any) -> list[str]:
    """Return the strings of a list that are not empty."""
    return [one for one in items(value) if isinstance(one, str) and one]


def spoken(value: Any) -> str:
    """Return a text that is a string, an object with one, or a list of either."""
    parts = value if isinstance(value, list) else [value]
    found = (_inner(part) if isinstance(part, dict) else part for part in parts)
    return "\n".join(one for one in found if isinstance(one, str) and one)


def _inner(part: dict[str, Any]) -> Any:
    inner = part.get("text")
    return members(inner).get("value") if isinstance(inner, dict) else inner


def moment(value: Any) -> int | None:
    """Return µs since 1970 of a time in seconds, ms, µs or ns, or in ISO 8601; None for anything else."""
    if isinstance(value, str):
        return _of_iso(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return _of_number(value)


def _of_number(value: float) -> int | None:
    try:
        at = float(value)
    except OverflowError:
        return None
    if not math.isfinite(at) or at <= 0:
        return None
    while at > _SECONDS:
        at /= 1000
    return round(at * 1_000_000)


def _of_digits(value: str) -> int | None:
    try:
        return _of_number(float(value))
    except ValueError:
        return None


def _of_iso(value: str) -> int | None:
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return _of_digits(value)
    seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    return round(seconds * 1_000_000) if 0 < seconds < _SECONDS else None
