"""Each change is stamped with its epoch, and a closed epoch gets no more changes."""

from __future__ import annotations

import re
import threading

import pytest

from chatkeep.domain.conversation import Role, new_id, now_us
from chatkeep.errors import DatabaseRefused
from chatkeep.store import conversations, counters, epochs, messages
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.sql import Connection, Sql
from chatkeep.store.transaction import Transaction
from tests.conftest import DATABASES
from tests.store.examples import a_conversation, a_message, stored_reply

pytestmark = pytest.mark.everywhere

CHANGES = re.compile(r"(INSERT INTO|UPDATE) (conversations|messages)\b")


@pytest.mark.parametrize("module", [conversations, messages], ids=lambda module: module.__name__)
def test_every_changing_statement_stamps_the_epoch(module: object) -> None:
    statements = [value.sqlite for value in vars(module).values() if isinstance(value, Sql)]
    changing = [text for text in statements if CHANGES.match(text)]
    assert len(changing) >= 3
    assert [text for text in changing if ":epoch" not in text] == []


def test_closing_increments_and_returns_closed_epoch(database: Database, journal: Journal) -> None:
    first = journal.write(epochs.hold)
    assert [epochs.close(database), epochs.close(database)] == [first, first + 1]
    assert journal.write(epochs.hold) == first + 2


def test_changed_reply_stamps_its_conversation(database: Database, journal: Journal) -> None:
    """Also if the wall clock went back, so that the activity is unchanged."""
    reply = stored_reply(journal)
    closed = epochs.close(database)
    journal.write(lambda connection: conversations.touch(connection, reply.conversation_id, now=1))
    assert stamp(database, "conversations", "id", reply.conversation_id.bytes) == closed + 1


@pytest.mark.parametrize("subjects", [(), ("me",)], ids=["unlimited", "limited"])
def test_open_transaction_keeps_epoch_open(database: Database, journal: Journal, subjects: tuple[str, ...]) -> None:
    """A row written before the epoch closes and committed afterwards would be in no increment."""
    holds, may_commit, closed = threading.Event(), threading.Event(), list[int]()
    made = a_conversation()

    def insert(connection: Transaction) -> None:
        holds.set()
        may_commit.wait(10)
        conversations.insert(connection, made)
        messages.insert(connection, a_message(made, role=Role.USER))

    writer = threading.Thread(target=journal.write, args=(insert,), kwargs={"subjects": subjects})
    closer = threading.Thread(target=lambda: closed.append(epochs.close(database)))
    writer.start()
    holds.wait(10)
    closer.start()
    closer.join(0.2)
    assert not closed
    may_commit.set()
    writer.join()
    closer.join()
    assert stamp(database, "conversations", "id", made.id.bytes) <= closed[0]


def test_paused_close_blocks_no_writer(database: Database, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []

    def paused(connection: Connection) -> int:
        held.append(journal.write(epochs.hold))
        return counters.get(connection, "epoch")

    monkeypatch.setattr(epochs, "current", paused)
    closed = epochs.close(database)
    assert held == [closed + 1]


@pytest.mark.parametrize("database_url", DATABASES[1:], indirect=True)
def test_writers_do_not_wait_for_each_other(database: Database, journal: Journal) -> None:
    other = Journal(database)
    assert journal.write(lambda _: other.write(epochs.hold)) >= 1
    other.close()


def test_write_without_epoch_is_refused(database: Database) -> None:
    with database.connection() as connection:
        with pytest.raises(DatabaseRefused) as refused:
            conversations.insert(Transaction(connection), a_conversation(id=new_id(), created_at=now_us()))
        assert "epoch" in str(refused.value.__cause__)


def stamp(database: Database, table: str, column: str, id: bytes) -> int:
    """Return the epoch of a row."""
    found = Sql(f"SELECT epoch FROM {table} WHERE {column} = :id")  # noqa: S608 - the test's own words
    return int(database.read(lambda connection: connection.rows(found, id=id))[0][0])
