"""Servers with keys; each test creates its own keys."""

from __future__ import annotations

from functools import partial

import pytest

from tests.auth.keys import Identity, bearer, make_key
from tests.conftest import EACH, Standing, serving
from tests.http.api import eventually
from tests.servers import Server
from tests.upstream import Upstream


@pytest.fixture(scope="session", params=EACH, ids="-".join)
def server(
    request: pytest.FixtureRequest, standing: Standing, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Server:
    """Every kind of server, not shared with other tests: a key closes it for good."""
    start = partial(serving, request, upstream, tmp_path_factory)
    return standing.one(("keyed", request.param), start, "auth")


@pytest.fixture(scope="session")
def keyed(server: Server) -> Server:
    """Every kind of server, on every database, with a key, so that requests need one."""
    make_key(server.env["DATABASE_URL"])
    anonymous = Identity(server)
    # Wait until each process has seen the key: an open server would test nothing.
    assert eventually(lambda: anonymous.statuses("/api/conversations") == {401})
    return server


@pytest.fixture
def caller(keyed: Server) -> Identity:
    """A caller with a key of the account `local` and all its scopes."""
    return Identity(keyed, bearer(make_key(keyed.env["DATABASE_URL"]).text))
