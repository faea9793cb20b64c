"""One process runs all tests of a sharing folder: a real run of pytest-xdist in a separate folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.folders import SHARING
from tests.servers import ROOT

TESTS = Path(__file__).parent / "programs" / "one_process.py"


def test_one_process_runs_a_folder_that_shares_servers(tmp_path: Path) -> None:
    """Runs pytest with two processes: some seconds."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    for folder in (SHARING[0], "config"):
        (tmp_path / folder).mkdir()
        for number in range(6):
            shutil.copy(TESTS, tmp_path / folder / f"test_{folder}_{number}.py")
    command = [sys.executable, "-m", "pytest", "-p", "xdist.plugin", "-p", "tests.folders", "-n", "2"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [*command, "--dist", "loadfile", "--no-loadscope-reorder"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    ran = {file.stem: set(file.read_text().split()) for file in tmp_path.rglob("*.ran")}
    assert len(ran) == 12
    assert len(set.union(*(found for name, found in ran.items() if SHARING[0] in name))) == 1
    assert {len(found) for found in ran.values()} == {1}
