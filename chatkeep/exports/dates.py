"""Parse the dates and times that limit an export.

A date is a day in UTC; a time has an offset (RFC 3339). Both ends are inclusive.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from chatkeep.i18n import _

PATTERN = (
    r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"([Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9]))?"
)
EXAMPLE = _("write a date such as 2026-11-22, or a time such as 2026-11-22T09:30:00Z (in a URL, + is %2B)")
_SHAPE = re.compile(PATTERN)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY = timedelta(days=1) // _MICROSECOND


def start_us(text: str) -> int:
    """Return the start in µs since 1970 (inclusive). Raises `ValueError` with an example."""
    return _microseconds(text)


def end_us(text: str) -> int:
    """Return the end in µs since 1970 (exclusive). Raises `ValueError` with an example."""
    return _microseconds(text) + (_DAY if len(text) == len("2026-11-22") else 1)


def _microseconds(text: str) -> int:
    try:
        at = datetime.fromisoformat(text.upper() if _SHAPE.fullmatch(text) else "")
    except ValueError as error:
        raise ValueError(EXAMPLE) from error
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND
