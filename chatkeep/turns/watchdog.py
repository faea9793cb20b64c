"""The watchdog of a process: enforces deadlines, obeys stops, and ends the replies of dead processes."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection
from uuid import UUID

from chatkeep.auth.access import Access
from chatkeep.config.settings import Settings
from chatkeep.domain.conversation import Message, Role, Status
from chatkeep.domain.quota import UsageRecord, estimate
from chatkeep.errors import Problem
from chatkeep.limiting.aggregator import UsageAggregator
from chatkeep.limiting.storage import StorageQuota
from chatkeep.runtime.concurrency import background
from chatkeep.runtime.logs import named
from chatkeep.runtime.metrics import TURNS, Registry
from chatkeep.store import counters, leases, messages
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.leases import Lease
from chatkeep.store.transaction import Transaction
from chatkeep.turns.cache import ERASURES
from chatkeep.turns.live import LiveReply, StopReason
from chatkeep.turns.outcome import end_reply
from chatkeep.turns.service import Turns

log = logging.getLogger(__name__)

TICK_S = 0.25
LOOK_EVERY = 4  # ticks
# A process counts as dead when its heartbeat, which rises once a second, stands still for this many looks in a row.
# At a load of 14 per core, live processes stood still for four.
STILL_LOOKS = 6


class Watchdog:
    """Watches the replies of one process, and ends those of dead processes."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        journal: Journal,
        access: Access,
        turns: Turns,
        registry: Registry,
        usage: UsageAggregator,
    ) -> None:
        self._settings = settings
        self._quota = StorageQuota.of(settings)
        self._database = database
        self._journal = journal
        self._access = access
        self._turns = turns
        self._registry = registry
        self._usage = usage
        self.ended: Callable[[], Collection[UUID]] = tuple
        """Returns the processes that have certainly ended, as far as the server knows."""
        self._still: dict[UUID, tuple[int, int]] = {}
        self._orphans: set[UUID] = set()
        self._erasures: int | None = None
        self._closed = threading.Event()
        self._thread = background(self._run, name="watchdog")

    def close(self) -> None:
        """Stop the thread."""
        if not self._closed.is_set():
            self._closed.set()
            self._thread.join(timeout=5)
            with contextlib.suppress(Problem):
                self._journal.write(lambda transaction: leases.forget(transaction, self._turns.worker_id))

    def _run(self) -> None:
        ticks = 0
        while not self._closed.wait(TICK_S):
            self._check_deadlines(time.monotonic())
            ticks += 1
            try:
                if ticks % LOOK_EVERY == 0:
                    self._look_after_keys()
                    self._look()
                elif self._turns.live:
                    self._obey_stops()
            except Problem as error:
                log.warning("the watchdog failed: %s", named(error))
            except Exception:
                log.exception("the watchdog failed")

    def _check_deadlines(self, now: float) -> None:
        for reply in list(self._turns.live.values()):
            why = self._overdue(reply, now)
            if why is not None and reply.ending is None:
                log.warning("reply %s is ended: %s", reply.id, why.value)
                reply.end(why)

    def _overdue(self, reply: LiveReply, now: float) -> StopReason | None:
        if now - reply.begun > self._settings.reply_timeout:
            return StopReason.TOTAL
        if not reply.received:
            return StopReason.SLOW_START if now - reply.begun > self._settings.first_token_timeout else None
        return StopReason.GAP if now - reply.heard > self._settings.gap_timeout else None

    def _obey_stops(self) -> None:
        """Stop this process's replies that other processes were asked to stop."""
        me = self._turns.worker_id
        for lease in self._database.read(lambda connection: leases.to_stop(connection, me)):
            self._turns.stop_here(lease.reply_id)

    def _look_after_keys(self) -> None:
        """Stop the replies of revoked and expired keys, and record when keys were last used."""
        live = list(self._turns.live.values())
        ended = self._access.refresh({reply.key_id for reply in live if reply.key_id})
        for reply in live:
            if reply.key_id in ended:
                reply.end(StopReason.STOPPED)
        self._access.flush_last_used()

    def _look(self) -> None:
        """Send a heartbeat, and act on the leases."""
        me, live = self._turns.worker_id, dict(self._turns.live)
        every, heartbeats, erasures = self._journal.write(lambda transaction: _heartbeat(transaction, me))
        self._forget_erased(erasures)
        mine = {lease.reply_id: lease for lease in every if lease.worker_id == me}
        self._look_after_own(live, mine)
        dead = self._dead(heartbeats, every)
        abandoned = [lease for lease in every if lease.worker_id in dead]
        # Leases of this process without a reply: their turns were stored although the commit's outcome was unknown.
        orphans = mine.keys() - self._turns.live.keys()
        abandoned += [mine[reply_id] for reply_id in orphans & self._orphans]
        self._orphans = orphans
        if abandoned:
            log.warning("interrupting %d replies of dead processes", len(abandoned))
        if abandoned or dead:
            ended = self._journal.write(lambda transaction: _interrupt(transaction, abandoned, dead, self._quota))
            self._registry.count(TURNS, Status.INTERRUPTED, by=len(ended))
            for usage_record in ended:
                self._usage.add(usage_record)

    def _forget_erased(self, erasures: int) -> None:
        """Clear the cache of answers if an end user was erased since the last look."""
        if self._erasures is not None and erasures != self._erasures:
            self._turns.forget_answers()
        self._erasures = erasures

    def _look_after_own(self, live: dict[UUID, LiveReply], mine: dict[UUID, Lease]) -> None:
        for reply_id, reply in live.items():
            lease = mine.get(reply_id)
            if lease is None:
                # It has just finished, or something else has ended or deleted it: the lease decides which end counts.
                reply.end(StopReason.LOST)
            elif lease.stop:
                reply.end(StopReason.STOPPED)

    def _dead(self, heartbeats: dict[UUID, int], every: list[Lease]) -> list[UUID]:
        """Return the processes that have ended, and those whose heartbeat stands still.

        A process that holds leases and has no heartbeat counts as standing still.
        """
        known = {lease.worker_id: -1 for lease in every} | heartbeats
        known.pop(self._turns.worker_id, None)
        looks: dict[UUID, tuple[int, int]] = {}
        for worker, count in known.items():
            last, still = self._still.get(worker, (None, 0))
            looks[worker] = (count, still + 1 if last == count else 0)
        self._still = looks
        ended = self.ended()
        return [worker for worker, (_, still) in looks.items() if worker in ended or still >= STILL_LOOKS]


