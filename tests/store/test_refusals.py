"""A statement that a database refuses fails alone, with its own problem."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pymysql
import pytest
from msgspec.structs import replace

from chatkeep.domain.conversation import Delta, Status
from chatkeep.errors import (
    DatabaseFull,
    DatabaseReadOnly,
    DatabaseRefused,
    DatabaseTimeout,
    OutcomeUnknown,
    StoreUnavailable,
)
from chatkeep.runtime.logs import named
from chatkeep.store import conversations, messages, mysql
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.sql import Append, Connection, Contention, Duplicate, Sql
from chatkeep.store.transaction import Transaction
from tests.http.api import eventually
from tests.store.examples import Recorder, a_conversation, stored_reply
from tests.store.test_journal import exists, held, insert

pytestmark = pytest.mark.everywhere

BAD = "the database takes anything but this"
_CONDITION = f"NEW.content LIKE '%{BAD}%'"
REFUSE_UPDATES = Sql(
    f"CREATE TRIGGER refuse BEFORE UPDATE ON messages WHEN {_CONDITION} BEGIN SELECT RAISE(ABORT, 'no'); END",
    mysql="CREATE TRIGGER refuse BEFORE UPDATE ON messages FOR EACH ROW"  # noqa: S608 - our own words
    f" IF {_CONDITION} THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'; END IF",
)
WRONG = Sql("UPDATE no_such_table SET secret = :value")


@pytest.fixture
def refusing(database: Database) -> Database:
    """A database that refuses to append one text."""
    database.read(lambda connection: connection.change(REFUSE_UPDATES))
    return database


def test_refused_write_says_that_nothing_was_stored(journal: Journal) -> None:
    with pytest.raises(DatabaseRefused) as refused:
        journal.write(lambda connection: connection.change(WRONG, value="a secret"))
    assert "Nothing was stored" in refused.value.detail
    told = named(refused.value)
    assert "UPDATE no_such_table SET secret" in told
    assert "a secret" not in told
    assert any(character.isdigit() for character in told)


def test_refused_read_does_not_mention_storage(database: Database) -> None:
    with pytest.raises(DatabaseRefused) as refused:
        database.read(lambda connection: connection.rows(Sql("SELECT no_such_column FROM messages")))
    assert "stored" not in refused.value.detail


def test_refused_change_fails_alone(database: Database, journal: Journal) -> None:
    before, after = a_conversation(), a_conversation()
    reply = stored_reply(journal)
    sink = Recorder(database, reply)

    def fail(connection: Transaction) -> None:
        conversations.insert(connection, before)
        connection.change(WRONG, value=1)

    with held(journal):
        journal.append(sink, Delta("text"))
        later = in_thread(lambda: insert(journal, after))
        refused = in_thread(lambda: journal.write(fail, retry_until_up=True))
    assert isinstance(refused(), DatabaseRefused)
    assert later() is None
    assert [exists(database, one) for one in (before, after)] == [False, True]
    assert eventually(lambda: sink.row().content == "text")


def in_thread(work: Any) -> Any:
    """Run work in a thread. Return a function that waits for it and returns its exception."""
    pool = ThreadPoolExecutor(1)
    done = pool.submit(work)
    pool.shutdown(wait=False)
    return lambda: done.exception(20)


def test_reply_with_refused_text_fails_alone(refusing: Database) -> None:
    with closing(Journal(refusing)) as journal:
        sinks = [Recorder(refusing, stored_reply(journal)) for _ in range(20)]
        made = a_conversation()
        with held(journal):
            for number, sink in enumerate(sinks):
                journal.append(sink, Delta(BAD if number == 7 else f"{number}"))
            stored = in_thread(lambda: insert(journal, made))
        assert stored() is None
        assert eventually(lambda: all(sink.shown for sink in sinks if sink is not sinks[7]))
        assert eventually(lambda: [type(one) for one in sinks[7].refusals]) == [DatabaseRefused]
        # Text after a gap is not stored.
        journal.append(sinks[7], Delta("and on"))
        journal.append(sinks[8], Delta(" and on"))
        assert eventually(lambda: sinks[8].row().content == "8 and on")
    assert exists(refusing, made)
    assert sinks[7].row().content == ""
    assert [len(sink.refusals) for sink in sinks] == [number == 7 for number in range(20)]


def test_end_of_reply_is_stored_after_refused_text(refusing: Database) -> None:
    with closing(Journal(refusing)) as journal:
        reply = stored_reply(journal)
        sink, seen = Recorder(refusing, reply), []

        def end(connection: Transaction) -> None:
            seen.append(len(sink.refusals))
            messages.finish(connection, replace(reply, status=Status.FAILED))

        with held(journal):
            journal.append(sink, Delta(BAD))
            ended = in_thread(lambda: journal.write(end, retry_until_up=True))
        assert ended() is None
    assert seen[-1] == 1  # the end is known by then
    assert sink.row().status is Status.FAILED


@pytest.fixture
def small_packets(database_url: str) -> Iterator[Database]:
    """A database on a server with a limit of 64 KiB per statement."""
    with small(database_url) as found:
        yield found


@contextmanager
def small(url: str) -> Iterator[Database]:
    database = Database(url)
    before = database.read(lambda connection: connection.rows(Sql("SELECT @@GLOBAL.max_allowed_packet")))[0][0]
    set_packet = Sql("SET GLOBAL max_allowed_packet = :size")
    database.read(lambda connection: connection.change(set_packet, size=65_536))
    database.close()
    fresh = Database(url)
    yield fresh
    fresh.read(lambda connection: connection.change(set_packet, size=before))
    fresh.close()


ON_SERVERS = pytest.mark.parametrize("database_url", ["mariadb", "mysql"], indirect=True)


@ON_SERVERS
def test_oversized_statement_is_refused_and_connection_kept(small_packets: Database) -> None:
    with closing(Journal(small_packets)) as journal:
        for text in ("x" * 70_000, "字" * 25_000, "'" * 40_000):
            with pytest.raises(DatabaseRefused) as refused:
                insert(journal, a_conversation(system=text))
            assert "1153" in named(refused.value)
        insert(journal, made := a_conversation(system="x" * 60_000))
    assert exists(small_packets, made)


@ON_SERVERS
def test_large_appends_are_split_into_statements(small_packets: Database) -> None:
    with closing(Journal(small_packets)) as journal:
        sinks = [Recorder(small_packets, stored_reply(journal)) for _ in range(30)]
        with held(journal):
            for sink in sinks:
                journal.append(sink, Delta("字" * 5_000))
        assert eventually(lambda: all(sink.shown for sink in sinks))
    assert {sink.row().content for sink in sinks} == {"字" * 5_000}
    assert not any(sink.refusals for sink in sinks)


@ON_SERVERS
def test_oversized_reply_keeps_shown_text(small_packets: Database) -> None:
    """CONCAT returns NULL then, which a non-strict server stores as an empty text."""
    with closing(Journal(small_packets)) as journal:
        sink = Recorder(small_packets, stored_reply(journal))
        for _ in range(8):
            shown = len(sink.shown)
            journal.append(sink, Delta("x" * 10_000))
            assert eventually(lambda: len(sink.shown) > shown or sink.refusals)  # noqa: B023 - called at once
            if sink.refusals:
                break
    assert [type(one) for one in sink.refusals] == [DatabaseRefused]
    assert sink.row().content == sink.text
    assert len(sink.text) >= 50_000


@ON_SERVERS
def test_truncating_server_refuses_text(database: Database) -> None:
    database.read(lambda connection: connection.change(Sql("SET GLOBAL sql_mode = ''")))
    try:
        lax = Database(database.url.render_as_string(hide_password=False))
        with closing(Journal(lax)) as journal, pytest.raises(DatabaseRefused):
            insert(journal, a_conversation(title="x" * 300))
        lax.close()
    finally:
        database.read(lambda connection: connection.change(Sql("SET GLOBAL sql_mode = DEFAULT")))


def test_append_repeated_in_parts_is_not_doubled(journal: Journal, database: Database) -> None:
    reply = stored_reply(journal)
    parts = [Append(reply.id, 0, Delta("one ")), Append(reply.id, 4, Delta("two"))]

    def append(connection: Connection) -> list[int]:
        return [connection.append([part]) for part in (*parts, *parts)]

    assert journal.write(append) == [1, 1, 0, 0]
    assert Recorder(database, reply).row().content == "one two"


# The server's error numbers

SAID = {
    Duplicate: [1062, 1586, 1022, 1216, 1452],
    Contention: [1213, 1020, 1412],
    DatabaseTimeout: [1317, 1969, 3024],
    DatabaseReadOnly: [1290, 1792, 1836],
    DatabaseFull: [1021, 1114],
    StoreUnavailable: [2002, 2003, 2006, 2013, 1040, 1045, 1047, 1053, 1203, 1205, 1927, 4031, 0],
    DatabaseRefused: [
        1048, 1054, 1064, 1118, 1142, 1146, 1153, 1301, 1364, 1366, 1406, 1665, 3750, 3819, 4025, 1030, 1,
    ],
}  # fmt: skip


@pytest.mark.parametrize(("number", "kind"), [(number, kind) for kind, numbers in SAID.items() for number in numbers])
def test_error_numbers_are_unique(number: int, kind: type[Exception]) -> None:
    found = mysql.translated(pymysql.OperationalError(number, "Incorrect value: 'a secret'"), "INSERT INTO x")
    assert type(found) is kind
    assert "a secret" not in named(found) or kind in {Duplicate, Contention}


def test_full_disk_is_detected_by_message() -> None:
    error = pymysql.OperationalError(1030, 'Got error 28 "No space left on device" from storage engine InnoDB')
    assert type(mysql.translated(error, "INSERT")) is DatabaseFull


def test_broken_connection_is_an_outage() -> None:
    for error in (pymysql.InternalError("Packet sequence number wrong"), TimeoutError(), pymysql.InterfaceError(0, "")):
        assert type(mysql.translated(error, "INSERT")) is StoreUnavailable


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (2013, OutcomeUnknown),  # no answer
        (1053, OutcomeUnknown),  # the answer of a server that shuts down
        (1317, OutcomeUnknown),
        (1180, OutcomeUnknown),
        (2006, StoreUnavailable),  # never sent
        (0, StoreUnavailable),
        (1213, Contention),
        (1290, DatabaseReadOnly),
        (1114, DatabaseFull),
        (1197, DatabaseRefused),
    ],
)
def test_only_unanswered_commit_has_unknown_outcome(number: int, kind: type[Exception]) -> None:
    assert type(mysql.uncommitted(pymysql.OperationalError(number, ""))) is kind
