"""Windows, tested from Linux: chatkeep uses nothing that Windows lacks, and every pin has a Windows wheel."""

from __future__ import annotations

import ast
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.packaging.as_windows import MODULES, PLACES
from tests.servers import Server

ROOT = Path(__file__).resolve().parents[2]
# They test gunicorn or greenlets, and run nowhere else.
SKIPPED = {
    "aborting_greenlets.py", "direct_program.py", "epoll_streams.py", "greenlet_reads.py", "greenlets.py",
    "test_gunicorn.py",
}  # fmt: skip


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results of the process without the Unix-only parts of Python."""
    folder = tmp_path_factory.mktemp("windows")
    done = subprocess.run(
        [sys.executable, "-m", "tests.packaging.as_windows"],
        cwd=folder,
        env=Server("waitress", folder).environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_waitress_serves_without_the_unix_only_parts(seen: dict[str, Any]) -> None:
    """Starts a process: a second or two."""
    assert (seen["live"], seen["turn"], seen["stream"]) == (200, 200, 200)
    assert seen["modules"] == []


def test_waitress_handles_only_signals_of_windows(seen: dict[str, Any]) -> None:
    assert {int(number) for number in seen["signals"]} <= {signal.SIGTERM, signal.SIGINT}


@pytest.mark.parametrize("name", PLACES)
def test_a_setting_that_names_a_unix_socket_is_refused(seen: dict[str, Any], name: str) -> None:
    """Waitress would serve on 0.0.0.0:8080 instead."""
    said = seen["refusals"][name]
    assert said.startswith(f"{name}: ")
    assert "Python does not support Unix sockets on this system; " in said
    assert "secret" not in said


@pytest.mark.parametrize("command", ["serve --server waitress", "serve --server development", "health", "doctor"])
def test_no_command_uses_a_unix_socket(tmp_path: Path, command: str) -> None:
    """Starts a process: half a second."""
    code = "from tests.packaging import as_windows; as_windows.take_away(); from chatkeep.cli import main; main()"
    env = Server("waitress", tmp_path, {"HOST": PLACES["HOST"], "LC_ALL": "C.UTF-8"}).environment()
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split()],
        cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode in {1, 2}
    assert said.count("HOST: 'unix:/tmp/x.sock' is invalid; Python does not support Unix sockets on this system; ") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize("module", ["fcntl", "gevent", "gunicorn.app", "pwd"])
def test_the_proof_notices_what_windows_lacks(module: str) -> None:
    code = f"from tests.packaging import as_windows; as_windows.take_away(); import {module}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert f"{module.partition('.')[0]} does not exist on Windows" in done.stderr


@pytest.mark.network
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_every_pin_has_a_windows_wheel(python: str, tmp_path: Path) -> None:
    done = resolve("requirements.txt", "--require-hashes", "--python-version", python, "--target", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "waitress" in done.stderr
    assert "gevent" not in done.stderr


@pytest.mark.network
def test_the_proof_notices_a_missing_wheel(tmp_path: Path) -> None:
    (tmp_path / "unix.txt").write_text("uvloop==0.21.0\n")
    done = resolve(str(tmp_path / "unix.txt"), "--python-version", "3.11", "--target", str(tmp_path / "none"))
    assert done.returncode != 0
    assert "no usable wheels" in done.stderr


def resolve(requirements: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Return what uv would install on Windows from wheels only."""
    windows = ("--dry-run", "--python-platform", "windows", "--only-binary", ":all:", "--no-deps")
    command = [sys.executable, "-m", "uv", "pip", "install", *windows, *arguments, "-r", requirements]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    if "error sending request" in done.stderr:
        pytest.skip("Windows wheels: the package index cannot be reached")
    return done


def test_every_file_of_tests_can_be_imported_on_windows() -> None:
    """Tests that need Unix are marked `posix`, and import its modules only if `sys.platform` allows."""
    files = [path for folder in ("bench", "tests") for path in sorted((ROOT / folder).rglob("*.py"))]
    found = {path.name: lacking(path) for path in files if path.name not in SKIPPED}
    assert {name: modules for name, modules in found.items() if modules} == {}


def lacking(path: Path) -> set[str]:
    """Return the imports of a file that Windows lacks. Playwright brings greenlet."""
    imports = [
        node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in imports if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in names} & (MODULES - {"greenlet"})
