"""Run commands as users do: in a process and a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.servers import NOT_THEIRS, ROOT

LANGUAGE = ("LC_ALL", "LC_MESSAGES", "LANG")


def run(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command with nothing of the developer's own settings; ``env`` is what its environment has beside them."""
    return subprocess.run(
        [sys.executable, "-m", "chatkeep", *arguments],
        cwd=folder,
        env=environment(env or {}),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment of a command."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith((*NOT_THEIRS, *LANGUAGE))}
    return mine | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", **env}
