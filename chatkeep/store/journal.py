"""The group writer: every write of a process goes through one transaction after another, each for all who wait.

A commit costs the same for one stream as for hundreds, so the journal takes whatever has come since the last one and
commits it together. What it acknowledges is durable, and what followers of a reply are shown was committed before.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID
from weakref import WeakSet

from chatkeep.domain.conversation import Delta
from chatkeep.errors import InternalError, OutcomeUnknown, Problem, ServerStopping, StoreProblem, StoreUnavailable
from chatkeep.runtime.concurrency import Event, Lane, background, event, short_lock
from chatkeep.store import audit, counters, messages, mysql, windows
from chatkeep.store.engine import Database
from chatkeep.store.ledger import Ledger
from chatkeep.store.messages import Progress
from chatkeep.store.sql import Append, Connection, Contention
from chatkeep.store.sqlite import WriteAheadLog

T = TypeVar("T")
log = logging.getLogger(__name__)

CONTENTION_TRIES = 20
RETRY_S = (0.05, 1.0)
# A transaction that rewrites more characters than this holds the event loop up for longer than a thread costs.
BRIEF_CHARACTERS = 250_000
# Commits begin apart only while many streams are open: 0.1 ms for each, up to 20 ms, nothing for a few.
FEW_STREAMS, SPACING_S, MAX_SPACING_S = 16, 0.0001, 0.020


class Sink(Protocol):
    """A reply that is being written. Called on the journal's thread, which must not be held up."""

    id: UUID
    written: int
    """Characters that are committed, text and reasoning together."""

    def committed(self, delta: Delta) -> None:
        """Take note that this much more is durable."""

    def lost(self, progress: Progress | None) -> None:
        """Take note that the row is final already, or gone: nothing can be appended any more."""

    def refused(self, problem: Problem) -> None:
        """Take note that the database refused a part of the text: that part and what follows are not stored."""


@dataclass(slots=True)
class _Change(Generic[T]):
    """An operation that waits for its transaction."""

    work: Callable[[Connection], T]
    retry_until_up: bool
    inline: bool
    subjects: tuple[str, ...] = ()
    kept: bool = True
    """Whether its transaction is committed, not rolled back."""
    done: Event = field(default_factory=event)
    result: Any = None
    error: Exception | None = None

    def fail(self, error: StoreUnavailable) -> None:
        """End it with a copy of an error that it shares with others."""
        self.error = type(error)(retry_after=error.retry_after)
        self.done.set()


@dataclass(slots=True)
class _Batch:
    """What one transaction stores, or rolls back."""

    changes: list[_Change[Any]] = field(default_factory=list)
    deltas: dict[Sink, list[Delta]] = field(default_factory=dict, repr=False)
    kept: bool = True

    def is_inline(self) -> bool:
        return all(change.inline for change in self.changes) and sum(sink.written for sink in self.deltas) < (
            BRIEF_CHARACTERS
        )

    def appends(self) -> dict[Sink, Append]:
        return {sink: Append(sink.id, sink.written, _joined(deltas)) for sink, deltas in self.deltas.items()}

    def halves(self) -> list[_Batch]:
        """Return two batches that make up this one, text first; none if it cannot be divided."""
        if self.deltas and self.changes:
            return [_Batch(deltas=self.deltas), _Batch(self.changes)]
        if len(self.changes) > 1:
            return [_Batch(half, kept=self.kept) for half in _halved(self.changes)]
        if len(self.deltas) > 1:
            return [_Batch(deltas=dict(half)) for half in _halved(list(self.deltas.items()))]
        return []


def _halved(items: list[T]) -> tuple[list[T], list[T]]:
    middle = len(items) // 2
    return items[:middle], items[middle:]


def _joined(deltas: list[Delta]) -> Delta:
    if len(deltas) == 1:
        return deltas[0]
    return Delta("".join(delta.text for delta in deltas), "".join(delta.reasoning for delta in deltas))


