"""The time by which conversations expire: the wall clock, but never ahead of what has really passed.

A wall clock that jumps forward would make everything look expired, and the sweep would delete it. So time is counted
from the start of the process on a clock that only goes forward; one that counts while a machine sleeps, if it can.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from chatkeep.domain.conversation import now_us

SLACK_US = 5_000_000


def _passed() -> float:
    """Return seconds on a clock that never jumps."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


class SteadyClock:
    """A wall clock in µs since 1970 whose jumps forward are not believed, but for `SLACK_US` that clocks are set by."""

    def __init__(self, wall: Callable[[], int] = now_us, passed: Callable[[], float] = _passed) -> None:
        self._wall = wall
        self._passed = passed
        self._began_wall = wall()
        self._began = passed()

    def now(self) -> int:
        """Return the time by which a thing has surely expired."""
        elapsed = int((self._passed() - self._began) * 1_000_000)
        return min(self._wall(), self._began_wall + elapsed + SLACK_US)
