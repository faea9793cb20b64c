"""What a process has seen used and not stored yet: turns, tokens and what they cost, by whom, day and model."""

from __future__ import annotations

from collections.abc import Mapping

from chatkeep.domain.conversation import now_us
from chatkeep.domain.quota import DAY_US, Bill
from chatkeep.domain.usage import NO_KEY, Spender, Used
from chatkeep.runtime.concurrency import short_lock


class Spending:
    """Adds up what turns use, for all threads of a process.

    A statement for each turn would make storing it a quarter dearer, for what somebody reads now and then. Limits do
    not depend on this: what they count is stored with the turn.
    """

    def __init__(self) -> None:
        self._used: dict[Spender, Used] = {}
        self._lock = short_lock()

    def add(self, bill: Bill) -> None:
        """Add what a turn has used, when it is over."""
        key = bill.key_id.bytes if bill.key_id else NO_KEY
        spender = Spender(bill.owner.partition("/")[0], now_us() // DAY_US, bill.owner, key, bill.model)
        used = Used(1, bill.input_tokens, bill.output_tokens, bill.cost)
        with self._lock:
            self._add(spender, used)

    def take(self) -> dict[Spender, Used]:
        """Return what was used since the last time."""
        with self._lock:
            taken, self._used = self._used, {}
        return taken

    def put_back(self, used: Mapping[Spender, Used]) -> None:
        """Keep what could not be stored."""
        with self._lock:
            for spender, more in used.items():
                self._add(spender, more)

    def _add(self, spender: Spender, used: Used) -> None:
        before = self._used.get(spender)
        self._used[spender] = before.plus(used) if before else used
