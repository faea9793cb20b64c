"""Migrations produce the schema, run once, and only automatically if no operator has to decide."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from chatkeep.domain.usage import UsageKey, UsageTotals
from chatkeep.errors import SettingsError
from chatkeep.i18n import Text, translated
from chatkeep.store import conversations, holdings, imports, messages, migrations, sqlite, usage
from chatkeep.store.engine import CHANGES_OF_SCHEMA, Database
from chatkeep.store.journal import Journal
from chatkeep.store.migrations import running
from chatkeep.store.schema import metadata
from chatkeep.store.sql import Sql
from chatkeep.store.transaction import Transaction
from tests.conftest import DATABASES, blank_database, empty_database, migrated
from tests.servers import ROOT, Server
from tests.store.examples import a_conversation, a_message

pytestmark = pytest.mark.everywhere

if TYPE_CHECKING:
    from tests.services.mariadb import MariaDB


@pytest.fixture
def blank(blank_url: str) -> Iterator[Database]:
    database = Database(blank_url)
    yield database
    database.close()


def test_migrations_produce_the_schema(blank: Database) -> None:
    assert migrations.migrate(blank) == (None, migrations.HEAD)
    with blank.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


@pytest.mark.parametrize("kind", DATABASES)
def test_copied_test_databases_equal_migrated_ones(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    """They are copies."""
    copied = Database(empty_database(request, kind, tmp_path_factory))
    made = Database(migrated(blank_database(request, kind, tmp_path_factory)))
    assert described(copied) == described(made)
    copied.close()
    made.close()


def described(database: Database) -> list[str]:
    if database.embedded:
        found = database.read(lambda connection: connection.rows(Sql("SELECT sql FROM sqlite_schema ORDER BY name")))
        return [str(row[0]) for row in found]
    with database.engine.connect() as connection:
        tables = sorted(sa.inspect(connection).get_table_names())
        shown = [str(connection.exec_driver_sql(f"SHOW CREATE TABLE `{table}`").one()[1]) for table in tables]
    # MySQL shows a column's character set beside its collation if the creating statement had it.
    return [text.replace("CHARACTER SET utf8mb4 ", "") for text in shown]


def test_head_is_the_last_step() -> None:
    assert running.steps()[-1].revision == migrations.HEAD


def test_migrating_again_does_nothing(database: Database) -> None:
    assert migrations.migrate(database) == (migrations.HEAD, migrations.HEAD)


def test_migration_keeps_data(blank: Database) -> None:
    """From the second latest schema: data stays, and the new indexes find it."""
    running.run(blank, None, print, to="0010")
    made = a_conversation(message_count=2)
    said = [a_message(made, timestamp=number, content=f"{number}") for number in (1, 2)]
    with closing(Journal(blank)) as journal:

        def fill(connection: Transaction) -> None:
            conversations.insert(connection, made)
            imports.add(connection, said, {said[1].id})
            usage.add(connection, {UsageKey("local", 7, "me", bytes(16), "a model"): UsageTotals(3)})

        journal.write(fill)
        assert migrations.migrate(blank) == ("0010", migrations.HEAD)
        assert blank.read(lambda c: messages.siblings(c, made.id, [said[1]])) == {said[1].id: [said[0].id, said[1].id]}
        assert blank.read(lambda c: usage.of_owner(c, "me", usage.UsageRowKey(), 9))[0][3] == 3
        journal.write(lambda c: holdings.hold(c, ["me"]))
        assert blank.read(lambda c: holdings.drift(c, "me")) == holdings.Stored(2, 2)


def test_empty_database_is_migrated(blank: Database) -> None:
    migrations.ensure(blank)
    assert migrations.schema_of(blank).revision == migrations.HEAD


def test_outdated_server_database_is_not_migrated_automatically(mariadb_url: str) -> None:
    database = Database(mariadb_url)
    migrations.migrate(database)
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(SettingsError, match=rf"schema 0000, this version needs {migrations.HEAD}.*chatkeep migrate"):
        migrations.ensure(database)
    database.close()


@pytest.mark.parametrize("before", [step.revision for step in running.steps()[:-1]])
def test_partial_step_is_completed(database_url: str, before: str) -> None:
    """All changes of later steps exist, like after a kill just before the revision was stored."""
    database = Database(database_url)
    expected = described(database)
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :before"), {"before": before})
    assert migrations.migrate(database) == (before, migrations.HEAD)
    assert described(database) == expected
    database.close()


def test_killed_first_migration_is_completed(blank: Database, blank_url: str) -> None:
    """The tables of some steps exist without a revision."""
    migrations.migrate(blank)
    expected = described(blank)
    with blank.engine_for(CHANGES_OF_SCHEMA).begin() as connection:
        connection.exec_driver_sql("DELETE FROM alembic_version")
        for table in ("holdings", "shares", "audit"):
            connection.exec_driver_sql(f"DROP TABLE {table}")
        connection.exec_driver_sql("DELETE FROM marks WHERE name = 'erasures'")
    assert migrations.schema_of(blank) == migrations.Schema(None, is_begun=True, compatible_from=11)
    migrations.existing(blank_url).close()
    assert sorted(described(blank)) == sorted(expected)
    assert blank.read(lambda c: c.rows(Sql("SELECT COUNT(*) FROM marks WHERE name = 'erasures'"))) == [(1,)]


@pytest.mark.parametrize(
    ("mark", "serves"),
    [(int(migrations.HEAD), True), (int(migrations.HEAD) + 1, False), (None, False)],
    ids=["from this one", "from the newer one", "unmarked"],
)
def test_compatible_newer_schema_is_served(database: Database, mark: int | None, *, serves: bool) -> None:
    newer = f"{int(migrations.HEAD) + 1:04}"
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :newer"), {"newer": newer})
        row = {"name": migrations.COMPATIBLE_FROM_MARK, "value": mark}
        connection.execute(sa.text("DELETE FROM marks WHERE name = :name"), row)
        if mark is not None:
            connection.execute(sa.text("INSERT INTO marks VALUES (:name, :value)"), row)
    if serves:
        migrations.ensure(database)
        assert migrations.migrate(database) == (newer, newer)
        return
    for open_it in (migrations.ensure, migrations.migrate):
        refused = rf"schema {newer} of a newer chatkeep.*needs {migrations.HEAD}, cannot serve; install"
        with pytest.raises(SettingsError, match=refused):
            open_it(database)


@pytest.mark.parametrize("kind", DATABASES[1:])
def test_databases_of_one_server_are_migrated_concurrently(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    """The names of locks are global on a server."""
    held, other = (Database(blank_database(request, kind, tmp_path_factory)) for _ in range(2))
    told: list[str] = []
    with held.engine_for(CHANGES_OF_SCHEMA).connect() as connection, running.alone(connection, print):
        assert migrations.migrate(other, told.append) == (None, migrations.HEAD)
        waiting = threading.Thread(target=migrations.migrate, args=(held, told.append))
        waiting.start()
        waiting.join(1)
        assert waiting.is_alive()
    waiting.join(10)
    assert told == ["Another process migrates the database. Waiting for it."]
    assert migrations.schema_of(held).revision == migrations.HEAD


def test_waiting_change_does_not_block_others(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A transaction like a dump's that lasts longer than a change waits: seven seconds."""
    database = Database(blank_database(request, "mysql", tmp_path_factory))
    running.run(database, None, print, to="0010")
    told: list[str] = []
    with database.engine_for(CHANGES_OF_SCHEMA).connect() as dump:
        dump.exec_driver_sql("START TRANSACTION")
        dump.exec_driver_sql("SELECT * FROM messages")
        migrating = threading.Thread(target=migrations.migrate, args=(database, told.append))
        migrating.start()
        time.sleep(0.5)
        for _ in range(2):  # the first may wait as long as the change
            assert database.read(lambda c: c.rows(Sql("SELECT COUNT(*) FROM messages"))) == [(0,)]
        migrating.join(1)
        assert migrating.is_alive()
        dump.rollback()
    migrating.join(10)
    assert "Waiting for a transaction that uses the table messages." in told
    assert migrations.schema_of(database).revision == migrations.HEAD


