"""How often Python looks for reference cycles."""

from __future__ import annotations

import atexit
import gc

# How many objects more there are before Python looks among the young, the middle-aged and the old. There are hardly any
# cycles here: a start's imports, and a stream's hundred objects, are looked through in vain.
THRESHOLD = (20_000, 20, 50)


def look_rarely() -> None:
    """Look rarely while this process runs."""
    gc.set_threshold(*THRESHOLD)


def skip_the_last_look() -> None:
    """Don't look when this process ends: that is a fifth of a short command. Where gevent runs, the end needs it."""
    atexit.register(gc.freeze)
