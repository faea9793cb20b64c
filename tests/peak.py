"""Run a chatkeep command, and print the peak of its resident memory in KiB as the last line.

``python -m tests.peak export --format json`` runs ``chatkeep export --format json``. Linux only: ``ru_maxrss`` would
include the memory of the process that started this one.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from chatkeep.cli import main

PEAK = re.compile(r"VmHWM:\s+(\d+)")


def peak_kib() -> int:
    """Return the peak of this process's resident memory."""
    found = PEAK.search(Path("/proc/self/status").read_text(encoding="ascii"))
    assert found, "Linux tells no peak"
    return int(found[1])


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    finally:
        print(peak_kib())  # noqa: T201 - a program
