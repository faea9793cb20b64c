"""A file of tests that can run on several servers and databases."""

from __future__ import annotations

import pytest

from tests.servers import PAIRS


@pytest.fixture(params=PAIRS, ids="-".join)
def server(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.mark.parametrize("number", range(40))
def test_request(server: object, number: int) -> None:
    pass


@pytest.mark.parametrize("how", ["killed", "paused"])
@pytest.mark.parametrize("database_url", ["sqlite", "mysql"])
def test_fault(database_url: str, how: str) -> None:
    pass


@pytest.mark.everywhere
def test_turn(server: object) -> None:
    pass


@pytest.fixture(scope="module", params=["sqlite", "mariadb", "mysql"])
def cluster(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.mark.parametrize("number", range(20))
def test_processes(cluster: object, number: int) -> None:
    pass


@pytest.mark.parametrize("command", ["gunicorn", "waitress"])
def test_start(command: str) -> None:
    pass
