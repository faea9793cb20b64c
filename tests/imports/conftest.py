"""Stores of each kind for imports and exports."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import EMBEDDED_AND_SERVER, empty_database
from tests.imports.stores import Store


@pytest.fixture(scope="session", params=EMBEDDED_AND_SERVER)
def stores(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Store]]:
    """Two stores on databases of one kind, shared by all tests: creating one takes a second."""
    one, two = (Store(empty_database(request, request.param, tmp_path_factory)) for _ in range(2))
    with one, two:
        yield one, two


@pytest.fixture
def store(stores: tuple[Store, Store]) -> Store:
    """An empty store."""
    stores[0].empty()
    return stores[0]


@pytest.fixture
def other(stores: tuple[Store, Store]) -> Store:
    """Another empty store."""
    stores[1].empty()
    return stores[1]
