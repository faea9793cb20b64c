"""The short form of `./dev fuzz`: long repeated texts neither stall nor fail any route."""

from __future__ import annotations

import pytest

from tests.conftest import EMBEDDED_AND_SERVER, empty_database
from tests.faults.scale import Scale
from tests.upstream import Upstream

pytestmark = pytest.mark.posix("gunicorn does not run on Windows")


@pytest.mark.parametrize("kind", EMBEDDED_AND_SERVER)
def test_long_repeated_texts_neither_stall_nor_fail_any_route(
    request: pytest.FixtureRequest, kind: str, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Starts a server and sends requests for three seconds."""
    from tests.fuzz import fuzzed  # noqa: PLC0415 - it needs modules that Windows lacks

    url = empty_database(request, kind, tmp_path_factory)
    seed = Scale.from_env().seed
    findings = fuzzed(url, tmp_path_factory.mktemp("fuzz"), upstream.url, seconds=3, seed=seed)
    assert findings.are_good, f"seed {seed}: {findings}"
