"""Report known vulnerabilities of every pinned package, of Python and of npm: `./dev audit`.

If a database can't be reached, the report says so and the audit passes: a check that fails at random gets ignored.
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
FILES = tuple(f"requirements/{name}.txt" for name in ("runtime", "dev", "assets", "audit", "build", "image"))
# Pins have hashes, so nothing is resolved again. OSV has PyPI's advisories and is not a package index.
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
    """A vulnerability database did not answer; the message says what happened instead."""


def main() -> int:
    """Print the vulnerabilities of each requirements file. Return 1 if there are any."""
    status = 0
    for name in (*FILES, "package-lock.json"):
        try:
            found = [*(_of_npm() if name.endswith(".json") else _of_pins(name))]
        except Unreachable as reason:
            print(f"NOT AUDITED: {name}: the vulnerability database cannot be reached ({reason})")  # noqa: T201 - its report
            continue
        print(f"{name}: {len(found)} known vulnerabilities", *found, sep="\n  ")  # noqa: T201 - its report
        status = status or bool(found)
    return int(status)


def _of_pins(name: str) -> Iterator[str]:
    for package in _asked([*PIP_AUDIT, *PINNED, name], ROOT)["dependencies"]:
        for known in package.get("vulns", []):
            fixed = ", ".join(known["fix_versions"]) or "nothing yet"
            yield f"{package['name']} {package['version']}: {known['id']}, fixed by {fixed}"


def _of_npm() -> Iterator[str]:
    npm = runpy.run_path(str(ASSETS / "build.py"))["npm"]()
    if npm is None:
        raise Unreachable("npm is not installed")
    for name, known in _asked([*npm, "audit", "--json", "--package-lock-only"], ASSETS)["vulnerabilities"].items():
        yield f"{name}: {known['severity']}"


def _asked(command: Sequence[str], folder: Path) -> Any:
    """Return a program's report. Its exit status can't tell a finding from a missing network."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Unreachable(f"no answer in {SECONDS} s") from None
    try:
        report = json.loads(done.stdout)
    except ValueError:
        raise Unreachable((done.stderr.strip().splitlines() or ["it gave no reason"])[-1][:200]) from None
    if not report.keys() & {"dependencies", "vulnerabilities"}:
        raise Unreachable(str(report.get("message") or report.get("error"))[:200])
    return report


if __name__ == "__main__":
    sys.exit(main())
