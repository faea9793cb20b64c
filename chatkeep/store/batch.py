"""A batch: the changes and deltas that the journal commits in one transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar
from uuid import UUID

from chatkeep.domain.conversation import Delta
from chatkeep.errors import Problem, StoreProblem, StoreUnavailable
from chatkeep.runtime.concurrency import Event, event
from chatkeep.store import audit, messages, windows
from chatkeep.store.messages import Progress
from chatkeep.store.sql import Append, Contention, DriverConnection
from chatkeep.store.transaction import Transaction

T = TypeVar("T")
# A transaction that rewrites more characters than this blocks the event loop for longer than a thread costs.
INLINE_CHARACTERS = 250_000


class Sink(Protocol):
    """A reply that is being written. The journal's thread calls the methods, so they must not block."""

    id: UUID
    written: int
    """Committed characters, text and reasoning together."""

    def committed(self, delta: Delta) -> None:
        """Handle the commit of a delta."""

    def lost(self, progress: Progress | None) -> None:
        """Handle a row that is final or deleted, so that nothing can be appended any more."""

    def refused(self, problem: Problem) -> None:
        """Handle a delta that the database refused: neither it nor anything after it is stored."""


@dataclass(slots=True)
class Change(Generic[T]):
    """An operation that waits for its transaction."""

    work: Callable[[Transaction], T]
    retry_until_up: bool
    inline: bool
    subjects: tuple[str, ...] = ()
    kept: bool = True
    """Whether its transaction is committed, not rolled back."""
    done: Event = field(default_factory=event)
    result: Any = None
    error: Exception | None = None

    def fail(self, error: StoreUnavailable) -> None:
        """End with a copy of an error that several changes share."""
        self.error = type(error)(retry_after=error.retry_after)
        self.done.set()


class Committed(NamedTuple):
    """What a transaction did."""

    lost: dict[UUID, Progress | None]
    """The replies that accept no more text, each with its state."""
    has_written: bool


NOTHING = Committed({}, has_written=False)


@dataclass(slots=True)
class Batch:
    """What one transaction stores, or rolls back."""

    changes: list[Change[Any]] = field(default_factory=list)
    deltas: dict[Sink, list[Delta]] = field(default_factory=dict, repr=False)
    kept: bool = True

    def is_inline(self) -> bool:
        """Return whether the batch is small enough to run in the event loop."""
        return all(change.inline for change in self.changes) and sum(sink.written for sink in self.deltas) < (
            INLINE_CHARACTERS
        )

    def appends(self) -> dict[Sink, Append]:
        """Return one append for each reply, with all its deltas."""
        return {sink: Append(sink.id, sink.written, _joined(deltas)) for sink, deltas in self.deltas.items()}

    def halves(self) -> list[Batch]:
        """Return two batches that make up this one, deltas first; none if the batch cannot be divided."""
        if self.deltas and self.changes:
            return [Batch(deltas=self.deltas), Batch(self.changes)]
        if len(self.changes) > 1:
            return [Batch(half, kept=self.kept) for half in _halved(self.changes)]
        if len(self.deltas) > 1:
            return [Batch(deltas=dict(half)) for half in _halved(list(self.deltas.items()))]
        return []

    def tell(self, appends: dict[Sink, Append], lost: dict[UUID, Progress | None]) -> None:
        """Notify the replies and the callers of a stored batch."""
        try:
            for sink, append in appends.items():
                if sink.id in lost:
                    sink.lost(lost[sink.id])
                else:
                    sink.committed(append.delta)
        finally:
            for change in self.changes:
                change.done.set()


def _halved(items: list[T]) -> tuple[list[T], list[T]]:
    middle = len(items) // 2
    return items[:middle], items[middle:]


def _joined(deltas: list[Delta]) -> Delta:
    if len(deltas) == 1:
        return deltas[0]
    return Delta("".join(delta.text for delta in deltas), "".join(delta.reasoning for delta in deltas))


def commit(connection: DriverConnection, batch: Batch, appends: list[Append], *, waits: bool = True) -> Committed:
    """Run a batch in one transaction, again without each change that fails after it wrote."""
    changes = batch.changes
    while True:
        try:
            before = connection.writes
            connection.begin(waits=waits)
            transaction = _hold(connection, changes)
            lost = _append(transaction, appends)
            failed = _run(transaction, changes)
            if failed is None:
                _write_collected(transaction)
                if batch.kept:
                    connection.commit()
                else:
                    connection.rollback()
                return Committed(lost, has_written=bool(appends) or connection.writes != before)
        except BaseException:
            with contextlib.suppress(StoreProblem):
                connection.rollback()
            raise
        connection.rollback()
        changes = [change for change in changes if change is not failed]


def _hold(connection: DriverConnection, changes: list[Change[Any]]) -> Transaction:
    """Lock the epoch and the changes' subjects; return the transaction that holds them.

    They are locked before everything else, so a transaction that waits for them holds nothing that this one needs.
    """
    if not changes:
        return Transaction(connection)
    subjects = {subject for change in changes for subject in change.subjects}
    return Transaction(connection, *windows.hold(connection, subjects))


def _append(transaction: Transaction, appends: list[Append]) -> dict[UUID, Progress | None]:
    """Append; return the replies whose rows hold the text neither now nor since a commit of unknown outcome."""
    if not appends or transaction.append(appends) == len(appends):
        return {}
    found = messages.progress_of(transaction, [item.reply_id for item in appends])
    return {
        item.reply_id: found.get(item.reply_id)
        for item in appends
        if item.reply_id not in found or found[item.reply_id].written != item.at + item.length
    }


def _run(transaction: Transaction, changes: list[Change[Any]]) -> Change[Any] | None:
    """Run changes; return the first that failed after it had written, so that it must be rolled back."""
    for change in changes:
        writes, events = transaction.connection.writes, len(transaction.events)
        change.result = change.error = None
        try:
            change.result = change.work(transaction)
        except (StoreUnavailable, Contention):
            raise
        except Exception as error:  # noqa: BLE001 - raised in the caller of the journal
            change.error = error
            del transaction.events[events:]
            if transaction.connection.writes != writes:
                return change
    return None


def _write_collected(transaction: Transaction) -> None:
    """Write what the changes have collected: use of limits, then audit events."""
    ledger = transaction.ledger
    if ledger.changed:
        windows.put(transaction, ledger.changed, begins_days=ledger.begins_days)
    if transaction.events:
        audit.add(transaction, transaction.events)
