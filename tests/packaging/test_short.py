"""The short form of the suite leaves out the right tests: a real run of pytest in a separate folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.servers import PAIRS, ROOT

TESTS = Path(__file__).parent / "programs" / "many_servers.py"


def collected(root: Path, folder: str) -> dict[str, list[str]]:
    """Return the parameters of the tests that the short form keeps in a folder."""
    (root / folder).mkdir()
    (root / "pytest.ini").write_text("[pytest]\nmarkers = everywhere\n")
    shutil.copy(TESTS, root / folder / "test_it.py")
    command = [sys.executable, "-m", "pytest", "-p", "tests.short", "--collect-only", "-q", folder]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, encoding="utf-8", check=True)
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        if "::" in line:
            name, _, parameters = line.partition("::")[2].rstrip("]").partition("[")
            found.setdefault(name, []).append(parameters)
    return found


def test_each_test_runs_once_and_the_servers_share_the_tests(tmp_path: Path) -> None:
    """Runs pytest: a second."""
    found = collected(tmp_path, "http")
    assert sorted(int(name.rpartition("-")[2]) for name in found["test_request"]) == list(range(40))
    shares = [sum(name.startswith("-".join(pair)) for name in found["test_request"]) for pair in PAIRS]
    assert min(shares) >= 4, shares
    assert sorted(name.partition("-")[2] for name in found["test_fault"]) == ["killed", "paused"]
    assert found["test_turn"] == ["-".join(pair) for pair in PAIRS]
    assert found["test_start"] == ["gunicorn", "waitress"]


def test_tests_that_share_a_module_fixture_run_on_one_server(tmp_path: Path) -> None:
    """Runs pytest: a second."""
    found = [name.partition("-") for name in collected(tmp_path, "http")["test_processes"]]
    assert sorted(int(number) for _, _, number in found) == list(range(20))
    assert len({place for place, _, _ in found}) == 1


def test_other_folders_keep_every_test(tmp_path: Path) -> None:
    """Runs pytest: a second."""
    assert len(collected(tmp_path, "config")["test_fault"]) == 4
