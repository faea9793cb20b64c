"""`./dev test` runs failed tests again: real runs of pytest in a separate folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT

FLAKY = Path(__file__).parent / "programs" / "flaky.py"


def run(folder: Path, tests: str, *options: str) -> tuple[int, str]:
    """Run pytest on a file with these tests. Return its exit status and output."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_it.py").write_text(FLAKY.read_text(encoding="utf-8") + tests)
    command = [sys.executable, "-m", "pytest", "-p", "tests.unsteady", *options]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, encoding="utf-8", check=False)
    return done.returncode, done.stdout


def failing(tests: int, times: int) -> str:
    """Return the source of tests that fail ``times`` times before they pass."""
    return f"""
@pytest.mark.parametrize("one", range({tests}))
def test_flaky(one):
    fails_at_first({times})

def test_steady():
    pass
"""


def runs(folder: Path) -> list[int]:
    """Return how many times each of the failing tests ran."""
    return [file.stat().st_size for file in sorted(folder.glob("tries-*"))]


def test_a_few_tests_that_pass_when_repeated_do_not_fail_the_run(tmp_path: Path) -> None:
    """Runs pytest three times, side by side and alone: seconds."""
    status, output = run(tmp_path, failing(5, 1), "-p", "xdist", "-n", "2")
    assert (status, runs(tmp_path)) == (0, [2] * 5)
    *_, last_named, closing = output.splitlines()
    assert re.fullmatch(r"UNSTEADY test_it\.py::test_flaky\[\d\] failed among the others, and passed alone", last_named)
    assert re.search(r"1 passed, 5 unsteady in", closing)
    assert output.count("AssertionError: no time") >= 5, "the reasons are missing"


def test_errors_of_fixtures_count_as_failures(tmp_path: Path) -> None:
    """Runs pytest twice: seconds."""
    fixture = "\n@pytest.fixture(params=['it'])\ndef there(request):\n    fails_at_first(1)\n"
    status, output = run(tmp_path, fixture + "\ndef test_uses(there):\n    pass\n")
    assert (status, runs(tmp_path)) == (0, [2])
    assert "UNSTEADY test_it.py::test_uses[it] failed among the others, and passed alone" in output


@pytest.mark.parametrize(
    ("tests", "expected"),
    [
        pytest.param(failing(2, 2), [2, 2], id="fail twice"),
        pytest.param(failing(6, 1), [1] * 6, id="too many"),
        pytest.param(failing(1, 1) + "\nraise RuntimeError\n", [], id="cannot be collected"),
        pytest.param(failing(1, 1) + "\ndef test_stop():\n    raise KeyboardInterrupt\n", [1], id="interrupted"),
    ],
)
def test_other_failures_fail_the_run(tmp_path: Path, tests: str, expected: list[int]) -> None:
    """Runs pytest once or twice: a second."""
    status, output = run(tmp_path, tests)
    assert status in {1, 2}
    assert runs(tmp_path) == expected
    assert "UNSTEADY" not in output
