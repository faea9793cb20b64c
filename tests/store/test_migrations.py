"""The schema's steps lead to the schema, once, and only where nobody has to decide."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from chatkeep.errors import SettingsError
from chatkeep.spending import Spender, Used
from chatkeep.store import conversations, holdings, imports, messages, migrations, usage
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.schema import metadata
from chatkeep.store.sql import Connection, Sql
from tests.conftest import DATABASES, blank_database, empty_database, migrated
from tests.servers import ROOT, Server
from tests.store.examples import a_conversation, a_message

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
    folder = Path(migrations.__file__).parent
    assert ScriptDirectory(str(folder)).get_current_head() == migrations.HEAD


def test_migrating_again_does_nothing(database: Database) -> None:
    assert migrations.migrate(database) == (migrations.HEAD, migrations.HEAD)


def test_a_database_with_data_keeps_it(blank: Database) -> None:
    """From the schema before the last: what is there stays, and is found by the new indexes."""
    upgrade(blank, "0010")
    made = a_conversation(message_count=2)
    said = [a_message(made, timestamp=number, content=f"{number}") for number in (1, 2)]
    with closing(Journal(blank)) as journal:

        def fill(connection: Connection) -> None:
            conversations.insert(connection, made)
            imports.add(connection, said, {said[1].id})
            usage.add(connection, {Spender("local", 7, "me", bytes(16), "a model"): Used(3)})

        journal.write(fill)
        assert migrations.migrate(blank) == ("0010", migrations.HEAD)
        assert blank.read(lambda c: messages.siblings(c, made.id, [said[1]])) == {said[1].id: [said[0].id, said[1].id]}
        assert blank.read(lambda c: usage.of_owner(c, "me", usage.Place(), 9))[0][3] == 3
        journal.write(lambda c: holdings.hold(c, ["me"]))
        assert blank.read(lambda c: holdings.drift(c, "me")) == holdings.Stored(2, 2)


def upgrade(database: Database, revision: str) -> None:
    """Bring an empty database to an earlier schema."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def test_an_empty_database_is_made_ready(blank: Database) -> None:
    migrations.ensure(blank)
    assert migrations.revision(blank) == migrations.HEAD


def test_an_outdated_server_database_waits_for_somebody_to_decide(mariadb_url: str) -> None:
    database = Database(mariadb_url)
    migrations.migrate(database)
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(SettingsError, match=rf"schema 0000, this version needs {migrations.HEAD}.*chatkeep migrate"):
        migrations.ensure(database)
    database.close()


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
