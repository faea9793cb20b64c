"""The table ``usage``: usage by day, owner, key and model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

from chatkeep.domain.usage import UsageKey, UsageTotals
from chatkeep.store.sql import Connection, Sql, quoted

# What usage can be grouped by, and the column of each.
GROUPS = {"day": "day", "model": "model", "key": "key_id", "account": "account", "end_user": "owner"}

_ROW = quoted(UsageKey._fields)
_FORGET = Sql(
    f"DELETE FROM `usage` WHERE ({_ROW}) IN (SELECT {_ROW} FROM `usage` WHERE day < :before LIMIT :limit)",  # noqa: S608
    mysql="DELETE FROM `usage` WHERE day < :before ORDER BY day LIMIT :limit",
)

# The most rows of a statement.
MOST_ROWS = 200
_OWNED = f"SELECT day, key_id, model, {quoted(UsageTotals._fields)} FROM `usage` WHERE owner = :owner"  # noqa: S608 - no values
_ORDER = "ORDER BY day, key_id, model LIMIT :limit"
_OF_OWNER = Sql(
    f"{_OWNED} AND day >= :day AND (day > :day OR key_id > :key_id OR key_id = :key_id AND model > :model) {_ORDER}"
)
_LOCK = Sql(f"{_OWNED} {_ORDER}", mysql=f"{_OWNED} {_ORDER} FOR UPDATE")
_REMOVE = Sql(
    "DELETE FROM `usage`"
    " WHERE account = :account AND day = :day AND owner = :owner AND key_id = :key_id AND model = :model"
)


class UsageRowKey(NamedTuple):
    """The key of a row among those of its owner."""

    day: int = -1
    key_id: bytes = b""
    model: str = ""


def of_owner(connection: Connection, owner: str, after: UsageRowKey, limit: int) -> list[tuple[Any, ...]]:
    """Return up to ``limit`` rows of an owner after ``after``: day, key, model, turns, tokens and cost."""
    return connection.rows(_OF_OWNER, owner=owner, **after._asdict(), limit=limit)


def key_of(row: tuple[Any, ...]) -> UsageRowKey:
    """Return the key of a row from `of_owner`."""
    return UsageRowKey(row[0], bytes(row[1]), row[2])


def reassign(connection: Connection, account: str, owner: str, limit: int = MOST_ROWS) -> int:
    """Move up to ``limit`` rows from an end user to the account itself, whose sum stays the same. Return how many."""
    rows = connection.rows(_LOCK, owner=owner, limit=limit)
    theirs = {UsageRowKey(day, bytes(key_id), model): UsageTotals(*used) for day, key_id, model, *used in rows}
    if theirs:
        add(connection, {UsageKey(account, one.day, account, *one[1:]): used for one, used in theirs.items()})
    for one in theirs:
        connection.change(_REMOVE, account=account, owner=owner, **one._asdict())
    return len(theirs)


def add(connection: Connection, used: Mapping[UsageKey, UsageTotals]) -> None:
    """Add usage to the stored rows, sorted, so that processes lock rows in the same order."""
    values: dict[str, Any] = {}
    for index, spender in enumerate(sorted(used)):
        values |= zip(_values(index), (*spender, *used[spender]), strict=True)
    connection.change(_add(len(used)), **values)


@cache
def _values(index: int) -> tuple[str, ...]:
    return tuple(f"{name}{index}" for name in (*UsageKey._fields, *UsageTotals._fields))


@cache
def _add(count: int) -> Sql:
    columns = quoted((*UsageKey._fields, *UsageTotals._fields))
    rows = ", ".join(f"({', '.join(f':{name}' for name in _values(index))})" for index in range(count))
    insert = f"INSERT INTO `usage` ({columns}) VALUES {rows}"  # noqa: S608 - no values in it
    sqlite = ", ".join(f"`{name}` = `{name}` + excluded.`{name}`" for name in UsageTotals._fields)
    mysql = ", ".join(f"`{name}` = `{name}` + VALUES(`{name}`)" for name in UsageTotals._fields)
    return Sql(
        f"{insert} ON CONFLICT ({_ROW}) DO UPDATE SET {sqlite}",
        mysql=f"{insert} ON DUPLICATE KEY UPDATE {mysql}",
    )


def summed(
    connection: Connection,
    account: str | None,
    owner: str | None,
    days: tuple[int, int],
    groups: Iterable[str],
    *,
    limit: int = 1,
    skip: int = 0,
) -> list[tuple[Any, ...]]:
    """Return the values of ``groups``, then sums of turns, tokens and cost, from the first to the last of ``days``.

    Without an owner, of the whole account; without an account, of all accounts. Returns up to ``limit`` rows after the
    first ``skip``.
    """
    named = {name: value for name, value in (("account", account), ("owner", owner)) if value is not None}
    chosen = " AND ".join(["day BETWEEN :first AND :last", *(f"{name} = :{name}" for name in named)])
    columns = quoted(GROUPS[name] for name in groups)
    sums = ", ".join(f"COALESCE(SUM(`{name}`), 0)" for name in UsageTotals._fields)
    grouped = f" GROUP BY {columns} ORDER BY {columns}" if columns else ""
    selected = f"{columns}, {sums}" if columns else sums
    sql = Sql(f"SELECT {selected} FROM `usage` WHERE {chosen}{grouped} LIMIT :limit OFFSET :skip")  # noqa: S608 - no values
    return connection.rows(sql, first=days[0], last=days[1], limit=limit, skip=skip, **named)


def forget(connection: Connection, before: int, limit: int) -> int:
    """Delete up to ``limit`` rows from before a day, counted since 1970. Return how many."""
    return connection.change(_FORGET, before=before, limit=limit)
