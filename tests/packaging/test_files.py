"""No file names the machine of its author, or the host of a package registry."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Each name in two parts, so that this file contains none.
REGISTRIES = [
    ".".join(parts)
    for parts in [("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"), ("yarnpkg", "com")]
]
HOMES = r"(?<![\w.~-])(?:/(?:home|Users)/\w|/root[/]|[A-Z]:\\Users\\)"
FORBIDDEN = re.compile("|".join([*map(re.escape, [*REGISTRIES, f"{ROOT}/"]), HOMES]))


def test_no_file_names_this_machine_or_a_registry() -> None:
    files = dict(texts())
    assert "pyproject.toml" in files
    found = [f"{name}: {match[0]}" for name, text in files.items() for match in FORBIDDEN.finditer(text)]
    assert found == []


def texts() -> Iterator[tuple[str, str]]:
    """Yield the name and text of every text file that is, or would be, committed."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.is_file() and b"\0" not in (content := path.read_bytes()):
            yield name, content.decode(errors="replace")
