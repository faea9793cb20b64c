"""Report usage: turns, tokens and cost, by day, model, key, account or end user."""

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
    """The total, a page of sums with the values of their group, and whether more follow."""

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
    """Sum usage by group: of one owner, without an owner of the whole account, without an account of all accounts.

    Returns up to ``limit`` sums after skipping ``after``. Raises `StoreUnavailable`.
    """
    names = tuple(groups)
    numbers = ((days.first - _FIRST).days, (days.last - _FIRST).days)
    summed = partial(usage.summed, account=account, owner=owner, days=numbers)
    [total] = database.read(partial(summed, groups=()), long=True)
    found = database.read(partial(summed, groups=names, limit=limit + 1, skip=after), long=True)
    width = len(names)
    rows = [
        (
            {name: _public(name, value) for name, value in zip(names, row[:width], strict=True)},
            UsageTotals(*map(int, row[width:])),
        )
        for row in found[:limit]
    ]
    return Report(UsageTotals(*map(int, total)), rows, len(found) > limit)


def _public(name: str, value: Any) -> Any:
    """Convert a group's stored value to its public form."""
    if name == "day":
        return (_FIRST + timedelta(days=value)).isoformat()
    if name == "key":
        return None if bytes(value) == NO_KEY else id_of(bytes(value))
    if name == "end_user":
        return value.partition("/")[2] or None
    return value
