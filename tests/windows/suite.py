"""Walk through chatkeep on Windows, and run the tests there that need no other program of Linux.

Each file of tests is a part with a process of its own. A part without failures is not run again until the project
changes: a run that was interrupted continues where it was. Wine is that of Debian 13, in a folder of its own, because
modules in Rust, which some tests need, load on Wine 10 only.
"""

from __future__ import annotations

import ast
import hashlib
import os
import runpy
import shutil
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.servers import ROOT
from tests.services import debian
from tests.services.wine import CACHE, Unavailable, Windows

FOLDERS: tuple[str, ...] = runpy.run_path(str(ROOT / "dev"))["PORTABLE"]
SUITE = "trixie"
LEFT_OUT = (".git", ".venv", "build", "data", "*_cache", "__pycache__")
NO_TESTS = 5  # pytest's exit status where a whole file is skipped
RESULT, TEMPORARY = "result.xml", "temporary"
# Beside other work a test that starts processes may take minutes. pytest would remove folders of earlier runs at the
# end, which fails while a process of theirs has files open.
OPTIONS = ("-q", "-o", "timeout=600", f"--basetemp={TEMPORARY}")


class Suite:
    """A copy of the project beside the Windows Python, and what came of its parts."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self._checkout = windows.python.parent / "checkout"
        shutil.rmtree(self._checkout, ignore_errors=True)
        shutil.copytree(ROOT, self._checkout, ignore=shutil.ignore_patterns(*LEFT_OUT))
        self._kept = ROOT / "build" / "windows" / digest_of(self._checkout)
        self._kept.mkdir(parents=True, exist_ok=True)

    def walk(self) -> Counter[str]:
        """Walk through chatkeep from outside, with the tests' own Python, and return the outcomes."""
        made = self._kept / RESULT
        command = [sys.executable, "-m", "pytest", "tests/windows", f"--junitxml={made}"]
        return self._part("windows", command, os.environ | {"CHATKEEP_WINDOWS": "long"}, made)

    def run(self, path: Path) -> Counter[str]:
        """Run a file of tests on Windows and return the outcomes."""
        file = path.relative_to(ROOT).as_posix()
        shutil.rmtree(self._checkout / TEMPORARY, ignore_errors=True)
        command = self.command(file, f"--junitxml={RESULT}", *OPTIONS)
        return self._part(file.replace("/", "-"), command, self._windows.environment(), self._checkout / RESULT)

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of pytest on Windows."""
        return self._windows.command("-m", "pytest", "-p", "no:cacheprovider", *arguments, folder=self._checkout)

    def _part(self, name: str, command: list[str], env: dict[str, str], made: Path) -> Counter[str]:
        """Return the outcomes of a part, from its run or from one before that had no failures.

        A process that breaks off, or ends with an error of its own, has failed once.
        """
        kept = self._kept / f"{name}.xml"
        if kept.exists():
            return outcomes(kept)
        made.unlink(missing_ok=True)
        status = subprocess.call(command, env=env, stdin=subprocess.DEVNULL)
        found = outcomes(made) if made.exists() else Counter()
        if status in {0, NO_TESTS} and made.exists():
            shutil.move(made, kept)
        elif not found["failed"]:
            found["failed"] = 1
        return found


def main(*arguments: str) -> int:
    """Run everything, or pytest on Windows with the arguments; return 0 if nothing failed, and 1 without Windows."""
    try:
        windows = prepared()
    except Unavailable as reason:
        sys.stderr.write(f"The tests cannot run on Windows: {reason}\n")
        return 1
    with windows.mounted():
        suite = Suite(windows)
        if arguments:
            return subprocess.call(suite.command(*arguments), env=windows.environment(), stdin=subprocess.DEVNULL)
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for folder in FOLDERS:
            for path in sorted((ROOT / "tests" / folder).glob("test_*.py")):
                found[folder] += suite.run(path)
        found["walk"] = suite.walk()
    sys.stdout.write(table(found))
    return int(any(counts["failed"] for counts in found.values()))


def outcomes(results: Path) -> Counter[str]:
    """Count the tests that passed and failed, and those that were skipped under their reasons."""
    found: Counter[str] = Counter()
    for test in ET.parse(results).iter("testcase"):  # noqa: S314 - pytest wrote it
        skipped = test.find("skipped")
        if test.find("failure") is not None or test.find("error") is not None:
            found["failed"] += 1
        elif skipped is not None:
            found[f"skipped: {reason(skipped)}"] += 1
        else:
            found["passed"] += 1
    return found


def reason(skipped: ET.Element) -> str:
    """Return why a test was skipped; of a whole file pytest tells that as the text of a tuple."""
    if skipped.get("message") == "collection skipped":
        return str(ast.literal_eval(skipped.text or "")[-1]).removeprefix("Skipped: ")
    return skipped.get("message") or ""


def table(found: dict[str, Counter[str]]) -> str:
    """Return the counts of each folder, a line each, and of each reason to skip tests."""
    lines = []
    for folder, counts in found.items():
        skips = counts.keys() - {"passed", "failed"}
        skipped = sum(counts[reason] for reason in skips)
        lines.append(f"{folder}: {counts['passed']} passed, {counts['failed']} failed, {skipped} skipped\n")
        lines += [f"    {counts[reason]} {reason}\n" for reason in sorted(skips)]
    return "".join(lines)


def digest_of(folder: Path) -> str:
    """Return a name for the names and contents of all files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


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
    windows = Windows("dev", root)
    with windows.mounted():
        windows.ensure_made()
    return windows


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # this also ends mounts and processes
    try:
        sys.exit(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
