"""Flush this process's metrics and usage to the database; one process also measures gauges for all."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from uuid import UUID

from chatkeep.domain.conversation import now_us
from chatkeep.errors import Problem
from chatkeep.limiting.aggregator import UsageAggregator
from chatkeep.runtime.concurrency import background
from chatkeep.runtime.logs import named
from chatkeep.runtime.metrics import CONVERSATIONS, STORAGE_BYTES, Registry, has_history
from chatkeep.store import leadership, metrics, usage
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.sql import Connection

log = logging.getLogger(__name__)

ROLE = "measure"
INTERVAL_S = 1.0
# Metrics are stored every tenth round, starting with the second, after the first heartbeat; gauges every thirtieth.
FLUSH_EVERY, MEASURE_EVERY, FIRST = 10, 30, 2
MINUTE_US = 60_000_000


class MetricsFlusher:
    """Flush usage every second, metrics every ten seconds, and both on close.

    While the database is unavailable, counts stay in memory. If the outcome of a commit is unknown, they are stored
    again: counts of that period may be doubled, but none is lost.
    """

    def __init__(
        self, database: Database, journal: Journal, worker_id: UUID, registry: Registry, usage: UsageAggregator
    ) -> None:
        self._database = database
        self._journal = journal
        self._worker_id = worker_id
        self._registry = registry
        self._usage = usage
        self._closed = threading.Event()
        self._thread = background(self._run, name="flusher")

    def close(self) -> None:
        """Flush the rest; call it before the journal closes."""
        if not self._closed.is_set():
            self._closed.set()
            self._thread.join(timeout=5)
            self._attempt(self._flush_usage)
            self._attempt(self._flush_metrics)

    def _run(self) -> None:
        rounds = 0
        while not self._closed.wait(INTERVAL_S):
            rounds += 1
            self._attempt(self._flush_usage)
            if rounds % FLUSH_EVERY == FIRST:
                self._attempt(self._flush_metrics)
            if rounds % MEASURE_EVERY == FIRST:
                self._attempt(self._measure)

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Problem as error:
            log.warning("could not store metrics or usage: %s", named(error))
        except Exception:
            log.exception("could not store metrics or usage")

    def _flush_usage(self) -> None:
        """Store usage, or keep it for the next round."""
        taken = self._usage.drain()
        if not taken.used:
            return
        try:
            self._journal.write(lambda connection: usage.add(connection, taken.attributed(connection)))
        except BaseException:
            self._usage.restore(taken)
            raise

    def _flush_metrics(self) -> None:
        """Store metrics, or keep them for the next round."""
        taken = self._registry.drain()
        if not taken:
            return
        minute = now_us() // MINUTE_US
        try:
            self._journal.write(lambda connection: _add(connection, minute, taken))
        except BaseException:
            self._registry.restore(taken)
            raise

    def _measure(self) -> None:
        """Measure gauges, if this process is the leader."""
        if not self._journal.write(lambda connection: leadership.acquire(connection, ROLE, self._worker_id)):
            return
        measured = self._database.read(_measured, long=True)
        minute = now_us() // MINUTE_US
        self._journal.write(lambda connection: _put(connection, minute, measured))


def _measured(connection: Connection) -> dict[str, float]:
    counted = {CONVERSATIONS.name: metrics.conversations(connection), STORAGE_BYTES.name: metrics.storage(connection)}
    return metrics.running(connection) | counted


def _add(connection: Connection, minute: int, counted: dict[str, float]) -> None:
    metrics.add(connection, metrics.ALL_TIME, counted)
    metrics.add(connection, minute, {name: count for name, count in counted.items() if has_history(name)})


def _put(connection: Connection, minute: int, measured: dict[str, float]) -> None:
    metrics.put(connection, metrics.ALL_TIME, measured)
    metrics.put(connection, minute, measured)
