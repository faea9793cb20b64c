"""Metrics of all processes, in total and over time, for operators."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from chatkeep.runtime.metrics import Metric, quantile, samples
from chatkeep.store import metrics
from chatkeep.store.engine import Database
from chatkeep.store.sql import Connection

MINUTE_US = 60_000_000
# Minutes of a step: the smallest with at most this many steps is used.
STEPS, MOST_STEPS = (1, 10, 60, 1440), 200
QUANTILES = (0.5, 0.95)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a plot: a value for each step, None if there is none."""

    label: str
    values: list[float | None]


@dataclass(frozen=True, slots=True)
class Series:
    """A metric over time; ``start`` is in µs since 1970, ``step`` in minutes."""

    start: int
    step: int
    lines: list[Line] = field(default_factory=list)


def totals(database: Database) -> dict[str, float]:
    """Return the current value of every sample. Raises `StoreUnavailable`."""
    return database.read(_totals)


def _totals(connection: Connection) -> dict[str, float]:
    return metrics.totals(connection) | metrics.running(connection)


def series(database: Database, metric: Metric, start: int, end: int) -> Series:
    """Return a metric from ``start`` to ``end``, in µs since 1970; a histogram as quantiles.

    Steps are aligned to minutes, hours or days in UTC, so the first may begin before ``start``. Raises
    `StoreUnavailable`.
    """
    step = step_of(end - start)
    first = start // MINUTE_US // step * step
    length = max(1, -(-(end - first * MINUTE_US) // (step * MINUTE_US)))
    grouped = metrics.highest if metric.kind == "gauge" else metrics.summed
    span = (samples(metric), first, first + length * step - 1, step)
    found = _table(database.read(lambda connection: grouped(connection, *span), long=True))
    return Series(first * MINUTE_US, step, _lines(metric, found, length))


def step_of(span: int) -> int:
    """Return the minutes of a step for a span in µs."""
    return next((step for step in STEPS if span <= step * MINUTE_US * MOST_STEPS), STEPS[-1])


Table = dict[str, dict[int, float]]


def _table(rows: Iterable[tuple[str, int, float]]) -> Table:
    table: Table = {}
    for name, slot, value in rows:
        table.setdefault(name, {})[slot] = value
    return table


def _lines(metric: Metric, found: Table, length: int) -> list[Line]:
    if metric.buckets:
        return [Line(f"{share:g}", _quantiles(metric, found, share, length)) for share in QUANTILES]
    missing = None if metric.kind == "gauge" else 0.0
    return [
        Line(label, [found.get(name, {}).get(slot, missing) for slot in range(length)])
        for name, label in zip(samples(metric), metric.values or ("",), strict=True)
    ]


def _quantiles(metric: Metric, found: Table, share: float, length: int) -> list[float | None]:
    buckets = [found.get(name, {}) for name in samples(metric)]
    return [quantile(share, metric.buckets, [bucket.get(slot, 0) for bucket in buckets]) for slot in range(length)]