class Journal:
    """The group writer of one process; start it after forking."""

    def __init__(self, database: Database) -> None:
        self.streams = 0
        """How many replies are being generated: the more, the wider the commits are spaced."""
        self.collect: Callable[[], bool] = _collect_nothing
        """Called before each transaction: appends what has arrived by then; where it returns False because nothing
        has, it sees to it that `wake` is called when something does."""
        self._database = database
        self._queue: queue.SimpleQueue[_Change[Any] | None] = queue.SimpleQueue()
        self._backlog: list[_Change[Any] | None] = []
        self._deltas: dict[Sink, list[Delta]] = {}
        self._deltas_lock = short_lock()
        self._connection: Connection | None = None
        self._used = 0.0
        """When the last transaction began."""
        self._log: WriteAheadLog | None = None
        self._lane = Lane(1)
        self._refused: WeakSet[Sink] = WeakSet()
        self._failure: StoreUnavailable | None = None
        self._probe: _Change[None] | None = None
        self._closed = False
        self._thread = background(self._run, name="journal")

    def write(
        self,
        work: Callable[[Connection], T],
        *,
        retry_until_up: bool = False,
        inline: bool = False,
        subjects: tuple[str, ...] = (),
    ) -> T:
        """Return ``work(connection)`` once it is durable; it may count against the limits of ``subjects``.

        ``work`` runs in a transaction with others' work and may run again; it undoes nothing itself: whatever it raises
        undoes just its own writes and is raised here. ``retry_until_up`` work waits until the database is back, and
        must be such that running it twice does no harm; other work raises `StoreUnavailable`, after which nothing
        of it is stored, or `OutcomeUnknown`. What the database refuses raises `DatabaseRefused`, and is not repeated.
        ``inline`` work touches a few rows: on SQLite it needs no thread.
        """
        if self._closed:
            raise ServerStopping(retry_after=1)
        change = _Change(work, retry_until_up, inline, subjects)
        self._queue.put(change)
        change.done.wait()
        if isinstance(change.error, StoreProblem):
            raise change.error.to_writer()
        if change.error is not None:
            raise change.error
        return change.result  # type: ignore[no-any-return]

    def probe(self, seconds: float) -> None:
        """Raise `StoreProblem` unless a write gets through within ``seconds``; it is rolled back.

        A disk without room lets a write pass that is rolled back. So the last transaction that was to be kept counts,
        too: the watch writes once a second.
        """
        change = self._probe
        if change is None or change.done.wait(0):  # many who ask at once share one
            change = self._probe = _Change(counters.try_out, retry_until_up=False, inline=True, kept=False)
            self._queue.put(change)
        if not change.done.wait(seconds):
            raise StoreUnavailable(retry_after=2)
        if change.error is not None:
            raise change.error
        if self._failure is not None:
            raise type(self._failure)(retry_after=self._failure.retry_after)

    def append(self, sink: Sink, delta: Delta) -> None:
        """Append to a reply's row with the next transaction; the sink is told when that is durable."""
        with self._deltas_lock:
            first = not self._deltas
            self._deltas.setdefault(sink, []).append(delta)
        if first:
            self.wake()

    def wake(self) -> None:
        """Let the next transaction begin, for which there is something to be collected."""
        self._queue.put(None)

    def close(self) -> None:
        """Store what is waiting and stop."""
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
                    log.exception("those who wait for a batch could not be told")
            if self.streams > FEW_STREAMS:
                spacing = min(self.streams * SPACING_S, MAX_SPACING_S)
                time.sleep(max(0.0, begun + spacing - time.monotonic()))
        self._disconnect()

    def _gather(self) -> tuple[_Batch, _Batch]:
        """Return what is to be rolled back and what is to be kept of all that is waiting or has arrived.

        Wait where nothing is or has.
        """
        items, self._backlog = self._backlog, []
        while self.collect() and self._queue.empty():
            pass  # what was read held no text
        found = [item for item in (*(items or [self._queue.get()]), *self._waiting()) if item is not None]
        probes = _Batch([change for change in found if not change.kept], kept=False)
        batch = _Batch([change for change in found if change.kept])
        # After the changes: what was appended before the end of a reply is stored with it.
        with self._deltas_lock:
            batch.deltas, self._deltas = self._deltas, {}
        if self._refused:  # what follows a gap is not stored
            batch.deltas = {sink: deltas for sink, deltas in batch.deltas.items() if sink not in self._refused}
        return probes, batch

    def _waiting(self) -> Iterator[_Change[Any] | None]:
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._queue.get_nowait()

    def _store(self, batch: _Batch) -> None:
        """Store a batch and tell those who wait; of one that cannot be stored store what can, half by half."""
        appends = batch.appends()
        try:
            lost = self._committed(batch, appends)
        except Exception as error:  # noqa: BLE001 - told to those who wait, or logged
            self._disconnect()
            halves = batch.halves()
            for half in halves:
                self._store(half)
            if not halves:
                self._refuse(batch, error)
            return
        _tell(batch, appends, lost)
        self._shorten_log()

    def _committed(self, batch: _Batch, appends: dict[Sink, Append]) -> dict[UUID, Progress | None]:
        """Store what waits patiently however often that takes; return the replies that take no more text."""
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
        return {}

    def _attempt(self, batch: _Batch, appends: dict[Sink, Append]) -> dict[UUID, Progress | None]:
        if self._log is None and time.monotonic() - self._used > mysql.IDLE_S / 2:
            self._disconnect()  # before the server does
        self._used = time.monotonic()
        if self._connection is None:
            self._connection = self._database.dedicated()
            self._log = self._database.log_of(self._connection)
        connection, before = self._connection, self._connection.writes
        lost = self._transact(connection, batch, list(appends.values()))
        if batch.kept and (appends or connection.writes != before):
            self._failure = None
        return lost

    def _transact(self, connection: Connection, batch: _Batch, appends: list[Append]) -> dict[UUID, Progress | None]:
        if self._log is not None:
            return self._transact_embedded(connection, batch, appends)
        for _ in range(CONTENTION_TRIES):
            try:
                return _commit(connection, batch, appends)
            except Contention:
                time.sleep(random.uniform(0.001, 0.02))  # noqa: S311 - jitter
        raise StoreUnavailable(retry_after=1)

    def _transact_embedded(
        self, connection: Connection, batch: _Batch, appends: list[Append]
    ) -> dict[UUID, Progress | None]:
        """Run one transaction as `_commit` does, beside the event loop where it could hold that up.

        A thread costs a brief one as much as the rest of it: the two would wait for each other at every statement.
        """
        if batch.is_inline():
            with contextlib.suppress(Contention):  # another process writes: wait for it in a thread
                return _commit(connection, batch, appends, waits=False)
        return self._lane.run(_commit, connection, batch, appends)

    def _shorten_log(self) -> None:
        """Bring the embedded database's log into its file once it is long. What it holds is stored either way."""
        if self._log is not None and self._log.is_full:
            try:
                self._lane.run(self._log.checkpoint)
            except StoreProblem as error:
                log.warning("could not bring the log into the database's file: %s", error)

    def _give_up_unless_retrying(self, batch: _Batch, error: StoreUnavailable) -> None:
        """End impatient work of a batch that failed, and what came meanwhile: it would fail, too.

        Patient work that came stays behind: the batch's appends must be tried again just as they are, since the last
        try may have stored them without saying so.
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

    def _refuse(self, batch: _Batch, error: Exception) -> None:
        """Let nobody wait for the one thing of a batch that cannot be stored."""
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
    """Return what a transaction's failure is for those whose work was not in it."""
    return StoreUnavailable(retry_after=error.retry_after) if isinstance(error, OutcomeUnknown) else error


