"""What callers have used: turns, tokens and what they cost, by day, model, key, account or end user."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

from chatkeep.domain.conversation import id_of
from chatkeep.domain.usage import NO_KEY, UsageTotals
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


@dataclass(frozen=True, slots=True)
class Report:
    """What was used in all, a page of sums with the values that each is of, and whether more follow."""

    total: UsageTotals
    rows: list[tuple[dict[str, Any], UsageTotals]]
    has_more: bool


def used(
    database: Database,
    account: str | None,
    owner: str | None,
    days: Days,
    groups: Iterable[str],
    *,
    limit: int,
    after: int = 0,
) -> Report:
    """Return what was used on these days, a sum for each group: without an owner of all that are the account's.

    Without an account it is that of everybody. Up to ``limit`` sums are returned, without the first ``after``.
    Raises `StoreUnavailable`.
    """
    names = tuple(groups)
    numbers = ((days.first - _FIRST).days, (days.last - _FIRST).days)
    summed = partial(usage.summed, account=account, owner=owner, days=numbers)
    [total] = database.read(partial(summed, groups=()), long=True)
    found = database.read(partial(summed, groups=names, limit=limit + 1, skip=after), long=True)
    width = len(names)
    rows = [
        (
            {name: _said(name, value) for name, value in zip(names, row[:width], strict=True)},
            UsageTotals(*map(int, row[width:])),
        )
        for row in found[:limit]
    ]
    return Report(UsageTotals(*map(int, total)), rows, len(found) > limit)


def _said(name: str, value: Any) -> Any:
    """Return a group's value as callers know it."""
    if name == "day":
        return (_FIRST + timedelta(days=value)).isoformat()
    if name == "key":
        return None if bytes(value) == NO_KEY else id_of(bytes(value))
    if name == "end_user":
        return value.partition("/")[2] or None
    return value
