"""The table ``windows``: what each limited subject has used within its minute and within its day.

A transaction locks the rows that it will change when it begins, in one order, so that transactions cannot deadlock. A
locked row has the counts of all processes and hosts. The statement that locks the epoch locks the rows as well, so
limits cost no further round trip.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from itertools import chain
from typing import Any

from msgspec.structs import astuple

from chatkeep.domain.quota import WindowUsage
from chatkeep.store import epochs, holdings
from chatkeep.store.sql import Connection, Sql, in_list, quoted

_COLUMNS = WindowUsage.__struct_fields__
_LIST = quoted(_COLUMNS)
_EPOCH = ""  # no subject
_REMOVE = Sql("DELETE FROM windows WHERE subject = :subject")
_REMOVE_UNUSED = Sql("DELETE FROM windows WHERE subject = :subject AND day_began = 0")
_FORGET = Sql(
    "DELETE FROM windows WHERE subject IN (SELECT subject FROM windows WHERE day_began < :before LIMIT :limit)",
    mysql="DELETE FROM windows WHERE day_began < :before ORDER BY day_began LIMIT :limit",
)


def hold(connection: Connection, subjects: Collection[str]) -> tuple[int, dict[str, WindowUsage]]:
    """Lock the epoch and the subjects' rows until the transaction ends; return the epoch and what they have used.

    Subjects of `holdings` stand for rows of that table, which are locked last.
    """
    wanted = sorted(subject for subject in set(subjects) if holdings.owner_of(subject) is None)
    epoch, found = _spent(connection, wanted) if wanted else (epochs.hold(connection), {})
    holdings.hold(connection, filter(None, map(holdings.owner_of, subjects)))
    return epoch, found


def _spent(connection: Connection, wanted: list[str]) -> tuple[int, dict[str, WindowUsage]]:
    """Return the epoch and what subjects have used, with all of it locked."""
    epoch, found = _held(connection, wanted)
    missing = [subject for subject in wanted if subject not in found]
    if missing:
        # A missing row cannot be locked: of two transactions that create it one waits here.
        connection.change(_begin(len(missing)), **in_list("subject", missing)[1])
        epoch, found = _held(connection, wanted)
    return epoch, found


def _held(connection: Connection, subjects: list[str]) -> tuple[int, dict[str, WindowUsage]]:
    found = dict(connection.rows(_hold(len(subjects)), **in_list("subject", subjects)[1]))
    epoch = int(found.pop(_EPOCH))
    return epoch, {subject: WindowUsage(*map(int, used.split())) for subject, used in found.items()}


def put(connection: Connection, spent: Mapping[str, WindowUsage], *, begins_days: bool) -> None:
    """Store what subjects have used, whose rows the transaction has locked; only ``begins_days`` writes the index."""
    values: list[Any] = []
    for subject, used in sorted(spent.items()):
        values += (subject, *astuple(used))
    statement, names = _put(len(spent), begins_days)
    connection.change(statement, **dict(zip(names, values, strict=True)))


def remove(connection: Connection, subject: str) -> None:
    """Delete a subject's row."""
    connection.change(_REMOVE, subject=subject)


def remove_unused(connection: Connection, subject: str) -> None:
    """Delete a subject's row if it was only created to be locked."""
    connection.change(_REMOVE_UNUSED, subject=subject)


def forget(connection: Connection, before: int, limit: int) -> int:
    """Delete up to ``limit`` rows whose day began before a time; return how many."""
    return connection.change(_FORGET, before=before, limit=limit)


@cache
def _hold(count: int) -> Sql:
    places = in_list("subject", range(count))[0]
    epoch = f"SELECT '{_EPOCH}', value FROM {epochs.ROW}"  # noqa: S608 - no values in it
    # In one column: PyMySQL takes longer for the description of a column than for a row.
    select = f"SELECT subject, CONCAT_WS(' ', {_LIST}) FROM windows"  # noqa: S608 - the same
    return Sql(
        f"{epoch} UNION ALL {select} WHERE subject IN ({places})",
        # In the order of the key, whatever the optimizer makes of a small table; without LIMIT it could drop the order.
        mysql=f"({epoch} LOCK IN SHARE MODE) UNION ALL ({select} FORCE INDEX (PRIMARY) WHERE subject IN ({places})"
        f" ORDER BY subject LIMIT {count} FOR UPDATE)",
    )


@cache
def _begin(count: int) -> Sql:
    rows = ", ".join(f"(:subject{index}, 0, 0, 0, 0, 0, 0)" for index in range(count))
    insert = f"INTO windows (subject, {_LIST}) VALUES {rows}"
    return Sql(f"INSERT {insert} ON CONFLICT DO NOTHING", mysql=f"INSERT IGNORE {insert}")


@cache
def _put(count: int, begins_days: bool) -> tuple[Sql, tuple[str, ...]]:  # noqa: FBT001 - private, and a cache takes no better
    """Return the statement for ``count`` subjects, and the names of its values."""
    columns = ("subject", *_COLUMNS)
    names = [[f"{column}{index}" for column in columns] for index in range(count)]
    rows = ", ".join(f"({', '.join(f':{name}' for name in row)})" for row in names)
    insert = f"INSERT INTO windows ({quoted(columns)}) VALUES {rows}"  # noqa: S608 - no values in it
    changing = [name for name in _COLUMNS if begins_days or name != "day_began"]
    sqlite = ", ".join(f"`{name}` = excluded.`{name}`" for name in changing)
    mysql = ", ".join(f"`{name}` = VALUES(`{name}`)" for name in changing)
    statement = Sql(
        f"{insert} ON CONFLICT (subject) DO UPDATE SET {sqlite}", mysql=f"{insert} ON DUPLICATE KEY UPDATE {mysql}"
    )
    return statement, tuple(chain.from_iterable(names))
