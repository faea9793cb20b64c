"""Enforce quotas and record usage.

An `Admission` accompanies each turn from its begin to its reply's end. It checks all limits and counts the turn in the
transaction that begins it, and charges the tokens in the transaction that ends the reply. So a turn that is refused or
fails counts nothing, and the database counts for all processes and hosts.

Redis, if configured, counts the windows in place of the database. It is asked before the turn begins, and gets back
what did not become a turn. Concurrent replies are counted by their leases, which exist exactly as long as the replies
are generated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache, partial
from uuid import UUID

from chatkeep.auth.access import Caller
from chatkeep.domain.conversation import Message, Prompt, Usage, now_us
from chatkeep.domain.quota import (
    LIMITS,
    UNLIMITED,
    Defaults,
    Kind,
    Limits,
    Prices,
    Quota,
    Quotas,
    QuotaStatus,
    UsageRecord,
    cost,
    counted,
    estimate,
    key_subject,
    quota_status,
    read_limits,
)
from chatkeep.errors import OutcomeUnknown
from chatkeep.limiting import storage
from chatkeep.limiting.aggregator import UsageAggregator
from chatkeep.limiting.redis_windows import RedisWindows, Reservation
from chatkeep.limiting.refusal import require
from chatkeep.limiting.storage import StorageQuota
from chatkeep.store import fences, holdings, leases, windows
from chatkeep.store.holdings import Stored
from chatkeep.store.journal import Journal
from chatkeep.store.transaction import Transaction

MOST_REMEMBERED = 4096


class Limiter:
    """The limits of one process."""

    def __init__(
        self,
        limits: Defaults,
        prices: Prices,
        journal: Journal,
        usage: UsageAggregator,
        redis: RedisWindows | None = None,
        storage_quota: StorageQuota = storage.UNLIMITED,
    ) -> None:
        self._limits_all = limits != Defaults()
        self._quotas = lru_cache(MOST_REMEMBERED)(partial(_quotas, limits))
        self._prices = prices
        self._journal = journal
        self._usage = usage
        self._redis = redis
        self.storage_quota = storage_quota

    def quotas(self, caller: Caller) -> Quotas:
        """Return a caller's quotas."""
        if caller.limits is None and not self._limits_all:
            return UNLIMITED
        end_user = caller.owner if caller.end_user else None
        return self._quotas(caller.account, caller.counts_for, caller.limits, end_user)

    def admission(
        self, owner: str, key_id: UUID | None, quotas: Quotas = UNLIMITED
    ) -> AbstractContextManager[Admission]:
        """Return the admission of one turn, which begins in its context."""
        if self._redis and quotas.windowed:
            return self._reserved(self._redis, Admission(self, owner, key_id, quotas, self._redis.reserve(quotas)))
        return nullcontext(Admission(self, owner, key_id, quotas))

    @contextmanager
    def _reserved(self, redis: RedisWindows, admission: Admission) -> Iterator[Admission]:
        """Yield an admission; give its reservation in Redis back if no turn begins."""
        may_have_begun = False
        try:
            yield admission
            may_have_begun = admission.counted
        except OutcomeUnknown:
            may_have_begun = True
            raise
        finally:
            reservation = admission.reservation
            if reservation and not reservation.refused and not may_have_begun:
                redis.release(admission.quotas.windowed)

    def forget(self, subject: str) -> None:
        """Delete a subject's windows in Redis. Raises `StoreUnavailable`."""
        if self._redis:
            self._redis.forget(subject)

    def charged_here(self, quotas: Quotas) -> tuple[str, ...]:
        """Return the subjects whose tokens the database counts, so that the reply's last transaction charges them."""
        return () if self._redis else quotas.of_tokens

    def cost(self, message: Message, used: Usage) -> int:
        """Return the cost of a reply, in billionths; a cached answer is free."""
        return 0 if message.cached else cost(self._prices, message.model or "", used.input_tokens, used.output_tokens)

    def record(self, record: UsageRecord, subjects: tuple[str, ...]) -> None:
        """Record an ended reply's usage, and charge Redis; call this before followers learn of the end."""
        self._usage.add(record)
        tokens = record.tokens
        if self._redis and subjects and not self._redis.charge(subjects, tokens):
            self._journal.write(
                lambda transaction: transaction.ledger.charge(subjects, now_us(), tokens=tokens),
                retry_until_up=True,
                subjects=subjects,
            )


