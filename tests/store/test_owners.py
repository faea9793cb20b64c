"""The store reads and changes owned rows only with a condition on the owner.

Checks the statements of every function of the store. Messages have no owner column: they are read through their
conversation, whose owner was checked before. `tests/auth` shows that there is no way around this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from chatkeep.store import conversations, fences, jobs, metrics, tombstones
from chatkeep.store.engine import Database
from chatkeep.store.sql import DriverConnection, Sql
from chatkeep.store.transaction import Transaction
from tests.store.calls import CALLS
from tests.store.connections import PassingOn

OWNED = re.compile(r"\b(?:FROM|UPDATE|JOIN|INTO) (?:conversations|export_jobs|idempotency_keys|shares|tombstones)\b")
# Functions that serve all owners, and give no owner another one's data.
FOR_ALL: dict[Callable[..., Any], str] = {
    conversations.touch: "a reply has ended, in a conversation whose owner had asked for it",
    conversations.count_expired: "a number",
    conversations.remove: "the sweep, of what has expired",
    jobs.claim: "the makers of exports, which act for the owner in the row",
    jobs.update: "the same",
    jobs.expire: "forgets what is over",
    jobs.with_files: "which files belong to a job at all",
    metrics.conversations: "a number",
    tombstones.unbury: "an import, of a conversation that it has just stored for its owner",
    tombstones.forget: "forgets what is over",
    fences.erased: "by a hash of the owner",
}


class Noting(PassingOn):
    """Records its statements."""

    def __init__(self, connection: DriverConnection) -> None:
        super().__init__(connection)
        self.texts: list[str] = []

    def rows(self, sql: Sql, **values: Any) -> list[tuple[Any, ...]]:
        self.texts.append(sql.sqlite)
        return super().rows(sql, **values)

    def stream(self, sql: Sql, **values: Any) -> AbstractContextManager[Iterator[tuple[Any, ...]]]:
        self.texts.append(sql.sqlite)
        return super().stream(sql, **values)

    def change(self, sql: Sql, **values: Any) -> int:
        self.texts.append(sql.sqlite)
        return super().change(sql, **values)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_statements_on_owned_rows_check_the_owner(database: Database) -> None:
    without: dict[Callable[..., Any], list[str]] = {}
    with database.connection() as connection:
        noting = Noting(connection)
        noting.begin()
        transaction = Transaction(noting, epoch=7)
        for function in sorted(CALLS, key=lambda function: function.__name__ not in {"insert", "take"}):
            noting.texts.clear()
            for arguments in CALLS[function]:
                function(transaction, **arguments)
            owned = [text for text in noting.texts if OWNED.search(text) and not re.search(r"\bowner\b", text)]
            if owned:
                without[function] = owned
        noting.rollback()
    assert {function.__qualname__: texts for function, texts in without.items() if function not in FOR_ALL} == {}
    assert without.keys() == FOR_ALL.keys()
