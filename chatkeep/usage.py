"""What callers have used: turns, tokens and what they cost, by day, model, key, account or end user."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from chatkeep.model import id_of
from chatkeep.spending import NO_KEY, Used
from chatkeep.store import usage
from chatkeep.store.engine import Database

GROUPS = tuple(usage.GROUPS)
_FIRST = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Days:
    """Days in UTC, both ends included."""

    first: date
    last: date


def today() -> date:
    """Return the day in UTC."""
    return datetime.now(UTC).date()


def used(
    database: Database, account: str | None, owner: str | None, days: Days, groups: Iterable[str]
) -> list[tuple[dict[str, Any], Used]]:
    """Return what was used on these days, a sum for each group: without an owner of all that are the account's.

    Without an account it is that of everybody. Raises `StoreUnavailable`.
    """
    names = tuple(groups)
    numbers = ((days.first - _FIRST).days, (days.last - _FIRST).days)
    rows = database.read(lambda connection: usage.summed(connection, account, owner, numbers, names), long=True)
    width = len(names)
    return [
        (
            {name: _said(name, value) for name, value in zip(names, row[:width], strict=True)},
            Used(*map(int, row[width:])),
        )
        for row in rows
    ]


def _said(name: str, value: Any) -> Any:
    """Return a group's value as callers know it."""
    if name == "day":
        return (_FIRST + timedelta(days=value)).isoformat()
    if name == "key":
        return None if bytes(value) == NO_KEY else id_of(bytes(value))
    if name == "end_user":
        return value.partition("/")[2] or None
    return value
