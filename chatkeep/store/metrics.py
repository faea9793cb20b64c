"""The table ``metrics``: counters of all processes by minute, and all-time totals under the minute 0.

Minutes count from 1970. A histogram's buckets are not cumulative.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chatkeep.runtime.metrics import GENERATING, WORKERS
from chatkeep.store.sql import Connection, Sql, in_list

ALL_TIME = 0
# The most minutes that one transaction deletes: some hundred rows.
MINUTES = 20

_TOTALS = Sql("SELECT name, value FROM metrics WHERE minute = 0")
_OLDEST = Sql("SELECT minute FROM metrics WHERE minute > 0 ORDER BY minute LIMIT 1")
_FORGET = Sql("DELETE FROM metrics WHERE minute > 0 AND minute < :before")
_GENERATING = Sql("SELECT COUNT(*) FROM leases")
_WORKERS = Sql("SELECT COUNT(*) FROM workers")
_CONVERSATIONS = Sql("SELECT COUNT(*) FROM conversations")
_STORAGE = Sql(
    "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
    mysql="SELECT SUM(data_length + index_length) FROM information_schema.tables WHERE table_schema = DATABASE()",
)


def add(connection: Connection, minute: int, counted: Mapping[str, float]) -> None:
    """Add to the values of a minute."""
    _write(connection, minute, counted, "value + {new}")


def put(connection: Connection, minute: int, measured: Mapping[str, float]) -> None:
    """Set the values of a minute."""
    _write(connection, minute, measured, "{new}")


def _write(connection: Connection, minute: int, values: Mapping[str, float], how: str) -> None:
    """Write all samples in one statement, by name, so that processes lock rows in the same order."""
    if not values:
        return
    rows = sorted(values.items())
    places = ", ".join(f"(:minute, :name{index}, :value{index})" for index in range(len(rows)))
    insert = f"INSERT INTO metrics (minute, name, value) VALUES {places}"  # noqa: S608 - no values in it
    sql = Sql(
        f"{insert} ON CONFLICT (minute, name) DO UPDATE SET value = {how.format(new='excluded.value')}",
        mysql=f"{insert} ON DUPLICATE KEY UPDATE value = {how.format(new='VALUES(value)')}",
    )
    named = {f"name{index}": name for index, (name, _) in enumerate(rows)}
    counted = {f"value{index}": value for index, (_, value) in enumerate(rows)}
    connection.change(sql, minute=minute, **named, **counted)


def totals(connection: Connection) -> dict[str, float]:
    """Return every sample: all-time counts and the latest measurements."""
    return dict(connection.rows(_TOTALS))


def summed(
    connection: Connection, names: Iterable[str], first: int, last: int, step: int
) -> list[tuple[str, int, float]]:
    """Return sums of the minutes from ``first`` to ``last``: name, index of the interval of ``step`` minutes, sum."""
    return _grouped(connection, names, first, last, step, "SUM")


def highest(
    connection: Connection, names: Iterable[str], first: int, last: int, step: int
) -> list[tuple[str, int, float]]:
    """Return the same with the maximum of each interval."""
    return _grouped(connection, names, first, last, step, "MAX")


def _grouped(
    connection: Connection, names: Iterable[str], first: int, last: int, step: int, of: str
) -> list[tuple[str, int, float]]:
    places, named = in_list("name", names)
    text = (
        f"SELECT name, (minute - :first) {{divide}} :step AS slot, {of}(value) FROM metrics"  # noqa: S608 - no values
        f" WHERE name IN ({places}) AND minute BETWEEN :first AND :last GROUP BY name, slot"
    )
    sql = Sql(text.format(divide="/"), mysql=text.format(divide="DIV"))
    return [
        (name, int(slot), float(value))
        for name, slot, value in connection.rows(sql, first=first, last=last, step=step, **named)
    ]


def forget(connection: Connection, before: int) -> int:
    """Delete some of the oldest minutes before one. Return how many rows."""
    oldest = connection.rows(_OLDEST)
    return connection.change(_FORGET, before=min(before, oldest[0][0] + MINUTES)) if oldest else 0


def running(connection: Connection) -> dict[str, float]:
    """Return the cheap measurements: running replies and live processes."""
    return {GENERATING.name: connection.rows(_GENERATING)[0][0], WORKERS.name: connection.rows(_WORKERS)[0][0]}


def conversations(connection: Connection) -> int:
    """Return how many conversations are stored."""
    return int(connection.rows(_CONVERSATIONS)[0][0])


def storage(connection: Connection) -> int:
    """Return the size of the database in bytes."""
    return int(connection.rows(_STORAGE)[0][0] or 0)
