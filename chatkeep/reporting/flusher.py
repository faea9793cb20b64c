"""What a process counts, added to what all have counted; and what there is, measured by one process for all."""

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

DUTY = "measure"
EVERY_S = 1.0
# Metrics are stored every tenth time, at first when the process has shown that it lives, and measured every thirtieth.
RECORD_EVERY, MEASURE_EVERY, FIRST = 10, 30, 2
MINUTE_US = 60_000_000


class MetricsFlusher:
    """Stores what was used, every second, and the counts of one process, every ten; what is left when it closes.

    They wait while the database is away. Where a commit's outcome is not known they are stored again: the counts of
    those seconds may be doubled then, but none is lost.
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
        self._thread = background(self._run, name="recorder")

    def close(self) -> None:
        """Store what was counted so far; call it before the journal closes."""
        if not self._closed.is_set():
            self._closed.set()
            self._thread.join(timeout=5)
            self._attempt(self._record_usage)
            self._attempt(self._record)

    def _run(self) -> None:
        rounds = 0
        while not self._closed.wait(EVERY_S):
            rounds += 1
            self._attempt(self._record_usage)
            if rounds % RECORD_EVERY == FIRST:
                self._attempt(self._record)
            if rounds % MEASURE_EVERY == FIRST:
                self._attempt(self._measure)

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Problem as error:
            log.warning("could not store what was counted: %s", named(error))
        except Exception:
            log.exception("could not store what was counted")

    def _record_usage(self) -> None:
        """Store what was used, or keep it for the next time."""
        taken = self._usage.drain()
        if not taken:
            return
        try:
            self._journal.write(lambda connection: usage.add(connection, taken))
        except BaseException:
            self._usage.restore(taken)
            raise

    def _record(self) -> None:
        """Store what was counted, or keep it for the next time."""
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
        """Measure what there is, while this process has the duty."""
        if not self._journal.write(lambda connection: leadership.acquire(connection, DUTY, self._worker_id)):
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
