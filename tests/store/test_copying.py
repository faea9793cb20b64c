"""A copy is identical byte for byte, or reports what the target cannot store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from chatkeep.domain.conversation import new_id
from chatkeep.errors import SettingsError, TransferError
from chatkeep.store import copying, identity, leases, migrations, schema
from chatkeep.store.copying import TABLES, Copy, TableSum
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.sql import Sql
from tests.conftest import empty_database
from tests.store import whole

pytestmark = pytest.mark.everywhere

Make = Callable[[str], Database]


@pytest.fixture
def make(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Creates databases of any kind with the schema and no rows, like a copy from a blank one."""
    with ExitStack() as opened:

        def made(kind: str) -> Database:
            database = Database(empty_database(request, kind, tmp_path_factory))
            opened.callback(database.close)
            return database

        yield made


@pytest.fixture
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """An SQLite database with the schema and no rows."""
    database = Database(empty_database(request, "sqlite", tmp_path_factory))
    yield database
    database.close()


def unheeded(_count: int) -> None:
    """Show no progress."""


def copied(source: Database, target: Database, advance: Callable[[int], object] = unheeded) -> dict[str, TableSum]:
    """Copy like the command."""
    made = Copy(source, target)
    made.prepare()
    for table in TABLES:
        made.fill(table, advance)
    found = compared(made)
    made.finish()
    return found


def compared(made: Copy) -> dict[str, TableSum]:
    return {table.name: made.compare(table, unheeded) for table in TABLES}


class BrokenOff(Exception):
    """Interrupts a copy."""


