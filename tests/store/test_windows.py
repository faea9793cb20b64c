"""Quotas: each turn sees what others have counted, in the same transaction or in another process."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from chatkeep.domain.conversation import new_id, now_us
from chatkeep.domain.quota import WindowUsage, key_subject
from chatkeep.store import conversations, epochs, leases, windows
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.leases import Lease
from chatkeep.store.sql import DriverConnection
from chatkeep.store.transaction import Transaction
from tests.store.examples import a_conversation

pytestmark = pytest.mark.everywhere

SUBJECTS = ("me", "me/alice")
KEY = new_id()


def held(connection: DriverConnection) -> dict[str, WindowUsage]:
    """Lock the usage of subjects in a transaction that stays open."""
    connection.begin()
    return windows.hold(connection, SUBJECTS)[1]


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
def test_subject_lock_shows_previous_counts(database: Database, journal: Journal, end: str, *, known: bool) -> None:
    if known:
        journal.write(lambda _: None, subjects=SUBJECTS)
    with database.connection() as one, database.connection() as other, ThreadPoolExecutor(1) as pool:
        spent = held(one)
        waiting = pool.submit(held, other)
        time.sleep(0.1)
        assert not waiting.done()
        for used in spent.values():
            used.add(now_us(), requests=1, tokens=7)
        windows.put(one, spent, begins_days=True)
        getattr(one, end)()
        assert waiting.result() == (spent if end == "commit" else dict.fromkeys(SUBJECTS, WindowUsage()))
        other.rollback()


def test_concurrent_replies_include_own_transaction(database: Database) -> None:
    def begin(connection: Transaction, owner: str) -> Lease:
        made = a_conversation(owner=owner)
        lease = Lease(made.id, new_id(), new_id(), stop=False, owner=owner, key_id=KEY)
        conversations.insert(connection, made)
        leases.acquire(connection, lease)
        return lease

    with database.connection() as connection:
        connection.begin()
        transaction = Transaction(connection, epochs.hold(connection))
        first, *_ = [begin(transaction, owner) for owner in ("me", "me/bob", "meadow")]
        known = transaction.ledger.running
        known |= leases.running(connection, "me/alice", KEY)
        assert known == {"me": 2, "me/alice": 0, key_subject(KEY): 3}
        begin(transaction, "me/alice")
        assert leases.release(transaction, first)
        assert not leases.release(transaction, first)
        assert known == leases.running(connection, "me/alice", KEY) == {"me": 2, "me/alice": 1, key_subject(KEY): 3}
        connection.rollback()