def test_migrated_database_is_read_during_writes(tmp_path: Path) -> None:
    url = migrated(f"sqlite:///{tmp_path}/db")
    holder = apsw.Connection(str(tmp_path / "db"))
    holder.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    migrations.existing(url, reads_only=True).close()
    assert time.monotonic() - began < sqlite.BUSY_MS / 1000


def test_refused_change_is_explained(blank: Database) -> None:
    """Another program has a table of that name."""
    with blank.engine_for(CHANGES_OF_SCHEMA).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE conversations (id INTEGER)")
    for _ in range(2):
        with pytest.raises(SettingsError, match=r"the migration stopped: .*created_at.*run again: chatkeep migrate"):
            migrations.ensure(blank)


@pytest.mark.parametrize("kind", DATABASES[1:])
def test_change_that_needs_a_lock_is_made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    """For example because of an operator's FULLTEXT index."""
    database = Database(blank_database(request, kind, tmp_path_factory))
    running.run(database, None, print, to="0009")
    with database.engine_for(CHANGES_OF_SCHEMA).begin() as connection:
        connection.exec_driver_sql("CREATE FULLTEXT INDEX own ON messages (content)")
    told: list[str] = []
    assert migrations.migrate(database, told.append) == ("0009", migrations.HEAD)
    assert "only with a lock" in told[1], told
    database.close()


