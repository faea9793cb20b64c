"""A stream's deltas are written directly to its socket."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.posix("gunicorn serves on Linux and macOS")
def test_slow_client_gets_everything_in_order_and_disconnected_one_raises() -> None:
    command = [sys.executable, "-W", "error::RuntimeWarning", "-m", "tests.web.direct_program"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
