"""Servers with keys: each test makes its own."""

from __future__ import annotations

import pytest

from tests.access.keys import Identity, bearer, make_key
from tests.http.api import eventually
from tests.servers import Server


@pytest.fixture(scope="session")
def keyed(server: Server) -> Server:
    """Every kind of server, on every database, with a key: nobody comes in without one."""
    make_key(server.env["DATABASE_URL"])
    nobody = Identity(server)
    # Until each of its processes has seen that there is a key: as long as it is open, nothing would be tried.
    assert eventually(lambda: nobody.statuses("/api/conversations") == {401})
    return server


@pytest.fixture
def caller(keyed: Server) -> Identity:
    """Somebody with a key of the account `local` that may do everything."""
    return Identity(keyed, bearer(make_key(keyed.env["DATABASE_URL"]).text))
