"""The journal: the group commit of a process. All its writes run in one transaction after another.

A commit costs the same for one stream as for hundreds, so each transaction takes everything that has arrived since the
last one. Acknowledged writes are durable, and followers of a reply see only committed text.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from weakref import WeakSet

from chatkeep.domain.conversation import Delta
from chatkeep.errors import InternalError, OutcomeUnknown, Problem, ServerStopping, StoreProblem, StoreUnavailable
from chatkeep.runtime.concurrency import Lane, background, short_lock
from chatkeep.store import counters, mysql
from chatkeep.store.batch import NOTHING, Batch, Change, Committed, Sink, commit
from chatkeep.store.engine import Database
from chatkeep.store.sql import Append, Contention, DriverConnection
from chatkeep.store.sqlite import WriteAheadLog
from chatkeep.store.transaction import Transaction

T = TypeVar("T")
log = logging.getLogger(__name__)

CONTENTION_TRIES = 20
RETRY_S = (0.05, 1.0)
# While many streams are open, commits are spaced: 0.1 ms for each stream, up to 20 ms.
FEW_STREAMS, SPACING_S, MAX_SPACING_S = 16, 0.0001, 0.020


class Journal:
    """The group commit of one process; start it after the fork."""

    def __init__(self, database: Database) -> None:
        self.streams = 0
        """Replies that are being generated: commits are spaced by their number."""
        self.collect: Callable[[], bool] = _collect_nothing
        """Appends what has arrived; called before each transaction. If it returns False because nothing has arrived,
        it calls `wake` when something does."""
        self._database = database
        self._queue: queue.SimpleQueue[Change[Any] | None] = queue.SimpleQueue()
        self._backlog: list[Change[Any] | None] = []
        self._deltas: dict[Sink, list[Delta]] = {}
        self._deltas_lock = short_lock()
        self._connection: DriverConnection | None = None
        self._used = 0.0
        """When the last transaction began."""
        self._log: WriteAheadLog | None = None
        self._lane = Lane(1)
        self._refused: WeakSet[Sink] = WeakSet()
        self._failure: StoreUnavailable | None = None
        self._probe: Change[None] | None = None
        self._closed = False
        self._thread = background(self._run, name="journal")

    def write(
        self,
        work: Callable[[Transaction], T],
        *,
        retry_until_up: bool = False,
        inline: bool = False,
        subjects: tuple[str, ...] = (),
    ) -> T:
        """Return ``work(transaction)`` once it is durable; it may charge the limits of ``subjects``.

        ``work`` shares its transaction with other work and may run again. An exception rolls back only its own writes
        and is raised here. ``retry_until_up`` work waits until the database is back, and must be idempotent. Other work
        raises `StoreUnavailable`, after which none of it is stored, or `OutcomeUnknown`. A refused statement raises
        `DatabaseRefused` without a retry. ``inline`` work touches a few rows, so on SQLite it needs no thread.
        """
        if self._closed:
            raise ServerStopping(retry_after=1)
        change = Change(work, retry_until_up, inline, subjects)
        self._queue.put(change)
        change.done.wait()
        if isinstance(change.error, StoreProblem):
            raise change.error.to_writer()
        if change.error is not None:
            raise change.error
        return change.result  # type: ignore[no-any-return]

    def probe(self, seconds: float) -> None:
        """Raise `StoreProblem` unless a write succeeds within ``seconds``; it is rolled back.

        A full disk accepts a write that is rolled back, so the last transaction that committed or failed to counts as
        well: the watchdog writes once a second.
        """
        change = self._probe
        if change is None or change.done.wait(0):  # concurrent callers share one probe
            change = self._probe = Change(counters.try_out, retry_until_up=False, inline=True, kept=False)
            self._queue.put(change)
        if not change.done.wait(seconds):
            raise StoreUnavailable(retry_after=2)
        if change.error is not None:
            raise change.error
        if self._failure is not None:
            raise type(self._failure)(retry_after=self._failure.retry_after)

    def append(self, sink: Sink, delta: Delta) -> None:
        """Append to a reply's row in the next transaction, whose commit the sink is notified of."""
        with self._deltas_lock:
            first = not self._deltas
            self._deltas.setdefault(sink, []).append(delta)
        if first:
            self.wake()

    def wake(self) -> None:
        """Begin the next transaction, because `collect` has something to append."""
        self._queue.put(None)

    def close(self) -> None:
        """Store what is queued, then stop."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not (self._closed and self._queue.empty() and not self._backlog):
            waiting, begun = self._gather(), time.monotonic()
            for batch in waiting:
                try:
                    self._store(batch)
                except Exception:
                    log.exception("could not notify the callers of a batch")
            if self.streams > FEW_STREAMS:
                spacing = min(self.streams * SPACING_S, MAX_SPACING_S)
                time.sleep(max(0.0, begun + spacing - time.monotonic()))
        self._disconnect()

    def _gather(self) -> tuple[Batch, Batch]:
        """Wait for something to store; return the probes, which are rolled back, and everything else."""
        items, self._backlog = self._backlog, []
        while self.collect() and self._queue.empty():
            pass  # what has arrived held no text
        found = [item for item in (*(items or [self._queue.get()]), *self._waiting()) if item is not None]
        probes = Batch([change for change in found if not change.kept], kept=False)
        batch = Batch([change for change in found if change.kept])
        # After the changes: deltas that precede a reply's end are stored with it.
        with self._deltas_lock:
            batch.deltas, self._deltas = self._deltas, {}
        if self._refused:  # nothing is stored after a gap
            batch.deltas = {sink: deltas for sink, deltas in batch.deltas.items() if sink not in self._refused}
        return probes, batch

    def _waiting(self) -> Iterator[Change[Any] | None]:
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._queue.get_nowait()

    def _store(self, batch: Batch) -> None:
        """Store a batch and notify its callers; store what it can, half by half, if the batch fails."""
        appends = batch.appends()
        try:
            committed = self._committed(batch, appends)
        except Exception as error:  # noqa: BLE001 - raised in the callers, or logged
            self._disconnect()
            halves = batch.halves()
            for half in halves:
                self._store(half)
            if not halves:
                self._refuse(batch, error)
            return
        batch.tell(appends, committed.lost)
        self._shorten_log()

    def _committed(self, batch: Batch, appends: dict[Sink, Append]) -> Committed:
        """Commit a batch; while the database is down, retry deltas and changes that are `retry_until_up`."""
        waits = RETRY_S[0]
        while batch.changes or appends:
            try:
                return self._attempt(batch, appends)
            except StoreUnavailable as error:
                if batch.kept:
                    self._failure = _beside(error)
                self._give_up_unless_retrying(batch, error)
                time.sleep(waits)
                waits = min(waits * 2, RETRY_S[1])
        return NOTHING

    def _attempt(self, batch: Batch, appends: dict[Sink, Append]) -> Committed:
        if self._log is None and time.monotonic() - self._used > mysql.IDLE_S / 2:
            self._disconnect()  # before the server does
        self._used = time.monotonic()
        if self._connection is None:
            self._connection = self._database.dedicated()
            self._log = self._database.log_of(self._connection)
        committed = self._transact(self._connection, batch, list(appends.values()))
        if batch.kept and committed.has_written:
            self._failure = None
        return committed

    def _transact(self, connection: DriverConnection, batch: Batch, appends: list[Append]) -> Committed:
        if self._log is not None:
            return self._transact_embedded(connection, batch, appends)
        for _ in range(CONTENTION_TRIES):
            try:
                return commit(connection, batch, appends)
            except Contention:
                time.sleep(random.uniform(0.001, 0.02))  # noqa: S311 - jitter
        raise StoreUnavailable(retry_after=1)

    def _transact_embedded(self, connection: DriverConnection, batch: Batch, appends: list[Append]) -> Committed:
        """Commit on SQLite: a short batch inline, a long one in a thread so that it does not block the event loop.

        A thread would double the cost of a short batch: each statement waits for the other thread.
        """
        if batch.is_inline():
            with contextlib.suppress(Contention):  # another process writes: wait for it in a thread
                return commit(connection, batch, appends, waits=False)
        return self._lane.run(commit, connection, batch, appends)

    def _shorten_log(self) -> None:
        """Checkpoint SQLite's write-ahead log once it is long; its content is durable either way."""
        if self._log is not None and self._log.is_full:
            try:
                self._lane.run(self._log.checkpoint)
            except StoreProblem as error:
                log.warning("could not checkpoint the write-ahead log: %s", error)

    def _give_up_unless_retrying(self, batch: Batch, error: StoreUnavailable) -> None:
        """Fail all work of a batch and of the queue that is not `retry_until_up`.

        Other queued work goes to the backlog: the batch's appends must be retried unchanged, because the last attempt
        may have stored them without an answer.
        """
        log.warning("the database is not available: %s", error)
        self._disconnect()
        for change in batch.changes:
            if not change.retry_until_up:
                change.fail(error)
        batch.changes = [change for change in batch.changes if change.retry_until_up]
        for item in self._waiting():
            if item is not None and not item.retry_until_up:
                item.fail(_beside(error))
            else:
                self._backlog.append(item)

    def _refuse(self, batch: Batch, error: Exception) -> None:
        """Raise the error in the callers of a batch that cannot be divided."""
        for sink in batch.deltas:
            log.error("a reply's text cannot be stored: %s", error)
            self._refused.add(sink)
            sink.refused(error if isinstance(error, Problem) else InternalError())
        for change in batch.changes:
            change.error = error
            change.done.set()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._database.end_unanswered(self._connection)
            self._connection = self._log = None


def _beside(error: StoreUnavailable) -> StoreUnavailable:
    """Return what a transaction's failure means for work that was not in it."""
    return StoreUnavailable(retry_after=error.retry_after) if isinstance(error, OutcomeUnknown) else error


def _collect_nothing() -> bool:
    """Collect nothing: each reader appends what it receives."""
    return False
