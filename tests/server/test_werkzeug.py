"""Internals of Werkzeug's development server that chatkeep overrides or depends on are unchanged."""

from __future__ import annotations

import pytest
from werkzeug.serving import BaseWSGIServer, DechunkedInput, ThreadedWSGIServer, WSGIRequestHandler

from tests.server.sources import digest

DIGESTS: dict[type, str] = {
    BaseWSGIServer: "f269bc682439",
    DechunkedInput: "bf9a2369198f",
    ThreadedWSGIServer: "e615def6ea2e",
    WSGIRequestHandler: "07432938bc94",
}


@pytest.mark.parametrize("what", DIGESTS, ids=lambda what: what.__name__)
def test_source_is_unchanged(what: type) -> None:
    """If it fails, review the change against chatkeep.server.development, then update the digest."""
    assert digest(what) == DIGESTS[what]
