"""The journal: acknowledged writes are durable, shown deltas are committed, and failures are isolated."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from chatkeep.domain.conversation import Conversation, Delta, Status, new_id, now_us
from chatkeep.errors import OutcomeUnknown, ServerStopping, StoreUnavailable
from chatkeep.store import conversations, leases, messages, migrations
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.leases import Lease
from chatkeep.store.messages import Progress
from chatkeep.store.sql import Append, Connection, Duplicate, Sql
from chatkeep.store.transaction import Transaction
from tests.conftest import DATABASES
from tests.http.api import eventually
from tests.store.examples import Doubter, Recorder, a_conversation, stored_reply
from tests.store.proxy import Proxy

if TYPE_CHECKING:
    from tests.services.mariadb import MariaDB


def insert(journal: Journal, conversation: Conversation, *, retry_until_up: bool = False) -> None:
    journal.write(lambda connection: conversations.insert(connection, conversation), retry_until_up=retry_until_up)


def exists(database: Database, conversation: Conversation) -> bool:
    return database.read(lambda connection: conversations.get(connection, "me", conversation.id, now_us())) is not None


def test_acknowledged_writes_are_stored(database: Database, journal: Journal) -> None:
    made = a_conversation(metadata={"a": ["ü", None, 1.5]})
    insert(journal, made)
    assert database.read(lambda connection: conversations.get(connection, "me", made.id, now_us())) == made


def test_deltas_are_shown_after_commit(database: Database, journal: Journal) -> None:
    sink = Doubter(database, stored_reply(journal))
    pieces = [f"{number} 😀\0" for number in range(200)]
    for piece in pieces:
        journal.append(sink, Delta(piece))
    assert eventually(lambda: sink.text == "".join(pieces))
    assert sink.lies == []


def test_text_and_reasoning_are_appended_separately(database: Database, journal: Journal) -> None:
    sinks = [Recorder(database, stored_reply(journal)) for _ in range(20)]
    for sink in sinks:
        journal.append(sink, Delta("", "why "))
        journal.append(sink, Delta(f"text of {sink.id}", "not"))
    assert eventually(lambda: all(sink.written > 40 for sink in sinks))
    assert [(sink.row().content, sink.row().reasoning) for sink in sinks] == [
        (f"text of {sink.id}", "why not") for sink in sinks
    ]


def test_failed_change_rolls_back_only_itself(database: Database, journal: Journal) -> None:
    made = [a_conversation() for _ in range(30)]
    sink = Recorder(database, stored_reply(journal))

    def write(connection: Transaction, number: int) -> None:
        conversations.insert(connection, made[number])
        if number % 3 == 0:
            raise LookupError(number)

    def attempt(number: int) -> bool:
        journal.append(sink, Delta(f"{number} "))
        if number % 3:
            journal.write(lambda connection: write(connection, number))
        else:
            with pytest.raises(LookupError, match=f"^{number}$"):
                journal.write(lambda connection: write(connection, number))
        return number % 3 != 0

    with held(journal), ThreadPoolExecutor(30) as pool:
        kept = pool.map(attempt, range(30))
    assert [exists(database, conversation) for conversation in made] == list(kept)
    assert sorted(sink.row().content.split(), key=int) == [str(number) for number in range(30)]


@contextmanager
def held(journal: Journal) -> Iterator[None]:
    """Keep the journal busy until the block ends, so that writes are batched."""
    release = threading.Event()
    holding = threading.Thread(target=journal.write, args=(lambda _connection: release.wait(0.3),))
    holding.start()
    yield
    release.set()
    holding.join()


def test_change_failing_before_writes_fails_alone(journal: Journal) -> None:
    def fail(_connection: Connection) -> None:
        raise LookupError("nothing")

    with pytest.raises(LookupError, match="nothing"):
        journal.write(fail)
    assert journal.write(lambda _connection: 5) == 5


def test_caught_duplicate_changes_nothing(database: Database, journal: Journal) -> None:
    made, reply, worker = a_conversation(), new_id(), new_id()

    def write(connection: Transaction) -> None:
        conversations.insert(connection, made)
        leases.acquire(connection, Lease(made.id, reply, worker, stop=False))
        with pytest.raises(Duplicate):
            leases.acquire(connection, Lease(made.id, new_id(), worker, stop=False))
        conversations.update(connection, replace(made, title="went on"))

    journal.write(write)
    found = database.read(lambda connection: conversations.get(connection, "me", made.id, now_us()))
    lease = database.read(lambda connection: leases.of_conversation(connection, made.id))
    assert found == replace(made, title="went on")
    assert lease == leases.Lease(made.id, reply, worker, stop=False)


def test_final_reply_accepts_no_text(database: Database, journal: Journal) -> None:
    reply = stored_reply(journal)
    sink = Recorder(database, reply)
    journal.write(lambda connection: messages.finish(connection, replace(reply, status=Status.COMPLETED)))
    journal.append(sink, Delta("late"))
    assert eventually(lambda: sink.losses) == [Progress(Status.COMPLETED, 0)]
    assert (sink.shown, sink.row().content) == ([], "")


def test_reply_of_deleted_conversation_accepts_no_text(database: Database, journal: Journal) -> None:
    reply = stored_reply(journal)
    sink, other = Recorder(database, reply), Recorder(database, stored_reply(journal))
    journal.write(lambda connection: conversations.delete(connection, "me", reply.conversation_id, now_us()))
    with held(journal):
        journal.append(sink, Delta("late"))
        journal.append(other, Delta("in time"))
    assert eventually(lambda: sink.losses and other.shown) == ["in time"]
    assert sink.losses == [None]


def test_repeated_append_is_not_doubled(database: Database, journal: Journal) -> None:
    reply = stored_reply(journal)

    def append(connection: Connection) -> list[int]:
        return [connection.append([Append(reply.id, 0, Delta("once"))]) for _ in range(2)]

    assert journal.write(append) == [1, 0]
    assert Recorder(database, reply).row().content == "once"


def test_closing_stores_pending_writes(database: Database) -> None:
    journal = Journal(database)
    sink = Recorder(database, stored_reply(journal))
    for _ in range(100):
        journal.append(sink, Delta("x"))
    journal.close()
    assert sink.row().content == "x" * 100
    with pytest.raises(ServerStopping):
        journal.write(lambda _connection: None)


class Faulty(Recorder):
    """A sink that raises an error."""

    def committed(self, delta: Delta) -> None:
        raise LookupError(delta.text)


def test_failing_callback_stops_nothing(database: Database, journal: Journal) -> None:
    sink, other = Faulty(database, stored_reply(journal)), Recorder(database, stored_reply(journal))
    with held(journal):
        journal.append(sink, Delta("text"))
        with ThreadPoolExecutor(1) as pool:
            pool.submit(insert, journal, made := a_conversation()).result(10)
    journal.append(other, Delta("more"))
    assert eventually(lambda: other.shown) == ["more"]
    assert exists(database, made)


# Concurrent writers


def test_two_processes_lose_no_update(database: Database, journal: Journal) -> None:
    made = a_conversation()
    insert(journal, made)

    def count(connection: Transaction) -> None:
        found = conversations.lock(connection, "me", made.id, now_us())
        assert found
        conversations.update(connection, replace(found, message_count=found.message_count + 1))

    with closing(Journal(database)) as other, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: (journal, other)[number % 2].write(count), range(200)))
    found = database.read(lambda connection: conversations.get(connection, "me", made.id, now_us()))
    assert found == replace(made, message_count=200)


@pytest.mark.parametrize("database_url", DATABASES[1:], indirect=True)
def test_deadlock_is_retried(database: Database) -> None:
    one, two, runs, meeting = a_conversation(), a_conversation(), [], threading.Barrier(2, timeout=10)

    def rename(connection: Transaction, *order: Conversation) -> None:
        runs.append(order)
        conversations.update(connection, replace(order[0], title=order[0].title + "!"))
        if len(runs) <= 2:
            meeting.wait()
        conversations.update(connection, replace(order[1], title=order[1].title + "!"))

    with closing(Journal(database)) as journal, closing(Journal(database)) as other, ThreadPoolExecutor(2) as pool:
        insert(journal, one)
        insert(journal, two)
        done = [pool.submit(journal.write, lambda connection: rename(connection, one, two))]
        done += [pool.submit(other.write, lambda connection: rename(connection, two, one))]
        assert [result.result(20) for result in done] == [None, None]
    assert len(runs) == 3


@pytest.fixture
def hurried(tmp_path: Path) -> Iterator[Database]:
    """An SQLite database whose connections wait only half a second for a lock."""
    database = Database(f"sqlite:///{(tmp_path / 'x.sqlite3').as_posix()}")
    sa.event.listen(database.engine, "connect", lambda connection, _: connection.raw.set_busy_timeout(500))
    migrations.migrate(database)
    yield database
    database.close()


def test_short_lock_is_waited_for(hurried: Database) -> None:
    with closing(Journal(hurried)) as journal, hurried.connection() as other:
        other.begin()
        threading.Timer(0.1, other.commit).start()
        insert(journal, made := a_conversation())
    assert exists(hurried, made)


def test_endless_lock_is_not_waited_for(hurried: Database) -> None:
    with closing(Journal(hurried)) as journal, hurried.connection() as other:
        other.begin()
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable):
            insert(journal, made := a_conversation())
        assert time.monotonic() - begun < 3
        other.commit()
        insert(journal, made)
    assert exists(hurried, made)


def test_inline_work_waits_for_locks(hurried: Database) -> None:
    with closing(Journal(hurried)) as journal, hurried.connection() as other:
        other.begin()
        threading.Timer(0.1, other.commit).start()
        made = a_conversation()
        journal.write(lambda connection: conversations.insert(connection, made), inline=True)
    assert exists(hurried, made)


def test_write_ahead_log_is_bounded(hurried: Database) -> None:
    """Writes 60 MB, ten times the size of a checkpoint."""
    with closing(Journal(hurried)) as journal:
        for _ in range(60):
            insert(journal, a_conversation(system="x" * 1_000_000))
        log = Path(f"{hurried.url.database}-wal").stat().st_size
    assert log < 10_000_000


# Lost answers


@pytest.fixture
def proxy(mariadb: MariaDB) -> Iterator[Proxy]:
    with Proxy(mariadb.port) as running:
        yield running


@pytest.fixture
def proxied(mariadb_url: str, proxy: Proxy) -> Iterator[Database]:
    """A MariaDB behind the proxy."""
    url = sa.make_url(mariadb_url).set(port=proxy.port).render_as_string(hide_password=False)
    database = Database(url)
    migrations.migrate(database)
    yield database
    database.close()


def test_append_of_unknown_outcome_is_not_doubled(proxied: Database, proxy: Proxy) -> None:
    with closing(Journal(proxied)) as journal:
        sink = Recorder(proxied, stored_reply(journal))
        proxy.lose_a_commit()
        journal.append(sink, Delta("once "))
        assert eventually(lambda: sink.shown) == ["once "]
        journal.append(sink, Delta("and on"))
        assert eventually(lambda: sink.row().content == "once and on")
    assert (proxy.losses, sink.losses) == (1, [])


def test_write_of_unknown_outcome_is_not_acknowledged(proxied: Database, proxy: Proxy) -> None:
    with closing(Journal(proxied)) as journal:
        proxy.lose_a_commit()
        with pytest.raises(OutcomeUnknown):
            insert(journal, made := a_conversation())
    assert proxy.losses == 1
    assert eventually(lambda: exists(proxied, made))


def test_writes_outside_unknown_transaction_are_known_unstored(proxied: Database, proxy: Proxy) -> None:
    made, other, goes_on = a_conversation(), a_conversation(), threading.Event()

    def write(connection: Transaction) -> None:
        conversations.insert(connection, made)
        goes_on.wait(5)

    with closing(Journal(proxied)) as journal, ThreadPoolExecutor(2) as pool:
        insert(journal, a_conversation())
        proxy.lose_a_commit()
        waiting = pool.submit(journal.write, write)
        time.sleep(0.2)
        behind = pool.submit(insert, journal, other)
        time.sleep(0.2)
        goes_on.set()
        assert type(waiting.exception(10)) is OutcomeUnknown
        told = behind.exception(10)
        assert type(told) is StoreUnavailable
        assert "Nothing was stored" in str(told)
    assert not exists(proxied, other)


def test_retried_work_of_unknown_outcome_is_repeated(proxied: Database, proxy: Proxy) -> None:
    with closing(Journal(proxied)) as journal:
        reply = stored_reply(journal)
        done: list[UUID] = []

        def finish(connection: Transaction) -> None:
            messages.finish(connection, replace(reply, status=Status.STOPPED))
            done.append(reply.id)

        proxy.lose_a_commit()
        journal.write(finish, retry_until_up=True)
    assert (proxy.losses, len(done)) == (1, 2)
    assert Recorder(proxied, reply).row().status is Status.STOPPED


def test_proxy_forwards_traffic(proxied: Database) -> None:
    assert proxied.read(lambda connection: connection.rows(Sql("SELECT 'x'"))) == [("x",)]
