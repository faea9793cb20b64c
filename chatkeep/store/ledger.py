"""What the turns of one transaction count against limits: read at its beginning, written at its end. Pure.

The rows are shared by processes: so each is read and written once, however many turns there are, and in one order.
Replies at once are counted once, too, and what the transaction itself begins and ends is added to that.
"""

from __future__ import annotations

from collections.abc import Iterable

from chatkeep.domain.quota import WindowUsage


class Ledger:
    """What limited subjects have used, which is held until the transaction ends."""

    __slots__ = ("_days", "changed", "running", "spent")

    def __init__(self, spent: dict[str, WindowUsage] | None = None) -> None:
        self.spent = spent or {}
        """Of the subjects that the transaction holds."""
        self._days = {subject: one.day_began for subject, one in self.spent.items()}
        self.changed: dict[str, WindowUsage] = {}
        self.running: dict[str, int] = {}
        """How many replies are being generated for a subject, as far as anybody has asked."""

    def charge(self, subjects: Iterable[str], now: int, *, requests: int = 0, tokens: int = 0) -> None:
        """Count what subjects use within their windows."""
        for subject in subjects:
            self.changed[subject] = self.spent[subject]
            self.spent[subject].add(now, requests=requests, tokens=tokens)

    @property
    def begins_days(self) -> bool:
        """Whether a day of any subject that has changed began in this transaction."""
        return any(spent.day_began != self._days[subject] for subject, spent in self.changed.items())

    def count_running(self, subjects: Iterable[str], replies: int) -> None:
        """Count replies that the transaction begins, or ends where the number is negative, for whom that was asked.

        Those that end because their conversation is deleted count until the transaction ends.
        """
        for subject in subjects:
            if subject in self.running:
                self.running[subject] += replies
