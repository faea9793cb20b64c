"""Single flight: one running reply leads each question; concurrent equal questions wait for its lease."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from chatkeep.domain.conversation import Conversation, new_id
from chatkeep.store import conversations, epochs, leases
from chatkeep.store.engine import Database
from chatkeep.store.leases import Lease
from chatkeep.store.sql import DriverConnection
from chatkeep.store.transaction import Transaction
from tests.conftest import DATABASES
from tests.store.examples import a_conversation

pytestmark = pytest.mark.everywhere

QUESTION = b"?" * 32


def ask(connection: DriverConnection, conversation: Conversation) -> Lease | None:
    """Ask in a transaction that stays open."""
    connection.begin()
    transaction = Transaction(connection, epochs.hold(connection))
    conversations.insert(transaction, conversation)
    leases.acquire(transaction, Lease(conversation.id, conversation.id, new_id(), stop=False))
    return leases.ask(transaction, conversation.id, conversation.id, QUESTION)


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_second_of_concurrent_questions_follows_the_first(database: Database, end: str) -> None:
    first = a_conversation()
    with database.connection() as one, database.connection() as other, ThreadPoolExecutor(1) as pool:
        assert ask(one, first) is None
        waiting = pool.submit(ask, other, a_conversation())
        time.sleep(0.1)
        assert not waiting.done()
        getattr(one, end)()
        leader = waiting.result()
        other.rollback()
    assert (leader.conversation_id if leader else None) == (first.id if end == "commit" else None)


def test_released_lease_frees_its_question(database: Database) -> None:
    first, second = a_conversation(), a_conversation()
    with database.connection() as connection:
        assert ask(connection, first) is None
        leader = leases.answering(connection, second.id, QUESTION)
        assert leader
        assert leases.ask(connection, first.id, first.id, QUESTION) is None
        leases.release(Transaction(connection), leader)
        assert leases.answering(connection, second.id, QUESTION) is None
        connection.rollback()


@pytest.mark.parametrize("database_url", DATABASES[1:], indirect=True)
def test_followers_do_not_block_others(database: Database) -> None:
    """Neither the leader's end nor other turns wait for a follower's transaction. SQLite has one writer anyway."""
    with database.connection() as one, database.connection() as other, database.connection() as third:
        ask(one, a_conversation())
        one.commit()
        leader = ask(other, a_conversation())
        assert leader
        began = time.monotonic()
        assert leases.release(Transaction(one), leader)
        ask(third, a_conversation())
        assert time.monotonic() - began < 4  # waiting for a lock times out after five seconds
        third.rollback()
        other.rollback()
