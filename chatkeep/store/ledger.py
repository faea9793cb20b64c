"""What one transaction counts against limits: read when it begins, written when it ends. Pure.

Each row is read and written once, however many turns the transaction has, and always in the same order. Concurrent
replies are counted once as well; the ledger adds what the transaction itself begins and ends.
"""

from __future__ import annotations

from collections.abc import Iterable

from chatkeep.domain.quota import WindowUsage


class Ledger:
    """The use of limited subjects, whose rows the transaction locks until it ends."""

    __slots__ = ("_days", "changed", "running", "spent")

    def __init__(self, spent: dict[str, WindowUsage] | None = None) -> None:
        self.spent = spent or {}
        """The use by subject."""
        self._days = {subject: one.day_began for subject, one in self.spent.items()}
        self.changed: dict[str, WindowUsage] = {}
        self.running: dict[str, int] = {}
        """Concurrent replies by subject, for the subjects that a turn has asked about."""

    def charge(self, subjects: Iterable[str], now: int, *, requests: int = 0, tokens: int = 0) -> None:
        """Count use in the subjects' windows."""
        for subject in subjects:
            self.changed[subject] = self.spent[subject]
            self.spent[subject].add(now, requests=requests, tokens=tokens)

    @property
    def begins_days(self) -> bool:
        """Whether the day of any changed subject began in this transaction."""
        return any(spent.day_began != self._days[subject] for subject, spent in self.changed.items())

    def count_running(self, subjects: Iterable[str], replies: int) -> None:
        """Count replies that the transaction begins, or ends if negative, for subjects in `running`.

        Replies that end because their conversation is deleted count until the transaction ends.
        """
        for subject in subjects:
            if subject in self.running:
                self.running[subject] += replies
