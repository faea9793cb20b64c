"""Delete what has expired. One process, the leader, sweeps for all, in short transactions."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from chatkeep.config.settings import Settings
from chatkeep.domain.quota import DAY_US
from chatkeep.errors import Problem
from chatkeep.limiting.storage import StorageQuota
from chatkeep.runtime.clock import SteadyClock
from chatkeep.runtime.concurrency import background
from chatkeep.runtime.logs import named
from chatkeep.runtime.metrics import EXPIRED, Registry
from chatkeep.store import (
    audit,
    conversations,
    holdings,
    idempotency,
    jobs,
    leadership,
    messages,
    metrics,
    tombstones,
    usage,
    windows,
)
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.messages import ROWS
from chatkeep.store.transaction import Transaction

log = logging.getLogger(__name__)

DUTY = "sweep"
# What one transaction deletes at most, beside the limits on messages.
CONVERSATIONS = 20
SECONDS = 0.01
# How often the counts of quotas are corrected: processes without quotas change rows and do not count them.
RECOUNT_S = 3600.0
METRICS_US = 30 * DAY_US
# A clock that went back makes a window longer, by less than a day.
WINDOWS_US = 2 * DAY_US


@dataclass(slots=True)
class Swept:
    """How much a sweep deleted."""

    conversations: int = 0
    messages: int = 0


def due(database: Database, now: int) -> int:
    """Return how many conversations have expired by ``now`` and are still stored."""
    return database.read(lambda connection: conversations.count_expired(connection, now), long=True)


def sweep(journal: Journal, now: int, stopped: threading.Event | None = None) -> Swept:
    """Delete the conversations that have expired by ``now``, except those with a running reply.

    After each transaction it pauses for as long as that took, so that turns get half of the time.
    """
    swept = Swept()
    while stopped is None or not stopped.is_set():
        began = time.monotonic()
        gone, rows = journal.write(lambda transaction: _sweep_some(transaction, now))
        swept.conversations += gone
        swept.messages += rows
        if not gone and not rows:
            break
        time.sleep(time.monotonic() - began)
    return swept


def recount(database: Database, journal: Journal, stopped: threading.Event) -> None:
    """Correct the counts of every owner's messages, one owner after the other, with the pauses of `sweep`.

    It blocks no turn: a change between counting and correcting is counted by the process that makes it.
    """
    owner: str | None = ""
    while not stopped.is_set():
        after = owner or ""
        owner = database.read(partial(holdings.next_owner, after=after))
        if owner is None:
            return
        began = time.monotonic()
        journal.write(partial(holdings.hold, owners=[owner]))
        drift = database.read(partial(holdings.drift, owner=owner), long=True)
        if any(drift):
            journal.write(partial(holdings.add, owner=owner, more=drift))
        stopped.wait(time.monotonic() - began)


def forget_metrics(journal: Journal, now: int, stopped: threading.Event) -> None:
    """Delete the metrics of minutes older than `METRICS_US`; totals stay."""
    before = (now - METRICS_US) // 60_000_000
    while not stopped.is_set():
        began = time.monotonic()
        if not journal.write(lambda transaction: metrics.forget(transaction, before)):
            return
        time.sleep(time.monotonic() - began)


def _sweep_some(transaction: Transaction, now: int) -> tuple[int, int]:
    """Delete for about `SECONDS`, up to `CONVERSATIONS` and about `ROWS` messages; return how many of each."""
    gone, rows, until = 0, 0, time.monotonic() + SECONDS
    for owner, id in conversations.expired(transaction, now, CONVERSATIONS):  # noqa: A001
        if rows >= ROWS or (rows and time.monotonic() > until):
            break
        deleted = messages.delete_some(transaction, owner, id, ROWS - rows)
        rows += deleted.rows
        if not deleted.all:
            break
        conversations.remove(transaction, owner, id, now)
        gone += 1
    return gone, rows


@dataclass(frozen=True, slots=True)
class Retention:
    """How many µs tombstones, usage and the audit log are kept."""

    tombstones_us: int
    usage_us: int
    audit_us: int

    @classmethod
    def of(cls, settings: Settings) -> Retention:
        """Return the retention of the settings."""
        seconds = (settings.tombstone_ttl, settings.usage_ttl, settings.audit_ttl)
        return cls(*(int(one * 1_000_000) for one in seconds))


class Sweeper:
    """Sweeps while this process is the leader."""

    def __init__(
        self,
        database: Database,
        journal: Journal,
        worker_id: UUID,
        registry: Registry,
        *,
        interval: float,
        kept: Retention,
        quota: StorageQuota,
    ) -> None:
        self._database = database
        self._journal = journal
        self._worker_id = worker_id
        self._interval = interval
        self._kept = kept
        self._quota = quota
        self._recount_at = 0.0
        self._registry = registry
        self._clock = SteadyClock()
        self._closed = threading.Event()
        self._thread = background(self._run, name="sweeper")

    def close(self) -> None:
        """Stop after the current transaction."""
        self._closed.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._closed.wait(self._interval):
            try:
                self._sweep_as_leader()
            except Problem as error:
                log.warning("could not sweep: %s", named(error))
            except Exception:
                log.exception("could not sweep")

    def _forget(self, some: Callable[[Transaction], int]) -> None:
        """Call ``some``, which deletes up to `ROWS`, until nothing is left, with the pauses of `sweep`."""
        while not self._closed.is_set():
            began = time.monotonic()
            if self._journal.write(some) < ROWS:
                return
            time.sleep(time.monotonic() - began)

    def _sweep_as_leader(self) -> None:
        if not self._journal.write(lambda transaction: leadership.acquire(transaction, DUTY, self._worker_id)):
            self._recount_at = 0.0  # the next leader corrects at once
            return
        now = self._clock.now()
        self._forget(lambda transaction: idempotency.expire(transaction, now, ROWS))
        self._forget(lambda transaction: jobs.expire(transaction, now, ROWS))
        self._forget(lambda transaction: tombstones.forget(transaction, now - self._kept.tombstones_us, ROWS))
        self._forget(lambda transaction: usage.forget(transaction, (now - self._kept.usage_us) // DAY_US, ROWS))
        self._forget(lambda transaction: audit.forget(transaction, now - self._kept.audit_us, ROWS))
        self._forget(lambda transaction: windows.forget(transaction, now - WINDOWS_US, ROWS))
        swept = sweep(self._journal, now, self._closed)
        forget_metrics(self._journal, now, self._closed)
        if self._quota and time.monotonic() >= self._recount_at:
            recount(self._database, self._journal, self._closed)
            self._recount_at = time.monotonic() + RECOUNT_S
        if swept.conversations:
            self._registry.count(EXPIRED, by=swept.conversations)
            log.info("swept %d conversations with %d messages", swept.conversations, swept.messages)
        self._database.reclaim(self._closed)
