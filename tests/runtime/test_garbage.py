"""A start neither collects garbage often nor imports the schema."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chatkeep.runtime.garbage import THRESHOLD
from tests.servers import Server

MASTER = pytest.param("master", marks=pytest.mark.posix("there is no gunicorn on Windows"))


@pytest.mark.parametrize("start", ["server", "command", MASTER])
def test_processes_collect_cycles_rarely(start: str, tmp_path: Path) -> None:
    """Starts a process: a second."""
    env = Server("flask", tmp_path).environment()
    command = [sys.executable, "-m", "tests.runtime.collector_program", start]
    said = subprocess.check_output(command, cwd=tmp_path, env=env, text=True)
    assert said.splitlines()[-1] == str(THRESHOLD)


def test_start_on_a_migrated_database_does_not_import_the_schema(tmp_path: Path) -> None:
    """Starts two processes: a second."""
    env = Server("flask", tmp_path).environment()
    command = [sys.executable, "-m", "tests.runtime.schema_program"]
    starts = [subprocess.check_output(command, cwd=tmp_path, env=env, text=True) for _ in range(2)]
    assert [said.splitlines()[-1] for said in starts] == ["True", "False"]
