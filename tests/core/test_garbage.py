"""Processes of chatkeep look for reference cycles rarely: a fifth of each start went into looking in vain."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chatkeep.garbage import THRESHOLD
from tests.servers import Server

COMMAND = "from chatkeep.cli import main; main(['migrate'], standalone_mode=False)"


@pytest.mark.parametrize("start", ["import app", COMMAND], ids=["server", "command"])
def test_a_process_looks_for_cycles_rarely(start: str, tmp_path: Path) -> None:
    """Starts a process: a second."""
    env = Server("flask", tmp_path).environment()
    told = f"{start}\nimport gc\nprint(gc.get_threshold())"
    said = subprocess.check_output([sys.executable, "-c", told], cwd=tmp_path, env=env, text=True)
    assert said.splitlines()[-1] == str(THRESHOLD)
