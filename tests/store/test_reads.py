"""The database ends slow reads, and reads of one kind do not affect others."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from chatkeep.errors import DatabaseBusy, DatabaseTimeout, StoreUnavailable
from chatkeep.store import counters, mysql
from chatkeep.store.engine import SCANS, SHORT, Database, Kind
from chatkeep.store.journal import Journal
from chatkeep.store.sql import Connection, Sql
from chatkeep.store.sqlite import CHECKPOINT_PAGES
from tests.conftest import DATABASES
from tests.http.api import eventually

HURRIED = Kind(concurrency=1, waits=0.1, seconds=0.3, busy=DatabaseBusy)
UNHURRIED = Kind(concurrency=1, waits=0.1, seconds=60)
ENDLESS = Sql(
    "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers) SELECT MAX(n) FROM numbers",
    mysql="SELECT COUNT(*) FROM information_schema.collations a, information_schema.collations b,"
    " information_schema.collations c, information_schema.collations d, information_schema.collations e",
)
ONE = Sql("SELECT 1")
RUNNING = Sql("", mysql="SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT COUNT%'")
MARKS = Sql("SELECT name FROM marks UNION ALL SELECT name FROM marks")
PADDED = Sql("UPDATE marks SET value = value + 1")
ON_SERVERS = pytest.mark.parametrize("database_url", DATABASES[1:], indirect=True)
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def endless(connection: Connection) -> None:
    connection.rows(ENDLESS)


def one(connection: Connection) -> int:
    return int(connection.rows(ONE)[0][0])


def version(connection: Connection) -> str:
    return str(connection.rows(Sql("", mysql="SELECT VERSION()"))[0][0])


def running(database: Database) -> list[tuple[int]]:
    """Return the statements that a server is still running; [] for the embedded database."""
    return [] if database.embedded else database.read(lambda connection: connection.rows(RUNNING))


def test_database_ends_slow_read(database: Database) -> None:
    begun = time.monotonic()
    with pytest.raises(DatabaseTimeout):
        database.read_as(HURRIED, endless)
    assert time.monotonic() - begun < 3
    assert not running(database)
    assert database.read_as(HURRIED, one) == 1


@ON_SQLITE
def test_slow_read_of_short_statements_is_ended(database: Database) -> None:
    def read(connection: Connection) -> None:
        while time.monotonic() - begun < 10:
            one(connection)
            time.sleep(0.02)

    begun = time.monotonic()
    with pytest.raises(DatabaseTimeout):
        database.read_as(HURRIED, read)
    assert time.monotonic() - begun < 3
    assert database.read_as(HURRIED, one) == 1


def test_read_waits_only_for_connections_of_its_kind(database: Database) -> None:
    begun, over = threading.Event(), threading.Event()

    def read(_: Connection) -> None:
        begun.set()
        over.wait()

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(database.read_as, HURRIED, read)
        begun.wait()
        with pytest.raises(DatabaseBusy) as refused:
            database.read_as(HURRIED, one)
        assert refused.value.retry_after
        assert [one_of_others(database) for _ in range(3)] == [3, 3, 3]
        over.set()
        first.exception()
    assert database.read_as(HURRIED, one) == 1


def one_of_others(database: Database) -> int:
    return database.read(one) + database.read(one, long=True) + database.scan(one)


@ON_SERVERS
def test_server_ends_abandoned_statements(database: Database) -> None:
    def read(connection: Connection) -> None:
        connection.rows(Sql("", mysql=mysql.limit(version(connection), 0)))
        endless(connection)

    with pytest.raises(StoreUnavailable):
        database.read_as(HURRIED, read)
    assert eventually(lambda: not running(database))


@ON_SERVERS
@pytest.mark.parametrize("kind", [SHORT, SCANS])
def test_server_ends_statements_before_client_timeout(database: Database, kind: Kind) -> None:
    with database.connection(kind) as connection:
        limit = "@@max_statement_time" if "MariaDB" in version(connection) else "@@max_execution_time / 1000"
        assert float(connection.rows(Sql("", mysql=f"SELECT {limit}"))[0][0]) == kind.seconds
    assert mysql.connect_args(kind.seconds)["read_timeout"] > kind.seconds


@pytest.mark.parametrize(
    ("version", "statement"),
    [
        ("10.11.6-MariaDB-0+deb12u1", "SET SESSION max_statement_time = 4.5"),
        ("5.5.5-10.6.18-mariadb-log", "SET SESSION max_statement_time = 4.5"),
        ("8.4.2", "SET SESSION max_execution_time = 4500, information_schema_stats_expiry = 0"),
        ("9.7.4-debug", "SET SESSION max_execution_time = 4500, information_schema_stats_expiry = 0"),
    ],
)
def test_statement_limit_uses_server_syntax(version: str, statement: str) -> None:
    assert mysql.limit(version, 4.5) == statement


@ON_SQLITE
def test_emptying_log_does_not_block_writers(database: Database, journal: Journal) -> None:
    """Takes a second, for which a reader uses the log."""
    journal.write(lambda connection: counters.put(connection, "written", 1))
    with ThreadPoolExecutor(1) as pool, database.connection() as reader:
        with reader.stream(MARKS) as rows:
            next(rows)
            reclaiming = pool.submit(database.reclaim)
            took = [
                timed(lambda: journal.write(lambda connection: counters.put(connection, "written", 1)))
                for _ in range(20)
            ]
            assert not reclaiming.done()
        reclaiming.result(10)
    assert max(took) < 1
    assert Path(f"{database.url.database}-wal").stat().st_size == 0


@ON_SQLITE
def test_log_in_use_is_not_checkpointed_at_every_commit(database: Database) -> None:
    with closing(database.dedicated()) as writer, database.connection() as reader, reader.stream(MARKS) as rows:
        next(rows)
        log = database.log_of(writer)
        assert log is not None
        full = []
        for _ in range(3 * CHECKPOINT_PAGES):
            writer.change(PADDED)
            full.append(log.is_full)
            if log.is_full:
                log.checkpoint()
    assert 2 <= full.count(True) <= 4


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of some work."""
    time.sleep(0.05)
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


@pytest.mark.posix("gevent serves on Linux only")
def test_waiting_greenlets_do_not_block_the_loop(database: Database) -> None:
    """Takes two seconds: a separate process, because gevent patches everything."""
    url = database.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "tests.store.greenlet_reads", url]
    said = subprocess.run(command, check=True, timeout=30, capture_output=True, text=True).stdout.split()
    assert said[:2] == ["ended", "killed"]
    assert float(said[2]) < 1
