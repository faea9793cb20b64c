"""The beginning of a file of tests that fail before they pass."""

from __future__ import annotations

import os
from pathlib import Path

import pytest  # noqa: F401 - the tests that are added use it


def fails_at_first(times: int) -> None:
    """Fail ``times`` times for each parameter of the calling test, then pass."""
    tries = Path(f"tries-{os.environ['PYTEST_CURRENT_TEST'].split('[')[1].split(']')[0]}")
    with tries.open("a", encoding="utf-8") as file:
        file.write("x")
    assert tries.stat().st_size > times, "no time"
