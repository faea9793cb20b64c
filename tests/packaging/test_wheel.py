"""A wheel holds the third-party files of the pages and their licences, which the repository does not hold."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "chatkeep" / "web" / "assets"
VENDOR = "chatkeep/web/static/vendor/"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The files of this tree that git tracks."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(lambda name: (ROOT / name).is_file(), names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    assert not (tmp_path / VENDOR).exists()
    return tmp_path


@pytest.mark.network
@pytest.mark.parametrize("path", [os.environ["PATH"], ""], ids=["npm of the machine", "npm of the package index"])
def test_a_wheel_holds_the_libraries_and_their_licences(source: Path, path: str) -> None:
    """Builds a wheel: some seconds."""
    done = build(source, PATH=path)
    assert done.returncode == 0, done.stderr
    (wheel,) = (source / "dist").glob("*.whl")
    names = {name.removeprefix(VENDOR): name for name in zipfile.ZipFile(wheel).namelist()}
    wanted = runpy.run_path(str(ASSETS / "build.py"))["_FILES"]
    assert set(wanted) <= set(names)
    assert sum("LICENSE" in name for name in wanted) == 5
    assert not [name for name in names.values() if name.startswith("chatkeep/web/assets")]


@pytest.mark.network
def test_a_wheel_without_the_libraries_is_not_built(source: Path) -> None:
    """Builds as far as npm's failure: some seconds."""
    lock = source / "chatkeep" / "web" / "assets" / "package-lock.json"
    lock.write_text(re.sub(r"sha512-\w{9}", "sha512-different", lock.read_text()))
    done = build(source)
    assert done.returncode != 0
    assert "npm ended with status" in done.stderr
    assert not list(source.glob("dist/*.whl"))


def test_the_lock_file_names_no_host() -> None:
    lock = json.loads((ASSETS / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert [name for name, package in packages.items() if not package["integrity"].startswith("sha512-")] == []


def test_a_failed_build_says_why_in_one_line_and_keeps_the_old_files(source: Path) -> None:
    done = subprocess.run(
        [sys.executable, source / "chatkeep" / "web" / "assets" / "build.py"],
        env={"PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("assets: there is no npm here: ")
    assert done.stderr.count("\n") == 1


def build(source: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Build a wheel. Skip the test if the package index can't be reached."""
    command = [sys.executable, "-m", "uv", "build", "--wheel", "--out-dir", str(source / "dist"), str(source)]
    env = os.environ | environment
    done = subprocess.run(command, cwd=source, env=env, capture_output=True, text=True, timeout=110, check=False)
    if re.search(r"error sending request|ENOTFOUND|ECONNREFUSED|EAI_AGAIN|ETIMEDOUT", done.stderr):
        pytest.skip("a wheel: the package index or npm's registry cannot be reached")
    return done
