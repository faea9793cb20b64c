"""What other processes have under way when an end user is erased."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from chatkeep.domain.audit import COMMAND_LINE
from chatkeep.domain.conversation import now_us
from chatkeep.domain.quota import Defaults
from chatkeep.errors import NotFound
from chatkeep.imports import ImportOptions, import_file
from chatkeep.imports.writer import CONVERSATIONS
from chatkeep.limiting.aggregator import UsageAggregator
from chatkeep.limiting.limiter import Limiter
from chatkeep.retention.erasure import Eraser, Receipt
from chatkeep.store.journal import Journal
from chatkeep.store.sql import Sql
from chatkeep.turns.cache import MemoryCache
from tests.conftest import EMBEDDED_AND_SERVER, empty_database
from tests.imports.stores import Store, a_conversation

OWNER = "local/" + "0" * 32
COUNT = Sql("SELECT COUNT(*) FROM conversations")


@pytest.fixture(params=EMBEDDED_AND_SERVER)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A database with the current schema."""
    with Store(empty_database(request, request.param, tmp_path_factory)) as opened:
        yield opened


def erase(store: Store, folder: Path) -> Receipt:
    """Erase the owner as another process does."""
    with closing(Journal(store.database)) as journal:
        limiter = Limiter(Defaults(), (), journal, UsageAggregator())
        return Eraser(store.database, journal, MemoryCache(0, 0), limiter, folder).erase(OWNER, COMMAND_LINE)


def conversations(store: Store) -> int:
    return int(store.database.read(lambda connection: connection.rows(COUNT))[0][0])


def test_an_import_that_has_begun_stops_and_leaves_nothing(store: Store, tmp_path: Path) -> None:
    store.put(*(a_conversation() for _ in range(2 * CONVERSATIONS)))
    file = store.give()
    store.journal.write(lambda transaction: transaction.change(Sql("DELETE FROM conversations")))
    receipts: list[Receipt] = []

    def chunks() -> Iterator[bytes]:
        for line in file.splitlines(keepends=True):
            if not receipts and conversations(store):
                receipts.append(erase(store, tmp_path))
            yield line

    with pytest.raises(NotFound):
        import_file(store.database, store.journal, chunks(), ImportOptions(OWNER, now_us()))
    assert receipts[0].erased.conversations >= CONVERSATIONS
    assert conversations(store) == 0


def test_an_import_after_an_erasure_is_stored(store: Store, tmp_path: Path) -> None:
    store.put(a_conversation())
    file = store.give()
    store.journal.write(lambda transaction: transaction.change(Sql("DELETE FROM conversations")))
    erase(store, tmp_path)
    assert store.take(file, owner=OWNER).conversations["added"] == 1
    assert conversations(store) == 1
