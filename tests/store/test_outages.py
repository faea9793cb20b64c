"""A database outage: requests fail, and writes that must not be lost succeed later."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from chatkeep.domain.conversation import Delta, Status
from chatkeep.errors import StoreUnavailable
from chatkeep.store import counters, messages, migrations, mysql
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.sql import Connection, Sql
from tests.conftest import DATABASES, throwaway
from tests.http.api import eventually, soon
from tests.store.examples import Recorder, a_conversation, stored_reply
from tests.store.test_journal import exists, insert

if sys.platform != "win32":
    import resource

if TYPE_CHECKING:
    from tests.services.database_server import DatabaseServer


pytestmark = pytest.mark.posix("Windows has no limit on the size of files")
ON_SERVERS = pytest.mark.parametrize("database_url", DATABASES[1:], indirect=True)


@dataclass
class Fragile:
    """A database, and a context in which it can't be written."""

    database: Database
    away: Callable[[], AbstractContextManager[None]]


@pytest.fixture(params=DATABASES)
def fragile(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fragile]:
    """A database of each kind for one test alone."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            database, away = Database(f"sqlite:///{tmp_path / 'x.sqlite3'}"), no_room
        else:
            server = stack.enter_context(throwaway(request.param))
            database, away = Database(server.create_database()), lambda: killed(server)
        migrations.migrate(database)
        yield Fragile(database, away)
        database.close()


@contextmanager
def no_room() -> Iterator[None]:
    """Let no file of this process grow, like a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def killed(server: DatabaseServer) -> Iterator[None]:
    server.kill()
    try:
        yield
    finally:
        server.start()


def test_requests_fail_during_outage_and_recover(fragile: Fragile) -> None:
    """Kills and starts a database: some seconds."""
    before, during, after = (a_conversation() for _ in range(3))
    with closing(Journal(fragile.database)) as journal:
        insert(journal, before)
        with fragile.away():
            begun = time.monotonic()
            with pytest.raises(StoreUnavailable) as refused:
                insert(journal, during)
            assert time.monotonic() - begun < 3
            assert refused.value.retry_after
        insert(journal, after)
    assert [exists(fragile.database, one) for one in (before, during, after)] == [True, False, True]


def test_retried_writes_wait_for_the_database(fragile: Fragile) -> None:
    """Kills and starts a database: some seconds."""
    with closing(Journal(fragile.database)) as journal, ThreadPoolExecutor(1) as pool:
        reply = stored_reply(journal)
        sink = Recorder(fragile.database, reply)
        journal.append(sink, Delta("before, "))
        assert eventually(lambda: sink.shown)
        with fragile.away():
            journal.append(sink, Delta("during, "))
            waiting = pool.submit(insert, journal, made := a_conversation(), retry_until_up=True)
            with pytest.raises(TimeoutError):
                waiting.result(0.3)
            journal.append(sink, Delta("and after"))
            assert sink.shown == ["before, "]
        back = time.monotonic()
        waiting.result(10)
        assert eventually(lambda: sink.row().content == "before, during, and after")
        assert time.monotonic() - back < 5
    assert exists(fragile.database, made)
    assert (sink.losses, sink.text) == ([], "before, during, and after")


def test_all_replies_are_complete_after_outage(fragile: Fragile) -> None:
    """Kills and starts a database: some seconds."""
    with closing(Journal(fragile.database)) as journal:
        sinks = [Recorder(fragile.database, stored_reply(journal)) for _ in range(20)]
        going = threading.Event()

        def write(sink: Recorder) -> None:
            for number in range(50):
                journal.append(sink, Delta(f"{number} "))
                going.set()
                time.sleep(0.005)  # like a provider

        with ThreadPoolExecutor(20) as pool:
            writing = pool.map(write, sinks)
            assert going.wait(5)
            with fragile.away():
                time.sleep(0.1)  # so that writes are pending
            list(writing)
        whole = "".join(f"{number} " for number in range(50))
        assert eventually(lambda: all(sink.text == whole for sink in sinks))
        assert {sink.row().content for sink in sinks} == {whole}


def test_end_of_reply_is_stored_after_outage(fragile: Fragile) -> None:
    """Kills and starts a database: some seconds."""
    with closing(Journal(fragile.database)) as journal, ThreadPoolExecutor(1) as pool:
        reply = replace(stored_reply(journal), status=Status.COMPLETED, finish_reason="stop")
        with fragile.away():
            done = pool.submit(
                journal.write, lambda connection: messages.finish(connection, reply), retry_until_up=True
            )
            with pytest.raises(TimeoutError):
                done.result(0.2)
        done.result(10)
    assert Recorder(fragile.database, reply).row() == reply


def ping(database: Database) -> None:
    database.read(lambda connection: connection.rows(Sql("SELECT 1")))


def refused(database: Database) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as found:
        ping(database)
    return found.value


def test_reads_fail_during_outage(own_server: DatabaseServer) -> None:
    """Kills a database: a second."""
    database = Database(own_server.create_database())
    ping(database)
    with killed(own_server):
        assert soon(1, lambda: refused(database)).retry_after == 2
    ping(database)
    database.close()


@ON_SERVERS
def test_paused_transaction_does_not_block_others(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits a second, until the server ends the transaction."""
    monkeypatch.setattr(mysql, "IDLE_S", 1)
    holds, goes_on = threading.Event(), threading.Event()

    def pause(connection: Connection) -> None:
        counters.put(connection, "written", 1)
        holds.set()
        goes_on.wait(10)

    with closing(Journal(database)) as pausing, closing(Journal(database)) as other, ThreadPoolExecutor(1) as pool:
        paused = pool.submit(pausing.write, pause)
        assert holds.wait(5)
        other.write(lambda connection: counters.put(connection, "written", 2))
        goes_on.set()
        with pytest.raises(StoreUnavailable):
            paused.result(10)
        pausing.write(lambda connection: counters.put(connection, "paused", 3))
    assert database.read(lambda connection: counters.get(connection, "written")) == 2


@ON_SERVERS
def test_idle_journal_writes(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for more than a second, after which the server ends the session."""
    monkeypatch.setattr(mysql, "IDLE_S", 1)
    with closing(Journal(database)) as journal:
        for number in range(2):
            journal.write(lambda connection: counters.put(connection, "written", number))  # noqa: B023
            time.sleep(1.5)
        journal.write(lambda connection: counters.put(connection, "written", 7))
    assert database.read(lambda connection: counters.get(connection, "written")) == 7
