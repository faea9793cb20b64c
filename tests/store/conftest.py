"""A database with the current schema, and a journal that writes to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def journal(database: Database) -> Iterator[Journal]:
    writing = Journal(database)
    yield writing
    writing.close()
