"""A short form of `./dev fuzz`: long repeated texts in every place of every route stall nothing and break nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import DATABASES, empty_database
from tests.faults.scale import Scale
from tests.upstream import Upstream

if sys.platform == "win32":
    pytest.skip("gunicorn does not run on Windows", allow_module_level=True)

from tests.fuzz import fuzzed


@pytest.mark.parametrize("kind", DATABASES)
def test_long_repeated_texts_stall_and_break_nothing(
    request: pytest.FixtureRequest, kind: str, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Takes four seconds: a server of its own, at which it goes on for three."""
    url = empty_database(request, kind, tmp_path_factory)
    seed = Scale.from_env().seed
    findings = fuzzed(url, tmp_path_factory.mktemp("fuzz"), upstream.url, seconds=3, seed=seed)
    assert findings.are_good, f"seed {seed}: {findings}"
