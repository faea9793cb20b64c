"""The journal's probe: it writes, stores nothing, and fails if the last transaction failed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from chatkeep.domain.conversation import Conversation
from chatkeep.errors import DatabaseReadOnly, DatabaseRefused, StoreUnavailable
from chatkeep.store import migrations
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.sql import Sql
from tests.conftest import DATABASES, Standing, database_server
from tests.http.api import eventually
from tests.services.users import ORDINARY_USER
from tests.store.examples import a_conversation
from tests.store.test_journal import exists, held, insert

pytestmark = pytest.mark.everywhere

ON_SERVERS = pytest.mark.parametrize("database_url", DATABASES[1:], indirect=True)
ALL_MARKS = Sql("SELECT name, value FROM marks ORDER BY name")


def test_probe_stores_nothing(database: Database, journal: Journal) -> None:
    before = database.read(lambda connection: connection.rows(ALL_MARKS))
    for _ in range(20):
        journal.probe(5)
    assert database.read(lambda connection: connection.rows(ALL_MARKS)) == before


def test_probes_do_not_grow_write_ahead_log(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{(tmp_path / 'x.sqlite3').as_posix()}")
    migrations.migrate(database)
    with closing(Journal(database)) as journal:
        insert(journal, a_conversation())
        sizes = [file.stat().st_size for file in database.files]
        for _ in range(50):
            journal.probe(5)
        assert [file.stat().st_size for file in database.files] == sizes
    database.close()


def test_probes_do_not_grow_binary_log(standing: Standing) -> None:
    """On MySQL, which has a binary log by default."""
    server = database_server(standing, "mysql")
    database = Database(server.create_database())
    migrations.migrate(database)
    with closing(Journal(database)) as journal:
        insert(journal, a_conversation())
        written = events(database)
        for _ in range(20):
            journal.probe(5)
        assert events(database) == written
        insert(journal, a_conversation())
        assert events(database) > written
    database.close()


def events(database: Database) -> int:
    """Return the number of this database's events in the current binary log."""
    [(name, *_)] = database.read(lambda connection: connection.rows(Sql("SHOW BINARY LOG STATUS")))
    found = database.read(lambda connection: connection.rows(Sql(f"SHOW BINLOG EVENTS IN '{name}'")))
    return sum(str(database.url.database) in str(row) for row in found)


@pytest.fixture
def ordinary(database_url: str, standing: Standing) -> Iterator[tuple[Database, Any]]:
    """A database for a user without server rights, and the server."""
    database = Database(sa.make_url(database_url).set(username=ORDINARY_USER).render_as_string(hide_password=False))
    kind = "mysql" if "mysql" in database_url and not _is_mariadb(database) else "mariadb"
    yield database, database_server(standing, kind)
    database.close()


def _is_mariadb(database: Database) -> bool:
    return "MariaDB" in str(database.read(lambda connection: connection.rows(Sql("SELECT @@version"))[0][0]))


@ON_SERVERS
def test_read_only_server_is_not_ready(ordinary: tuple[Database, Any]) -> None:
    database, server = ordinary
    with closing(Journal(database)) as journal:
        journal.probe(5)
        server.execute("SET GLOBAL read_only = 1")
        try:
            with pytest.raises(DatabaseReadOnly):
                journal.probe(5)
            with pytest.raises(DatabaseReadOnly, match="Nothing was stored"):
                insert(journal, made := a_conversation())
        finally:
            server.execute("SET GLOBAL read_only = 0")
        insert(journal, after := a_conversation())
        journal.probe(5)
    assert [exists(database, one) for one in (made, after)] == [False, True]


