"""How often Python looks for reference cycles."""

from __future__ import annotations

import atexit
import gc

# How many objects more there are before Python looks among the young, the middle-aged and the old. There are hardly any
# cycles here: a start's imports, and a stream's hundred objects, are looked through in vain.
THRESHOLD = (20_000, 20, 50)


def look_rarely() -> None:
    """Look rarely while this process runs, and not at its end; that is a third of the time of a short command."""
    gc.set_threshold(*THRESHOLD)
    atexit.register(gc.freeze)
