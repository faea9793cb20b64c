"""The sweep uses short transactions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any, TypeVar

import pytest

from chatkeep.domain.conversation import now_us
from chatkeep.retention import sweeper
from chatkeep.store import conversations, messages
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.sql import Sql
from chatkeep.store.transaction import Transaction
from tests.store.examples import a_conversation, a_message

T = TypeVar("T")
CONVERSATIONS, MESSAGES = 4, 3


@pytest.mark.parametrize(("limit", "value", "transactions"), [("SECONDS", 60, 1), ("SECONDS", 0, 4), ("ROWS", 3, 4)])
def test_sweep_transaction_ends_at_limits(
    database: Database, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, transactions: int
) -> None:
    monkeypatch.setattr(sweeper, "SECONDS", 60)
    monkeypatch.setattr(sweeper, limit, value)
    with closing(Counting(database)) as journal:
        journal.write(_fill)
        journal.writes = 0
        swept = sweeper.sweep(journal, now_us())
    assert (swept.conversations, swept.messages) == (CONVERSATIONS, CONVERSATIONS * MESSAGES)
    assert journal.writes == transactions + 1, "the last one finds nothing"
    assert database.read(lambda connection: connection.rows(Sql("SELECT COUNT(*) FROM messages"))) == [(0,)]


class Counting(Journal):
    """A journal that counts its writes."""

    writes = 0

    def write(self, work: Callable[[Transaction], T], **options: Any) -> T:
        self.writes += 1
        return super().write(work, **options)


def _fill(connection: Transaction) -> None:
    """Store expired conversations."""
    for _ in range(CONVERSATIONS):
        conversation = a_conversation(expires_at=1)
        conversations.insert(connection, conversation)
        for position in range(MESSAGES):
            messages.insert(connection, a_message(conversation, position=position))
