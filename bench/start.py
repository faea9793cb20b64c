"""Installed size, and time from the start command to the first response."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

from bench import servers
from bench.load import ROOT, Target
from bench.processes import free_port, running, wait_until
from bench.table import Report, Row

PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", "install", "--no-compile")
TOOLS = ("pip", "setuptools", "wheel", "pkg_resources", "_distutils_hack", "distutils-precedence")
COLUMNS = {
    "what": "what",
    "megabytes": "MB on disk",
    "median_ms": "ms to /health/live, median",
    "min_ms": "min",
    "max_ms": "max",
}


def arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--launches", type=int, default=5, help="starts of each kind (5)")


def measure(options: Namespace) -> Report:
    """Install the requirements into a fresh environment, and start the server there."""
    with servers.folder() as place, servers.upstream(place) as direct:
        python, packages = install(place)
        fresh = megabytes(packages)
        first = launch(python, place / "first", direct)
        used = megabytes(packages)
        empty = [launch(python, place / f"empty{number}", direct) for number in range(options.launches)]
        existing = [launch(python, place / "first", direct) for _ in range(options.launches)]
    rows = [
        row("installed, first start (compiles)", [first], fresh),
        row("start on an empty folder", empty, used),
        row("start on an existing folder", existing, used),
    ]
    notes = [
        "Size is that of site-packages without pip and setuptools: as installed with --no-compile, and after a start."
    ]
    return Report("start", {"launches": options.launches}, COLUMNS, rows, [rows], notes)


def install(place: Path) -> tuple[Path, Path]:
    """Make an environment with the runtime pins. Return its Python and its site-packages."""
    home = place / "environment"
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    python = home / "bin" / "python"
    subprocess.run([python, *PIP, "--require-hashes", "-r", ROOT / "requirements.txt"], check=True)
    return python, next(home.glob("lib/python*/site-packages"))


def megabytes(packages: Path) -> float:
    """Return the installed size in disk blocks, as `du` counts, without the installer."""
    files = (path for path in packages.rglob("*") if not path.relative_to(packages).parts[0].startswith(TOOLS))
    return sum(path.lstat().st_blocks * 512 for path in files) / 1e6


def launch(python: Path, home: Path, direct: Target) -> float:
    """Return the seconds from the start of `chatkeep serve` to the first response of /health/live."""
    home.mkdir(exist_ok=True)
    port, log = free_port(), home / "chatkeep.log"
    settings = servers.environ(
        CHATKEEP_ENV="production",
        PORT=str(port),
        CHATKEEP_DATA_DIR=str(home),
        OPENAI_BASE_URL=f"{direct.url}/v1",
        OPENAI_API_KEY="key-of-the-benchmark",
    )
    begin = time.monotonic()
    with running(python, "-m", "chatkeep", "serve", env=settings, log=log) as process:
        wait_until(lambda: servers.answers(f"http://127.0.0.1:{port}/health/live"), process, log)
        return time.monotonic() - begin


def row(what: str, seconds: list[float], size: float) -> Row:
    """Return the figures of launches of one kind."""
    return {
        "what": what,
        "megabytes": size,
        "median_ms": statistics.median(seconds) * 1000,
        "min_ms": min(seconds) * 1000,
        "max_ms": max(seconds) * 1000,
    }
