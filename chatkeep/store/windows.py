"""The table ``windows``: what each limited subject has used within its minute and within its day.

A transaction holds the rows that it will change from its beginning, in one order, so no two of them wait for each
other; who holds a row knows what all processes and hosts have counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from chatkeep.limits import DAY_US, MINUTE_US, Spent, Window
from chatkeep.store.sql import Connection, Sql, in_list

_COLUMNS = ("minute_began", "minute_requests", "minute_tokens", "day_began", "day_requests", "day_tokens")
_LIST = ", ".join(_COLUMNS)
_REMOVE = Sql("DELETE FROM windows WHERE subject = :subject")
_FORGET = Sql(
    "DELETE FROM windows WHERE subject IN (SELECT subject FROM windows WHERE day_began < :before LIMIT :limit)",
    mysql="DELETE FROM windows WHERE day_began < :before ORDER BY day_began LIMIT :limit",
)


def hold(connection: Connection, subjects: Iterable[str]) -> dict[str, Spent]:
    """Return what subjects have used, of which nobody else uses anything until the transaction ends."""
    wanted = sorted(set(subjects))
    if not wanted:
        return {}
    found = _held(connection, wanted)
    missing = [subject for subject in wanted if subject not in found]
    if missing:
        # What is not there cannot be held: of two who see a subject for the first time one waits here.
        connection.change(_begin(len(missing)), **in_list("subject", missing)[1])
        found = _held(connection, wanted)
    return found


def _held(connection: Connection, subjects: list[str]) -> dict[str, Spent]:
    rows = connection.rows(_hold(len(subjects)), **in_list("subject", subjects)[1])
    return {row[0]: Spent(Window(MINUTE_US, *row[1:4]), Window(DAY_US, *row[4:])) for row in rows}


def put(connection: Connection, spent: Mapping[str, Spent]) -> None:
    """Store what subjects have used, whose rows the transaction holds."""
    values: dict[str, Any] = {}
    for index, (subject, used) in enumerate(sorted(spent.items())):
        values[f"subject{index}"] = subject
        for name, window in (("minute", used.minute), ("day", used.day)):
            values[f"{name}_began{index}"] = window.began
            values[f"{name}_requests{index}"] = window.requests
            values[f"{name}_tokens{index}"] = window.tokens
    connection.change(_put(len(spent)), **values)


def remove(connection: Connection, subject: str) -> None:
    """Forget what a subject has used."""
    connection.change(_REMOVE, subject=subject)


def forget(connection: Connection, before: int, limit: int) -> int:
    """Forget up to ``limit`` subjects whose day began before that time; return how many."""
    return connection.change(_FORGET, before=before, limit=limit)


@cache
def _hold(count: int) -> Sql:
    places = in_list("subject", range(count))[0]
    select = f"SELECT subject, {_LIST} FROM windows"  # noqa: S608 - no values in it
    return Sql(
        f"{select} WHERE subject IN ({places})",
        # In the order of the key, whatever the optimizer makes of a small table.
        mysql=f"{select} FORCE INDEX (PRIMARY) WHERE subject IN ({places}) ORDER BY subject FOR UPDATE",
    )


@cache
def _begin(count: int) -> Sql:
    rows = ", ".join(f"(:subject{index}, 0, 0, 0, 0, 0, 0)" for index in range(count))
    insert = f"INTO windows (subject, {_LIST}) VALUES {rows}"
    return Sql(f"INSERT {insert} ON CONFLICT DO NOTHING", mysql=f"INSERT IGNORE {insert}")


@cache
def _put(count: int) -> Sql:
    names = ("subject", *_COLUMNS)
    rows = ", ".join(f"({', '.join(f':{name}{index}' for name in names)})" for index in range(count))
    insert = f"INSERT INTO windows ({', '.join(names)}) VALUES {rows}"  # noqa: S608 - no values in it
    sqlite = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)
    mysql = ", ".join(f"{name} = VALUES({name})" for name in _COLUMNS)
    return Sql(
        f"{insert} ON CONFLICT (subject) DO UPDATE SET {sqlite}", mysql=f"{insert} ON DUPLICATE KEY UPDATE {mysql}"
    )