class Admission:
    """One turn's way through its caller's limits: checked and counted at its begin, charged at its reply's end."""

    def __init__(
        self,
        limiter: Limiter,
        owner: str,
        key_id: UUID | None,
        quotas: Quotas = UNLIMITED,
        reservation: Reservation | None = None,
    ) -> None:
        self.quota_status = QuotaStatus()
        """What remains of each limit after this turn."""
        self.counted = False
        """Whether the turn has begun; a repeated request begins none."""
        self.erased = False
        """Whether the end user was erased between the turn's begin and its charge."""
        self._limiter = limiter
        self._owner = owner
        self._key_id = key_id
        self.quotas = quotas
        self.reservation = reservation
        self._windowed_here = () if reservation else quotas.windowed
        self._storage = limiter.storage_quota
        self._epoch = 0
        self._record: UsageRecord | None = None

    @property
    def subjects(self) -> tuple[str, ...]:
        """What the transaction that begins the turn locks, so that concurrent turns cannot exceed a limit."""
        return self._windowed_here + self.quotas.concurrency + self._storage.subjects(self._owner)

    @property
    def charged_subjects(self) -> tuple[str, ...]:
        """What the transaction that ends the reply locks."""
        return self._limiter.charged_here(self.quotas) + self._storage.subjects(self._owner)

    def check(self, transaction: Transaction, more: Stored) -> None:
        """Raise `RateLimited` or `QuotaExceeded` if the turn, which stores ``more``, exceeds a limit."""
        self.counted = False
        if self.quotas:
            reservation = self.reservation
            spent, now = (reservation.spent, reservation.now) if reservation else (transaction.ledger.spent, now_us())
            found = quota_status(self.quotas, spent, self._running(transaction), now)
            require(found)
            self.quota_status = counted(self.quotas, found)
        self._storage.check(transaction, self._owner, more)

    def count(self, transaction: Transaction, added: Stored) -> None:
        """Count the turn and what it has stored."""
        if self._windowed_here:
            transaction.ledger.charge(self._windowed_here, now_us(), requests=1)
        self._storage.add(transaction, self._owner, added)
        self._epoch = transaction.epoch or 0
        self.counted = True

    def charge(
        self, transaction: Transaction, reply: Message, prompt: Prompt | None = None, *, ends: bool = True
    ) -> None:
        """Charge a reply's tokens, if the transaction ``ends`` it.

        Tokens are as the provider has counted them, or else estimated from the reply and the ``prompt``. A cached
        answer counts like any other. The usage of an end user who was erased meanwhile is the account's.
        """
        used = reply.usage or _estimated(reply, prompt)
        tokens = (used.input_tokens, used.output_tokens)
        price = self._limiter.cost(reply, used)
        self.erased = bool(fences.erased(transaction, [self._owner], self._epoch))
        owner = self._owner.partition("/")[0] if self.erased else self._owner
        self._record = UsageRecord(owner, self._key_id, reply.model or "", *tokens, price, transaction.epoch or 0)
        if ends:
            subjects = self._remaining(self._limiter.charged_here(self.quotas))
            transaction.ledger.charge(subjects, now_us(), tokens=self._record.tokens)
        if self.erased:  # the transaction has locked the end user's rows, which creates missing ones
            windows.remove_unused(transaction, self._owner)
            holdings.remove_unused(transaction, self._owner)

    def settle(self) -> None:
        """Record the usage that was charged, after the commit."""
        if self._record:
            self._limiter.record(self._record, self._remaining(self.quotas.of_tokens))

    def _remaining(self, subjects: tuple[str, ...]) -> tuple[str, ...]:
        """Return the subjects without an end user who was erased."""
        return tuple(subject for subject in subjects if subject != self._owner) if self.erased else subjects

    def _running(self, transaction: Transaction) -> Mapping[str, int]:
        """Return the number of concurrent replies by subject, if that is limited."""
        if not self.quotas.concurrency:
            return {}
        known = transaction.ledger.running
        if not all(map(known.__contains__, self.quotas.concurrency)):
            known.update(leases.running(transaction, self._owner, self._key_id))
        return known


def _quotas(defaults: Defaults, account: str, key_id: UUID | None, own: str | None, end_user: str | None) -> Quotas:
    found = [Quota(Kind.ACCOUNT, account, defaults.account)]
    if key_id:
        limits = read_limits(own) if own else Limits()
        found.append(Quota(Kind.KEY, key_subject(key_id), limits.over(defaults.key)))
    if end_user:
        found.append(Quota(Kind.END_USER, end_user, defaults.end_user))
    return Quotas(tuple(one for one in found if one.has(*LIMITS)))


def _estimated(reply: Message, prompt: Prompt | None) -> Usage:
    """Estimate the tokens of a reply that the provider has not counted; a reply without text took none."""
    texts = [reply.content, reply.reasoning]
    if prompt is None or not any(texts):
        return Usage(0, 0)
    return Usage(estimate(message.content for message in prompt.messages), estimate(texts))
