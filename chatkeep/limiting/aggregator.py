"""What a process has seen used and not stored yet: turns, tokens and what they cost, by whom, day and model."""

from __future__ import annotations

from collections.abc import Mapping

from chatkeep.domain.conversation import now_us
from chatkeep.domain.quota import DAY_US, UsageRecord
from chatkeep.domain.usage import NO_KEY, UsageKey, UsageTotals
from chatkeep.runtime.concurrency import short_lock


class UsageAggregator:
    """Adds up what turns use, for all threads of a process.

    A statement for each turn would make storing it a quarter dearer, for what somebody reads now and then. Limits do
    not depend on this: what they count is stored with the turn.
    """

    def __init__(self) -> None:
        self._used: dict[UsageKey, UsageTotals] = {}
        self._lock = short_lock()

    def add(self, usage_record: UsageRecord) -> None:
        """Add what a turn has used, when it is over."""
        key = usage_record.key_id.bytes if usage_record.key_id else NO_KEY
        spender = UsageKey(
            usage_record.owner.partition("/")[0], now_us() // DAY_US, usage_record.owner, key, usage_record.model
        )
        used = UsageTotals(1, usage_record.input_tokens, usage_record.output_tokens, usage_record.cost)
        with self._lock:
            self._add(spender, used)

    def drain(self) -> dict[UsageKey, UsageTotals]:
        """Return what was used since the last time."""
        with self._lock:
            taken, self._used = self._used, {}
        return taken

    def restore(self, used: Mapping[UsageKey, UsageTotals]) -> None:
        """Keep what could not be stored."""
        with self._lock:
            for spender, more in used.items():
                self._add(spender, more)

    def _add(self, spender: UsageKey, used: UsageTotals) -> None:
        before = self._used.get(spender)
        self._used[spender] = before.plus(used) if before else used
