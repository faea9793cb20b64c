"""A short form of `./dev fuzz`: long repeated texts in every place of every route stall nothing and break nothing."""

from __future__ import annotations

import pytest

from tests.conftest import EMBEDDED_AND_SERVER, empty_database
from tests.faults.scale import Scale
from tests.upstream import Upstream

pytestmark = pytest.mark.posix("gunicorn does not run on Windows")


@pytest.mark.parametrize("kind", EMBEDDED_AND_SERVER)
def test_long_repeated_texts_stall_and_break_nothing(
    request: pytest.FixtureRequest, kind: str, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Takes four seconds: a server of its own, at which it goes on for three."""
    from tests.fuzz import fuzzed  # noqa: PLC0415 - it needs modules that Windows lacks

    url = empty_database(request, kind, tmp_path_factory)
    seed = Scale.from_env().seed
    findings = fuzzed(url, tmp_path_factory.mktemp("fuzz"), upstream.url, seconds=3, seed=seed)
    assert findings.are_good, f"seed {seed}: {findings}"
