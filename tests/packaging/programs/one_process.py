"""A file of tests that records which worker of pytest-xdist runs it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.mark.parametrize("number", range(4))
def test_it(number: int) -> None:
    with Path(__file__).with_suffix(".ran").open("a", encoding="utf-8") as ran:
        ran.write(f"{os.environ['PYTEST_XDIST_WORKER']}\n")
    assert number < 4
