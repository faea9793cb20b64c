"""Aggregate usage in memory until it is flushed to the database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from chatkeep.domain.conversation import now_us
from chatkeep.domain.quota import DAY_US, UsageRecord
from chatkeep.domain.usage import NO_KEY, UsageKey, UsageTotals
from chatkeep.runtime.concurrency import short_lock
from chatkeep.store import fences
from chatkeep.store.sql import Connection

_LATEST = 2**63 - 1


class Drained(NamedTuple):
    """The usage since the last flush, and the first epoch that any of it was recorded in."""

    used: Mapping[UsageKey, UsageTotals] = {}
    epoch: int = _LATEST

    def attributed(self, connection: Connection) -> Mapping[UsageKey, UsageTotals]:
        """Return the usage, with that of end users who were erased meanwhile attributed to their accounts."""
        erased = fences.erased(connection, {key.owner for key in self.used}, self.epoch)
        if not erased:
            return self.used
        found: dict[UsageKey, UsageTotals] = {}
        for key, used in self.used.items():
            _add(found, key._replace(owner=key.account) if key.owner in erased else key, used)
        return found


class UsageAggregator:
    """The usage of one process since the last flush; thread-safe.

    Usage has no statement in a turn's transaction, which would make storing a turn a quarter dearer. Limits do not
    depend on it: what they count is stored with the turn.
    """

    def __init__(self) -> None:
        self._used: dict[UsageKey, UsageTotals] = {}
        self._epoch = _LATEST
        self._lock = short_lock()

    def add(self, record: UsageRecord) -> None:
        """Add the usage of a reply that has ended."""
        key_id = record.key_id.bytes if record.key_id else NO_KEY
        key = UsageKey(record.owner.partition("/")[0], now_us() // DAY_US, record.owner, key_id, record.model)
        with self._lock:
            _add(self._used, key, UsageTotals(1, record.input_tokens, record.output_tokens, record.cost))
            self._epoch = min(self._epoch, record.epoch)

    def drain(self) -> Drained:
        """Return the usage since the last call."""
        with self._lock:
            drained = Drained(self._used, self._epoch)
            self._used, self._epoch = {}, _LATEST
        return drained

    def restore(self, drained: Drained) -> None:
        """Take back usage that could not be stored."""
        with self._lock:
            for key, used in drained.used.items():
                _add(self._used, key, used)
            self._epoch = min(self._epoch, drained.epoch)


def _add(totals: dict[UsageKey, UsageTotals], key: UsageKey, used: UsageTotals) -> None:
    before = totals.get(key)
    totals[key] = before.plus(used) if before else used
