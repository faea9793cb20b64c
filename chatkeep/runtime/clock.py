"""A clock for expiry that ignores forward jumps of the wall clock.

A wall clock that jumps forward would make everything look expired, and the sweeper would delete it. So this clock
counts from the start of the process with a monotonic clock, if possible one that counts while the machine sleeps.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from chatkeep.domain.conversation import now_us

SLACK_US = 5_000_000


def _elapsed() -> float:
    """Return the seconds of a monotonic clock."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


class SteadyClock:
    """A wall clock in µs since 1970 that runs at most `SLACK_US`, for adjustments, ahead of the monotonic clock."""

    def __init__(self, wall: Callable[[], int] = now_us, elapsed: Callable[[], float] = _elapsed) -> None:
        self._wall = wall
        self._elapsed = elapsed
        self._started_wall = wall()
        self._started = elapsed()

    def now(self) -> int:
        """Return the time to compare expiry times with."""
        passed_us = int((self._elapsed() - self._started) * 1_000_000)
        return min(self._wall(), self._started_wall + passed_us + SLACK_US)
