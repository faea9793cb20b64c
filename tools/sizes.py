"""Check that files, functions and the package stay small: `./dev lint sizes`.

Ruff limits complexity and arguments, but not the length of files and functions.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_ENTRIES = 22
MAX_LINES = 400
MAX_FUNCTION = 30  # lines, for 99 % of all functions
_FOLDERS = ("chatkeep", "tests", "bench", "docs", "tools")
_SKIPPED = {"__pycache__", "vendor", "node_modules"}


def main() -> int:
    """Print what is too large. Return 1 if anything is."""
    found = [*entries(ROOT / "chatkeep"), *long_files(sources()), *long_functions(sources())]
    print(*found, sep="\n", end="\n" if found else "")
    return int(bool(found))


def sources() -> list[Path]:
    """Return the Python and JavaScript files of the project."""
    paths = (path for folder in _FOLDERS for path in sorted((ROOT / folder).rglob("*")))
    named = (path for path in paths if path.suffix in {".py", ".js", ".mjs"} and not _SKIPPED & set(path.parts))
    return [ROOT / "dev", *named]


def entries(package: Path) -> Iterator[str]:
    """Yield a problem if a package has too many modules and folders to see at a glance."""
    count = sum(path.name not in _SKIPPED and not path.name.startswith(".") for path in package.iterdir())
    if count > MAX_ENTRIES:
        yield f"{package.name}/ has {count} entries, at most {MAX_ENTRIES} are allowed"


def long_files(paths: list[Path]) -> Iterator[str]:
    """Yield a problem for each file that is too long."""
    for path in paths:
        if lines(path) > MAX_LINES:
            yield f"{path.relative_to(ROOT).as_posix()} has {lines(path)} lines, at most {MAX_LINES} are allowed"


def long_functions(paths: list[Path]) -> Iterator[str]:
    """Yield a problem, with the longest functions, if more than one in a hundred is too long."""
    found = sorted((length, name) for path in paths if path.suffix in {".py", ""} for length, name in functions(path))
    too_long = [(length, name) for length, name in found if length > MAX_FUNCTION]
    if len(too_long) * 100 > len(found):
        yield f"{len(too_long)} of {len(found)} functions have more than {MAX_FUNCTION} lines: {too_long}"


def functions(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the length and the place of each function in a Python file."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1, f"{path.name}:{node.lineno} {node.name}"


def lines(path: Path) -> int:
    """Return the number of lines in a file."""
    return path.read_bytes().count(b"\n")


if __name__ == "__main__":
    sys.exit(main())