def _heartbeat(transaction: Transaction, worker_id: UUID) -> tuple[list[Lease], dict[UUID, int], int]:
    leases.heartbeat(transaction, worker_id)
    return leases.every(transaction), leases.heartbeats(transaction), counters.get(transaction, ERASURES)


def _interrupt(
    transaction: Transaction, abandoned: list[Lease], dead: list[UUID], quota: StorageQuota
) -> list[UsageRecord]:
    """End the replies of dead processes, whose text stays; return the usage of those that were not ended before."""
    finals = [(lease, _interrupted(lease)) for lease in abandoned]
    ended = [
        _usage_record(transaction, lease)
        for lease, final in finals
        if end_reply(transaction, lease, final, quota) is final
    ]
    for worker in dead:
        leases.forget(transaction, worker)
    return ended


def _interrupted(lease: Lease) -> Message:
    return Message(
        id=lease.reply_id, conversation_id=lease.conversation_id, parent_id=None, position=0, role=Role.ASSISTANT,
        content="", timestamp=0, status=Status.INTERRUPTED, error="reply_interrupted",
    )  # fmt: skip


def _usage_record(transaction: Transaction, lease: Lease) -> UsageRecord:
    """Return the known usage of a dead process's reply: one request, and an estimate of the committed text."""
    epoch = transaction.epoch or 0
    shown = messages.get(transaction, lease.conversation_id, lease.reply_id)
    if shown is None:
        return UsageRecord(lease.owner, lease.key_id, "", epoch=epoch)
    tokens = estimate([shown.content, shown.reasoning])
    return UsageRecord(lease.owner, lease.key_id, shown.model or "", output_tokens=tokens, epoch=epoch)