def test_read_only_file_is_not_ready(tmp_path: Path) -> None:
    database, is_set = Database(f"sqlite:///{(tmp_path / 'x.sqlite3').as_posix()}"), ["query_only = 0"]
    sa.event.listen(database.engine, "connect", lambda one, _: one.raw.execute(f"PRAGMA {is_set[0]}"))
    migrations.migrate(database)
    with closing(Journal(database)) as journal:
        journal.probe(5)
        journal.write(lambda connection: connection.rows(Sql("PRAGMA query_only = 1")))
        is_set[0] = "query_only = 1"
        with pytest.raises(DatabaseReadOnly):
            journal.probe(5)
        with pytest.raises(DatabaseReadOnly, match="Nothing was stored"):
            insert(journal, a_conversation())
        is_set[0] = "query_only = 0"
        assert eventually(lambda: is_ready(journal, a_conversation()))
    database.close()


def is_ready(journal: Journal, made: Conversation) -> bool:
    """Return whether a conversation can be stored and a probe agrees."""
    try:
        insert(journal, made)
        journal.probe(5)
    except DatabaseReadOnly:
        return False
    return True


def test_database_that_refuses_writes_is_not_ready(database: Database, journal: Journal) -> None:
    database.read(lambda connection: connection.change(Sql("ALTER TABLE marks RENAME TO other")))
    with pytest.raises(DatabaseRefused):
        journal.probe(5)


def test_concurrent_probes_share_a_transaction(tmp_path: Path) -> None:
    database, said = Database(f"sqlite:///{(tmp_path / 'x.sqlite3').as_posix()}"), list[str]()

    def note(_cursor: Any, statement: str, _values: Any) -> bool:
        said.append(statement)
        return True

    sa.event.listen(database.engine, "connect", lambda one, _: setattr(one.raw, "exec_trace", note))
    migrations.migrate(database)
    said.clear()
    asking = threading.Barrier(31)

    def ask(journal: Journal) -> None:
        asking.wait(10)
        journal.probe(5)

    with closing(Journal(database)) as journal, ThreadPoolExecutor(30) as pool:
        with held(journal):
            asked = [pool.submit(ask, journal) for _ in range(30)]
            asking.wait(10)
            time.sleep(0.1)
        assert [one.result() for one in asked] == [None] * 30
    assert 1 <= sum("INTO marks" in statement for statement in said) <= 3  # on a busy machine some come later
    database.close()


if os.name != "nt":
    from tests.store.test_outages import no_room

    def test_a_full_disk_is_not_ready_though_a_probe_passes(tmp_path: Path) -> None:
        """Rolled back writes never reach the disk."""
        database = Database(f"sqlite:///{(tmp_path / 'x.sqlite3').as_posix()}")
        migrations.migrate(database)
        with closing(Journal(database)) as journal:
            insert(journal, a_conversation())
            with no_room():
                journal.probe(5)  # there was no commit yet
                with pytest.raises(StoreUnavailable):
                    insert(journal, a_conversation())
                with pytest.raises(StoreUnavailable):
                    journal.probe(5)
            with pytest.raises(StoreUnavailable):
                journal.probe(5)
            insert(journal, a_conversation())
            journal.probe(5)
        database.close()

    def test_a_log_that_cannot_be_shortened_fails_nothing_that_is_stored(
        tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Writes 20 MB: the file can't grow, but its log can."""
        import resource  # noqa: PLC0415 - Windows has none

        database = Database(f"sqlite:///{(tmp_path / 'x.sqlite3').as_posix()}")
        migrations.migrate(database)
        with closing(Journal(database)) as journal:
            for _ in range(8):
                insert(journal, a_conversation(system="x" * 1_000_000))
            insert(journal, a_conversation())  # when the log is short again
            size = max(file.stat().st_size for file in database.files)
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
            made = [a_conversation(system="y" * 300_000) for _ in range(20)]
            stored = []
            try:
                for one in made:
                    try:
                        insert(journal, one)
                    except StoreUnavailable:
                        continue
                    stored.append(one)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert [exists(database, one) for one in made] == [one in stored for one in made]
        assert stored
        assert "could not checkpoint" in caplog.text
        database.close()