def test_long_changes_are_announced_and_report_progress(tmp_path: Path) -> None:
    """Fills a table with enough rows: about a second."""
    database = Database(f"sqlite:///{tmp_path}/db")
    running.run(database, None, print, to="0010")
    with database.engine_for(CHANGES_OF_SCHEMA).begin() as connection:
        connection.exec_driver_sql(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100000)"
            " INSERT INTO usage SELECT '', n, '', x'', '', 0, 0, 0, 0 FROM numbers"
        )
    told: list[Text] = []
    running.run(database, "0010", told.append, to="0011")
    database.close()
    assert told[:3] == [
        "Migrating from 0010 to 0011: 4 changes. While a step is made nothing else can be stored; reading goes on.",
        "0011: index ix_usage_owner, about 100,000 rows, about 0 s",
        "2 of 4: index ix_usage_owner",
    ]
    assert re.fullmatch(r"Made in [\d.]+ s, [\d,]+ rows a second\.", told[3])
    assert len(told) == 4
    assert [translated(line, "zh") for line in told if translated(line, "zh") == line] == []


def test_concurrent_migrations_run_once(blank_url: str) -> None:
    """Starts four processes: two seconds."""
    env = os.environ | {"DATABASE_URL": blank_url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "chatkeep", "migrate"]
    started = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate(timeout=60)[0] for process in started]
    assert [process.returncode for process in started] == [0] * 4
    assert sorted(text.split(" ")[0] for text in said) == ["migrated", "the", "the", "the"]


def test_concurrent_starts_on_empty_database_succeed(blank_url: str, tmp_path: Path) -> None:
    """Starts a server with three workers, which migrate at once: some seconds."""
    with Server("gunicorn", tmp_path, {"DATABASE_URL": blank_url, "WEB_CONCURRENCY": "3"}) as server:
        assert "Traceback" not in server.log()


def test_database_without_utf8mb4_is_refused(mariadb: MariaDB, tmp_path: Path) -> None:
    """Starts a process: about a second."""
    url = mariadb.create_database("utf8mb3")
    with pytest.raises(RuntimeError, match=r"utf8mb3, which cannot store emoji.*ALTER DATABASE"):
        Server("waitress", tmp_path, {"DATABASE_URL": url}).start()
    assert Database(url).read(lambda connection: connection.rows(Sql("SHOW TABLES"))) == []