def _collect_nothing() -> bool:
    """Collect nothing: what arrives is appended by those who wait for it."""
    return False


def _commit(
    connection: Connection, batch: _Batch, appends: list[Append], *, waits: bool = True
) -> dict[UUID, Progress | None]:
    """Run one transaction; return the replies that take no more text."""
    waiting = batch.changes
    while True:
        try:
            connection.begin(waits=waits)
            _hold(connection, waiting)
            lost = _append(connection, appends)
            failed = _run_changes(connection, waiting)
            if failed is None:
                ledger = connection.ledger
                if ledger.changed:
                    windows.put(connection, ledger.changed, begins_days=ledger.begins_days)
                if connection.notes:
                    audit.add(connection, connection.notes)
                if batch.kept:
                    connection.commit()
                else:
                    connection.rollback()
                return lost
        except BaseException:
            with contextlib.suppress(StoreProblem):
                connection.rollback()
            raise
        connection.rollback()
        waiting = [change for change in waiting if change is not failed]


def _hold(connection: Connection, changes: list[_Change[Any]]) -> None:
    """Hold the epoch and the subjects of a transaction's operations.

    Before any other lock, so that nobody who waits for these holds anything that this transaction comes to need.
    """
    connection.epoch, connection.ledger, connection.notes = None, Ledger(), []
    if changes:
        subjects = {subject for change in changes for subject in change.subjects}
        connection.epoch, spent = windows.hold(connection, subjects)
        connection.ledger = Ledger(spent)


def _append(connection: Connection, appends: list[Append]) -> dict[UUID, Progress | None]:
    """Append, and return those that are neither stored now nor by an earlier commit whose outcome was not known."""
    if not appends or connection.append(appends) == len(appends):
        return {}
    found = messages.progress_of(connection, [item.reply_id for item in appends])
    return {
        item.reply_id: found.get(item.reply_id)
        for item in appends
        if item.reply_id not in found or found[item.reply_id].written != item.at + item.length
    }


def _run_changes(connection: Connection, changes: list[_Change[Any]]) -> _Change[Any] | None:
    """Run operations; return the first that failed after it had written, and so must be undone."""
    for change in changes:
        before, noted = connection.writes, len(connection.notes)
        change.result = change.error = None
        try:
            change.result = change.work(connection)
        except (StoreUnavailable, Contention):
            raise
        except Exception as error:  # noqa: BLE001 - raised where the work came from
            change.error = error
            del connection.notes[noted:]
            if connection.writes != before:
                return change
    return None


def _tell(batch: _Batch, appends: dict[Sink, Append], lost: dict[UUID, Progress | None]) -> None:
    try:
        for sink, append in appends.items():
            if sink.id in lost:
                sink.lost(lost[sink.id])
            else:
                sink.committed(append.delta)
    finally:
        for change in batch.changes:
            change.done.set()
