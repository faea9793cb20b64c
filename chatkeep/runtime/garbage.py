"""Tune Python's collector of reference cycles."""

from __future__ import annotations

import atexit
import gc

# There are hardly any cycles here: with Python's default thresholds it scans imported modules and streams in vain.
THRESHOLD = (20_000, 20, 50)


def collect_rarely() -> None:
    """Raise the thresholds for this process."""
    gc.set_threshold(*THRESHOLD)


def skip_final_collection() -> None:
    """Skip the collection at exit, a fifth of a short command's time. Don't use it under gevent, which needs it."""
    atexit.register(gc.freeze)