class Steps:
    """Interrupts a copy after some steps."""

    def __init__(self, most: int) -> None:
        self.left = most

    def advance(self, _count: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise BrokenOff


def test_all_tables_except_processes_are_copied() -> None:
    assert {table.name for table in TABLES} == schema.metadata.tables.keys() - {"workers", "duties"}


def test_copies_across_all_databases_are_identical(source: Database, make: Make) -> None:
    """Makes the schema in MySQL and in MariaDB, and copies three times: some seconds."""
    whole.fill(source)
    wanted, sums = whole.dump(source), []
    for kind in ("mysql", "mariadb", "sqlite"):
        target = make(kind)
        sums.append(copied(source, target))
        assert whole.dump(target) == wanted
        assert migrations.schema_of(target).revision == migrations.HEAD
        source = target
    assert sums[0] == sums[1] == sums[2]
    assert {name: one.rows for name, one in sums[0].items()} == {name: len(rows) for name, rows in wanted.items()}


@pytest.mark.parametrize("kind", ["sqlite", "mysql", "mariadb"])
def test_new_messages_follow_copied_ones(source: Database, make: Make, kind: str) -> None:
    whole.fill(source)
    target = make(kind)
    copied(source, target)
    with target.engine.begin() as connection:
        row = dict(connection.execute(sa.select(schema.messages).limit(1)).mappings().one())
        highest = connection.execute(sa.select(sa.func.max(schema.messages.c.id))).scalar_one()
        del row["id"]
        connection.execute(sa.insert(schema.messages), row | {"message_id": b"n" * 16, "timestamp": 7})
        assert connection.execute(sa.select(sa.func.max(schema.messages.c.id))).scalar_one() > highest


def test_interrupted_copy_resumes(source: Database, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupts before each batch of each table. Until the copy is complete, no server starts on it."""
    monkeypatch.setattr(copying, "BATCH_ROWS", 7)
    whole.fill(source, rows=20)
    target, broken, is_whole = make("sqlite"), 0, False
    while not is_whole:
        try:
            is_whole = bool(copied(source, target, Steps(broken).advance))
        except BrokenOff:
            broken += 1
            for refused in (migrations.ensure, migrations.migrate):
                with pytest.raises(SettingsError, match="has not copied everything"):
                    refused(target)
    assert broken > len(TABLES)
    assert whole.dump(target) == whole.dump(source)
    migrations.ensure(target)


def test_copy_has_its_own_identity(source: Database, make: Make) -> None:
    """Redis entries of one database don't apply to the other."""
    target = make("sqlite")
    journal = Journal(source)
    number = journal.write(identity.number)
    assert journal.write(identity.number) == number > 0
    journal.close()
    copied(source, target)
    other = Journal(target)
    assert other.write(identity.number) not in {0, number}
    other.close()


def test_leases_are_copied_without_processes(source: Database, make: Make) -> None:
    """Its reply is interrupted when the copy is served. Watches a dead process: three seconds."""
    whole.fill(source, rows=2)
    with source.connection() as connection:
        leases.heartbeat(connection, new_id())
    target = make("sqlite")
    copied(source, target)
    with target.connection() as connection:
        assert len(leases.every(connection)) == 2
        assert leases.heartbeats(connection) == {}


@contextmanager
def beating(database: Database) -> Iterator[None]:
    """Keep a process's heartbeat on a database."""
    over, worker = threading.Event(), new_id()

    def beat() -> None:
        while not over.wait(0.05):
            with database.connection() as connection:
                leases.heartbeat(connection, worker)

    with database.connection() as connection:
        leases.heartbeat(connection, worker)
    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_served_source_is_refused(source: Database, make: Make) -> None:
    target = make("sqlite")
    with beating(source), pytest.raises(TransferError, match="A server uses the source"):
        Copy(source, target).prepare()
    assert migrations.schema_of(target).revision == migrations.HEAD


def test_source_served_during_copy_is_detected(source: Database, make: Make) -> None:
    made = Copy(source, make("sqlite"))
    made.prepare()
    with source.connection() as connection:
        leases.heartbeat(connection, new_id())
    with pytest.raises(TransferError, match="has used the source meanwhile"):
        made.finish()


@pytest.mark.parametrize("change", ["DELETE FROM messages WHERE id = 1", "UPDATE usage SET cost = cost + 1"])
def test_source_changed_during_copy_is_detected(source: Database, make: Make, change: str) -> None:
    whole.fill(source, rows=3)
    target = make("sqlite")
    made = Copy(source, target)
    made.prepare()
    for table in TABLES:
        made.fill(table, unheeded)
    with source.connection() as connection:
        connection.change(Sql(change))
    with pytest.raises(TransferError, match=r"(messages|usage) differs: the source has"):
        compared(made)
    assert migrations.schema_of(target).revision == migrations.UNFINISHED


@pytest.mark.parametrize("kind", ["sqlite", "mysql", "mariadb"])
def test_non_empty_target_is_refused_unchanged(source: Database, make: Make, kind: str) -> None:
    whole.fill(source, rows=3)
    target = make(kind)
    copied(source, target)
    with target.connection() as connection:
        connection.change(Sql("DELETE FROM messages"))
    before = whole.dump(target)
    with pytest.raises(TransferError, match="The target is not empty: api_keys has 3 rows"):
        copied(source, target)
    assert whole.dump(target) == before
    assert migrations.schema_of(target).revision == migrations.HEAD


def test_target_without_tables_is_migrated(source: Database, tmp_path: Path) -> None:
    target = Database(f"sqlite:///{tmp_path}/new.sqlite3")
    copied(source, target)
    migrations.ensure(target)
    target.close()


def test_target_of_other_program_is_refused(source: Database, tmp_path: Path) -> None:
    target = Database(f"sqlite:///{tmp_path}/other.sqlite3")
    with target.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE wp_posts (id INTEGER)")
    with pytest.raises(TransferError, match="another program"):
        Copy(source, target).prepare()
    target.close()


@pytest.mark.posix("a link takes a right of its own on Windows")
def test_copy_into_itself_is_refused(source: Database, tmp_path: Path) -> None:
    linked = tmp_path / "linked.sqlite3"
    linked.symlink_to(str(source.url.database))
    again = Database(f"sqlite:///{linked}")
    with pytest.raises(TransferError, match="the same database"):
        Copy(source, again).prepare()
    again.close()


def test_source_of_other_version_is_refused(source: Database, make: Make) -> None:
    with source.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0009'")
    with pytest.raises(TransferError, match="The source has schema 0009"):
        Copy(source, make("sqlite")).prepare()


# Values that SQLite accepts and a server does not: the statement that makes one, and the words of the error.
UNHOLDABLE = [
    ("UPDATE conversations SET title = CAST(x'61ff62' AS TEXT)", "conversations.title, id .*: it is not valid UTF-8"),
    ("UPDATE messages SET content = CAST(x'eda080' AS TEXT)", "messages.content, id 1: it is not valid UTF-8"),
    ("UPDATE conversations SET title = printf('%300s', 'x')", "title, id .*: it has 300 characters, more than 255"),
    ("UPDATE messages SET parent_id = x'0102'", "messages.parent_id, id 1: it has 2 bytes, not 16"),
    ("UPDATE messages SET position = 3000000000", "messages.position, id 1: it is 3000000000, more than 32 bits"),
    ("UPDATE conversations SET pinned = 70000", "conversations.pinned, id .*: it is 70000, more than 16 bits"),
    ("UPDATE messages SET epoch = 'later'", "messages.epoch, id 1: it is of the type str, not int"),
    ("UPDATE metrics SET value = 9e999", "metrics.value, minute 1, name '.*': it is inf"),
    ("INSERT INTO marks VALUES ('a', 1), ('a ', 2)", "marks, name 'a ': the target has this row"),
    ("UPDATE messages SET content = printf('%9000000s', 'x')", "id 1: the target takes .* max_allowed_packet to 18,0"),
]


@pytest.mark.parametrize(("statement", "named"), UNHOLDABLE, ids=[named for _, named in UNHOLDABLE])
def test_value_unstorable_on_server_is_reported(
    source: Database, standing_target: Database, statement: str, named: str
) -> None:
    whole.fill(source, rows=1)
    with source.connection() as connection:
        connection.change(Sql(statement))
    with pytest.raises(TransferError, match=named) as raised:
        copied(source, standing_target)
    assert migrations.schema_of(standing_target).revision == migrations.UNFINISHED
    assert "printf" not in str(raised.value)


@pytest.fixture
def standing_target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A MariaDB with a limit of 16 MiB per statement, with the schema and no rows."""
    database = Database(empty_database(request, "mariadb", tmp_path_factory))
    yield database
    database.close()


def test_sqlite_stores_any_sqlite_value(source: Database, make: Make) -> None:
    whole.fill(source, rows=1)
    with source.connection() as connection:
        for statement, _ in UNHOLDABLE[2:]:
            if "'later'" not in statement:
                connection.change(Sql(statement))
    target = make("sqlite")
    copied(source, target)
    assert whole.dump(target) == whole.dump(source)


def test_checksum_depends_on_types_not_on_order() -> None:
    rows: list[tuple[Any, ...]] = [("1", 1), (b"1", 1.5), (None, ""), ("", None)]
    assert copying.sum_of(rows) == copying.sum_of(reversed(rows))
    others = {copying.sum_of([row]).checksum for row in [*rows, ("1", "1"), (b"1", 1), ("", ""), (None, None)]}
    assert len(others) == 8
