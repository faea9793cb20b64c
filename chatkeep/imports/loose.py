"""Read values of other programs' JSON leniently: a value of the wrong type counts as missing."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from chatkeep.i18n import _
from chatkeep.imports.records import Record, Refused, decoded

# Larger numbers are ms, µs or ns: this many seconds is the year 2103.
_SECONDS = 4.2e9
_TIME_LENGTH = 64
# An escape in a JSON string: a surrogate pair, a lone surrogate, or another one.
_ESCAPE = re.compile(rb"(?i)\\(?:ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|(ud[89a-f][0-9a-f]{2})|.)")
_REPLACEMENT = "\ufffd".encode()
# A text with that many more invalid bytes than non-ASCII characters has another encoding.
_MOST_DAMAGED = 2
_anything = msgspec.json.Decoder()


def value_of(record: Record) -> tuple[Any, int]:
    """Decode a record leniently. Return the value and the number of damaged characters. Raises `Refused`.

    U+FFFD replaces lone surrogates and invalid UTF-8. Raw control characters, NaN and Infinity are accepted, because
    some encoders write them.
    """
    try:
        return decoded(record, _anything), 0
    except Refused:
        if record.body is None:
            raise
        mended, damaged = _repaired(record.body)
        try:
            return json.loads(mended, strict=False), damaged
        except (ValueError, RecursionError):
            pass
        raise


def _repaired(body: bytes) -> tuple[str, int]:
    """Replace damaged characters. Return the text and their number. Raises `Refused`."""
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
        raise Refused(_("it is not written in UTF-8, or is damaged; convert the file to UTF-8 and import it again"))
    return mended, halves + lost


def text(value: Any) -> str:
    """Return a string; "" for anything else."""
    return value if isinstance(value, str) else ""


def ident(value: Any) -> str:
    """Return an id as a string, which some programs write as a number; "" for anything else."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text(value)


def members(value: Any) -> dict[str, Any]:
    """Return an object; {} for anything else."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """Return a list; [] for anything else."""
    return value if isinstance(value, list) else []


def parts(value: Any) -> list[Any]:
    """Return a list, or a list of the value if it is a string or an object, as some converters write."""
    return [value] if value and isinstance(value, str | dict) else items(value)


def objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a list."""
    return [one for one in items(value) if isinstance(one, dict)]


def idents(value: Any) -> list[str]:
    """Return the ids in a list."""
    return [found for one in items(value) if (found := ident(one))]


def texts(value: Any) -> list[str]:
    """Return the non-empty strings of a list."""
    return [one for one in items(value) if isinstance(one, str) and one]


def text_in(value: Any) -> str:
    """Return the text of a string, of an object with a text, or of a list of these."""
    parts = value if isinstance(value, list) else [value]
    found = (_inner(part) if isinstance(part, dict) else part for part in parts)
    return "\n".join(one for one in found if isinstance(one, str) and one)


def _inner(part: dict[str, Any]) -> Any:
    inner = part.get("text")
    return members(inner).get("value") if isinstance(inner, dict) else inner


def time_us(value: Any) -> int | None:
    """Return a time as µs since 1970, or None if it is not a time.

    Accepts seconds, ms, µs and ns, ISO 8601, dates with slashes, e-mail dates, and MongoDB's objects.
    """
    if isinstance(value, dict):
        date = value.get("$date")
        value = date.get("$numberLong") if isinstance(date, dict) else date
    if isinstance(value, str):
        return _of_text(value)
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


def _of_text(value: str) -> int | None:
    for read in (_of_iso, _of_digits, _of_e_mail) if len(value) <= _TIME_LENGTH else ():
        try:
            return read(value)
        except (ValueError, OverflowError):
            continue
    return None


def _of_iso(value: str) -> int | None:
    return _of_datetime(datetime.fromisoformat(value.replace("/", "-")))


def _of_digits(value: str) -> int | None:
    return _of_number(float(value))


def _of_e_mail(value: str) -> int | None:
    return _of_datetime(parsedate_to_datetime(value))


def _of_datetime(at: datetime) -> int | None:
    seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    return round(seconds * 1_000_000) if 0 < seconds < _SECONDS else None
