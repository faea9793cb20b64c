"""Sets the wall clock of a process that has this folder on its PYTHONPATH: Python imports this file at its start.

The file that the variable WALL_CLOCK names holds the seconds by which the clock is off. Monotonic clocks go on, as they
do when an administrator sets the real one.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_SHIFT = Path(os.environ["WALL_CLOCK"])
_ns = time.time_ns


def time_ns() -> int:
    """Return the shifted time in ns since 1970."""
    return _ns() + int(_SHIFT.read_text(encoding="ascii")) * 1_000_000_000


time.time_ns = time_ns
time.time = lambda: time_ns() / 1e9
