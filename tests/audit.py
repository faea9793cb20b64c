"""Ask for the known vulnerabilities of all that is pinned, of Python and of npm: `./dev audit`.

Where a database cannot be reached it says so, loudly, and is no failure: a check that fails by the weather is not read.
"""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.servers import ROOT

ASSETS = ROOT / "chatkeep" / "web" / "assets"
FILES = (
    "requirements.txt",
    "requirements-dev.txt",
    "requirements-assets.txt",
    "requirements-audit.txt",
    "requirements-build.txt",
    "requirements-image.txt",
)
# What is pinned has hashes and is not resolved anew; OSV knows PyPI's advisories, and is no package index.
PIP_AUDIT = [
    sys.executable,
    "-m",
    "pip_audit",
    "--format=json",
    "--progress-spinner=off",
    "--vulnerability-service=osv",
]
PINNED = ["--require-hashes", "--disable-pip", "--timeout=20", "-r"]
SECONDS = 120


class Unreachable(Exception):
    """There is no answer from a database; the message says what there was instead."""


def main() -> int:
    """Print what is known of each file of pins; return 1 where there is a vulnerability."""
    status = 0
    for name in (*FILES, "package-lock.json"):
        try:
            found = [*(_of_npm() if name.endswith(".json") else _of_pins(name))]
        except Unreachable as reason:
            print(f"NOT AUDITED: {name}: the database of vulnerabilities cannot be reached ({reason})")  # noqa: T201 - its report
            continue
        print(f"{name}: {len(found)} known vulnerabilities", *found, sep="\n  ")  # noqa: T201 - its report
        status = status or bool(found)
    return int(status)


def _of_pins(name: str) -> Iterator[str]:
    for package in _asked([*PIP_AUDIT, *PINNED, name], ROOT)["dependencies"]:
        for known in package.get("vulns", []):
            fixed = ", ".join(known["fix_versions"]) or "nothing yet"
            yield f"{package['name']} {package['version']}: {known['id']}, mended by {fixed}"


def _of_npm() -> Iterator[str]:
    npm = runpy.run_path(str(ASSETS / "build.py"))["npm"]()
    if npm is None:
        raise Unreachable("there is no npm here")
    for name, known in _asked([*npm, "audit", "--json", "--package-lock-only"], ASSETS)["vulnerabilities"].items():
        yield f"{name}: {known['severity']}"


def _asked(command: Sequence[str], folder: Path) -> Any:
    """Return the report of a program, whose exit status is the same for a finding and for no network."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Unreachable(f"no answer within {SECONDS} s") from None
    try:
        report = json.loads(done.stdout)
    except ValueError:
        raise Unreachable((done.stderr.strip().splitlines() or ["it did not say why"])[-1][:200]) from None
    if not report.keys() & {"dependencies", "vulnerabilities"}:
        raise Unreachable(str(report.get("message") or report.get("error"))[:200])
    return report


if __name__ == "__main__":
    sys.exit(main())
