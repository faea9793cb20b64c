"""The command line imports only the command that runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.line import run

# What a command without a database and without a server does not need.
HEAVY = {"apsw", "chatkeep.cli.doctor", "chatkeep.store", "flask", "sqlalchemy", "werkzeug"}


@pytest.mark.parametrize(("arguments", "status"), [("--version", 0), ("health", 1)])
def test_light_command_imports_no_database_and_no_other_command(arguments: str, status: int, tmp_path: Path) -> None:
    """Starts a process: a quarter of a second."""
    done = run(tmp_path, arguments, env={"PYTHONPROFILEIMPORTTIME": "1", "PORT": "1"})
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert done.returncode == status, done.stderr
    assert "chatkeep.cli" in imported
    assert imported & HEAVY == set()


def test_unknown_command_suggests_a_similar_one(tmp_path: Path) -> None:
    """Starts a process: half a second."""
    done = run(tmp_path, "migrte")
    assert done.returncode == 2
    assert "Did you mean 'migrate'?" in done.stderr
