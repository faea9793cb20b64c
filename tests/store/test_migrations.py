"""The schema's steps lead to the schema, once, and only where nobody has to decide."""

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


def test_the_steps_lead_to_the_schema(blank: Database) -> None:
    assert migrations.migrate(blank) == (None, migrations.HEAD)
    with blank.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


@pytest.mark.parametrize("kind", DATABASES)
def test_the_databases_of_other_tests_are_like_those_that_were_migrated(
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
    # MySQL names a column's character set beside its collation if the statement did that made the table.
    return [text.replace("CHARACTER SET utf8mb4 ", "") for text in shown]


def test_head_is_the_last_step() -> None:
    assert running.steps()[-1].revision == migrations.HEAD


def test_migrating_again_does_nothing(database: Database) -> None:
    assert migrations.migrate(database) == (migrations.HEAD, migrations.HEAD)


def test_a_database_with_data_keeps_it(blank: Database) -> None:
    """From the schema before the last: what is there stays, and is found by the new indexes."""
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
        assert blank.read(lambda c: usage.of_owner(c, "me", usage.Place(), 9))[0][3] == 3
        journal.write(lambda c: holdings.hold(c, ["me"]))
        assert blank.read(lambda c: holdings.drift(c, "me")) == holdings.Stored(2, 2)


def test_an_empty_database_is_made_ready(blank: Database) -> None:
    migrations.ensure(blank)
    assert migrations.schema_of(blank).revision == migrations.HEAD


def test_an_outdated_server_database_waits_for_somebody_to_decide(mariadb_url: str) -> None:
    database = Database(mariadb_url)
    migrations.migrate(database)
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(SettingsError, match=rf"schema 0000, this version needs {migrations.HEAD}.*chatkeep migrate"):
        migrations.ensure(database)
    database.close()


@pytest.mark.parametrize("before", [step.revision for step in running.steps()[:-1]])
def test_a_step_that_was_made_in_part_is_completed(database_url: str, before: str) -> None:
    """Everything of every later step is there already, as after a kill just before the revision was written."""
    database = Database(database_url)
    expected = described(database)
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :before"), {"before": before})
    assert migrations.migrate(database) == (before, migrations.HEAD)
    assert described(database) == expected
    database.close()


def test_a_first_migration_that_was_killed_is_completed(blank: Database, blank_url: str) -> None:
    """The tables of some steps are there, and no revision is."""
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
def test_a_newer_schema_is_served_if_the_database_says_so(
    database: Database, mark: int | None, *, serves: bool
) -> None:
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
def test_databases_of_one_server_are_migrated_at_once(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    """A lock of a server has its name for all databases."""
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


def test_a_change_lets_others_go_on_while_a_transaction_has_its_table(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A transaction as of a dump, for longer than a change waits for it: seven seconds."""
    database = Database(blank_database(request, "mysql", tmp_path_factory))
    running.run(database, None, print, to="0010")
    told: list[str] = []
    with database.engine_for(CHANGES_OF_SCHEMA).connect() as dump:
        dump.exec_driver_sql("START TRANSACTION")
        dump.exec_driver_sql("SELECT * FROM messages")
        migrating = threading.Thread(target=migrations.migrate, args=(database, told.append))
        migrating.start()
        time.sleep(0.5)
        for _ in range(2):  # the first may wait for as long as the change does
            assert database.read(lambda c: c.rows(Sql("SELECT COUNT(*) FROM messages"))) == [(0,)]
        migrating.join(1)
        assert migrating.is_alive()
        dump.rollback()
    migrating.join(10)
    assert "Waiting for a transaction that uses the table messages." in told
    assert migrations.schema_of(database).revision == migrations.HEAD


def test_a_ready_database_is_read_while_another_process_writes(tmp_path: Path) -> None:
    url = migrated(f"sqlite:///{tmp_path}/db")
    holder = apsw.Connection(str(tmp_path / "db"))
    holder.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    migrations.existing(url, reads_only=True).close()
    assert time.monotonic() - began < sqlite.BUSY_MS / 1000


def test_a_change_that_the_database_refuses_is_told_with_its_reason(blank: Database) -> None:
    """Another program has a table of that name."""
    with blank.engine_for(CHANGES_OF_SCHEMA).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE conversations (id INTEGER)")
    for _ in range(2):
        with pytest.raises(SettingsError, match=r"the migration stopped: .*created_at.*run again: chatkeep migrate"):
            migrations.ensure(blank)


@pytest.mark.parametrize("kind", DATABASES[1:])
def test_a_table_that_the_server_only_changes_with_a_lock_is_changed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    """An operator's own FULLTEXT index is a reason for that."""
    database = Database(blank_database(request, kind, tmp_path_factory))
    running.run(database, None, print, to="0009")
    with database.engine_for(CHANGES_OF_SCHEMA).begin() as connection:
        connection.exec_driver_sql("CREATE FULLTEXT INDEX own ON messages (content)")
    told: list[str] = []
    assert migrations.migrate(database, told.append) == ("0009", migrations.HEAD)
    assert "only with a lock" in told[1], told
    database.close()


def test_what_takes_long_is_told_beforehand_and_amid_it(tmp_path: Path) -> None:
    """Fills a table with as many rows as that takes: about a second."""
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


def test_processes_that_migrate_at_once_migrate_once(blank_url: str) -> None:
    """Starts four processes: two seconds."""
    env = os.environ | {"DATABASE_URL": blank_url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "chatkeep", "migrate"]
    started = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate(timeout=60)[0] for process in started]
    assert [process.returncode for process in started] == [0] * 4
    assert sorted(text.split(" ")[0] for text in said) == ["migrated", "the", "the", "the"]


def test_servers_that_start_at_once_on_an_empty_database_start(blank_url: str, tmp_path: Path) -> None:
    """Starts a server with three workers, which migrate at once: some seconds."""
    with Server("gunicorn", tmp_path, {"DATABASE_URL": blank_url, "WEB_CONCURRENCY": "3"}) as server:
        assert "Traceback" not in server.log()


def test_a_database_that_cannot_store_emoji_is_refused(mariadb: MariaDB, tmp_path: Path) -> None:
    """Starts a process: about a second."""
    url = mariadb.create_database("utf8mb3")
    with pytest.raises(RuntimeError, match=r"utf8mb3, which cannot store emoji.*ALTER DATABASE"):
        Server("waitress", tmp_path, {"DATABASE_URL": url}).start()
    assert Database(url).read(lambda connection: connection.rows(Sql("SHOW TABLES"))) == []
