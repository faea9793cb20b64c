"""gunicorn's master migrates the database before workers boot, and a worker restarts on a newer schema."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from chatkeep.store import migrations
from chatkeep.store.engine import CHANGES_OF_SCHEMA, Database
from chatkeep.store.migrations import running
from tests.conftest import migrated
from tests.http.api import Api, eventually
from tests.servers import Server, thrown_away

pytestmark = pytest.mark.posix("there is no gunicorn on Windows")


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a SQLite file with an older schema."""
    url = f"sqlite:///{tmp_path}/db"
    with closing(Database(url)) as database:
        running.run(database, None, print, to="0010")
    return url


@pytest.fixture
def holder(url: str) -> Iterator[apsw.Connection]:
    """A connection of another process that holds the write lock."""
    with closing(apsw.Connection(url.removeprefix("sqlite:///"))) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


@pytest.fixture
def waiting(url: str, holder: apsw.Connection, tmp_path: Path) -> Iterator[Server]:
    """gunicorn that waits for the lock to migrate."""
    assert holder.in_transaction
    server = Server("gunicorn", tmp_path, {"DATABASE_URL": url})
    with ThreadPoolExecutor(1) as starting:
        starting.submit(server.start)
        eventually(lambda: "Starting gunicorn" in server.log())
        time.sleep(1)  # workers would boot in a few hundredths of a second
        yield server
        server.kill()


def test_gunicorn_migrates_before_workers_boot(waiting: Server, holder: apsw.Connection) -> None:
    """Waits a second for a boot that must not happen."""
    assert "Listening" not in waiting.log()
    assert "Booting" not in waiting.log()
    holder.execute("COMMIT")
    eventually(lambda: "Booting" in waiting.log())
    with closing(Database(waiting.env["DATABASE_URL"])) as database:
        assert migrations.schema_of(database).revision == migrations.HEAD


def test_gunicorn_can_be_stopped_before_the_database_is_ready(waiting: Server) -> None:
    """As above: a second. No process is left."""
    assert waiting.stop() == 128 + signal.SIGTERM


def test_a_worker_restarts_after_a_newer_version_migrated(tmp_path: Path) -> None:
    """Starts a server: two seconds."""
    url = migrated(f"sqlite:///{tmp_path}/db")
    with thrown_away(Server("gunicorn", tmp_path, {"DATABASE_URL": url, "WEB_CONCURRENCY": "1"})) as server:
        with closing(Database(url)) as database, database.engine_for(CHANGES_OF_SCHEMA).begin() as connection:
            connection.exec_driver_sql("ALTER TABLE messages ADD COLUMN news TEXT")
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0012'")
        [pid] = server.worker_pids()
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: server.worker_pids() not in ([pid], []))
        assert Api(server).chat("hello")["reply"]
