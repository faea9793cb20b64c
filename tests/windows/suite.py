"""Run tests on a Windows Python: those of the folders that need no other program of Linux.

Modules in Rust, which some tests need, load on Wine 10 only. So Wine is that of Debian 13, in a folder of its own.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.servers import ROOT
from tests.services import debian
from tests.services.wine import CACHE, Unavailable, Windows

FOLDERS = ("core", "store", "imports", "provider", "http")
SUITE = "trixie"
LEFT_OUT = (".git", ".venv", "build", "data", "*_cache", "__pycache__")


def main(*arguments: str) -> int:
    """Run what the arguments choose, or all of `FOLDERS`; return pytest's status, or 1 where that is not possible."""
    try:
        windows = prepared()
    except Unavailable as reason:
        sys.stderr.write(f"The tests cannot run on Windows: {reason}\n")
        return 1
    checkout = windows.python.parent / "checkout"
    shutil.rmtree(checkout, ignore_errors=True)
    shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(*LEFT_OUT))
    chosen = [f"tests/{name}" for name in FOLDERS] if not arguments else list(arguments)
    with windows.mounted():
        return subprocess.call(
            windows.command("-m", "pytest", "-p", "no:cacheprovider", *chosen, folder=checkout),
            env=windows.environment(),
            stdin=subprocess.DEVNULL,
        )


def prepared() -> Windows:
    """Return a Windows Python with what the tests need, made if it is missing. Raises `Unavailable`."""
    root = CACHE / f"wine-{SUITE}"
    with debian.lock():
        if not (root / "usr/bin/wine").exists():
            part = root.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            tried = debian.bootstrap(SUITE, part, "wine", "wine64")
            if not (part / "usr/bin/wine").exists():
                raise Unavailable(f"Wine 10 is not installed, and {tried}")
            Path(part / "etc/hosts").write_text("127.0.0.1 localhost\n")  # else the name has no address there
            part.rename(root)
    windows = Windows("requirements-dev.txt", root)
    with windows.mounted():
        windows.ensure_made()
    return windows


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
