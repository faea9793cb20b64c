"""Every query of the store is served by an index, according to the database's own plan."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from chatkeep.domain.conversation import Delta, Role, Status, new_id
from chatkeep.store import (
    audit,
    conversations,
    counters,
    epochs,
    exports,
    fences,
    holdings,
    idempotency,
    imports,
    jobs,
    keys,
    leadership,
    leases,
    messages,
    metrics,
    shares,
    tombstones,
    usage,
    windows,
)
from chatkeep.store.engine import Database
from chatkeep.store.sql import Append, Connection, Sql
from chatkeep.store.transaction import Transaction
from tests.conftest import DATABASES, empty_database
from tests.store.calls import CALLS, CONVERSATION, POSITION, SELECTIONS
from tests.store.connections import Planned
from tests.store.examples import a_message
from tests.store.reserved import unquoted
from tests.store.rows import NOW, fill

pytestmark = pytest.mark.everywhere


# One row for each process or running reply, so a scan is intended.
SMALL_TABLES = {"leases", "workers"}


# Measured twice a minute by one process: counting rows scans an index, and the rest is the database's metadata.
MEASURED = {"conversations USING COVERING INDEX", "VIRTUAL TABLE", "Scanned 1 database"}


# The intermediate rows of a walk to the root, some hundred at most; and counting parents, in a thread.
WALKED = {"SCAN above", "'above'", "<derived", "UNION RESULT", "count(DISTINCT)"}


@pytest.fixture(scope="module", params=DATABASES)
def full(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database with enough rows to give the optimizer a choice."""
    database = Database(empty_database(request, request.param, tmp_path_factory))
    fill(database)
    yield database
    database.close()


REQUIRED = {
    "the newest activity": "SELECT id FROM conversations WHERE last_active > :now ORDER BY last_active DESC LIMIT 20",
    "a span of activity": "SELECT id FROM conversations WHERE last_active BETWEEN :now AND :now + 5000",
    "a span of beginnings": "SELECT id FROM conversations WHERE created_at BETWEEN :now AND :now + 5000",
    "a conversation's messages": "SELECT id, content FROM messages WHERE conversation_id = :id",
    "a span of messages": "SELECT id, content FROM messages WHERE timestamp BETWEEN :now AND :now + 50",
    "a conversation's last messages":
        "SELECT id, content FROM messages WHERE conversation_id = :id ORDER BY timestamp DESC LIMIT 10",
    "a span of a conversation":
        "SELECT id, content FROM messages WHERE conversation_id = :id AND timestamp > :now ORDER BY timestamp",
}  # fmt: skip


@pytest.mark.parametrize("text", REQUIRED.values(), ids=REQUIRED)
def test_required_queries_use_an_index(full: Database, text: str) -> None:
    known = new_id(NOW + 7).bytes
    values = {name: value for name, value in (("now", NOW), ("id", known)) if f":{name}" in text}
    with full.connection() as connection:
        planned = Planned(connection, embedded=full.embedded)
        planned.rows(Sql(text), **values)
    assert planned.scans() == []


def statements(module: ModuleType) -> set[Callable[..., Any]]:
    """Return the functions of a table's module that run statements."""
    found = [
        value for _, value in inspect.getmembers(module, inspect.isfunction) if value.__module__ == module.__name__
    ]
    shown = [value for value in found if not value.__name__.startswith("_")]
    return {value for value in shown if next(iter(inspect.signature(value).parameters), "") == "connection"}


def test_every_function_of_the_store_is_called() -> None:
    tables: tuple[ModuleType, ...]
    tables = (
        audit, conversations, messages, idempotency, leases, tombstones, epochs, fences, counters,
        leadership, jobs, imports, keys, metrics, windows, usage, shares, holdings,
    )  # fmt: skip
    assert set().union(*map(statements, tables)) == CALLS.keys()


@pytest.fixture(scope="module")
def planned(full: Database) -> Planned:
    """Sends every statement of the store. Fills a database first: a second or two."""
    with full.connection() as connection:
        planned = Planned(connection, embedded=full.embedded)
        planned.begin()
        for function in sorted(CALLS, key=lambda function: function.__name__ not in {"insert", "acquire", "hold"}):
            for arguments in CALLS[function]:
                found = function(Transaction(planned, epoch=7), **arguments)
                if isinstance(found, Iterator):
                    list(found)
        for selection in SELECTIONS:
            list(exports.Pages(selection).page(planned, NOW))
        planned.rollback()
    return planned


def test_statements_quote_reserved_words(planned: Planned) -> None:
    texts = {text for sql in planned.sent for text in (sql.sqlite, sql.mysql)}
    assert [(text, words) for text in texts if (words := unquoted(text))] == []


def test_statements_use_an_index(planned: Planned) -> None:
    slow = [plan for plan in planned.scans() if not any(known in plan[1] for known in SMALL_TABLES | MEASURED | WALKED)]
    assert slow == []
    assert len(planned.plans) > len(CALLS)


def test_pinned_conversations_use_their_index(full: Database) -> None:
    with full.connection() as connection:
        planned = Planned(connection, embedded=full.embedded)
        for after in (None, POSITION):
            only = conversations.Filter(pinned=True)
            conversations.by_activity(planned, "owner 1", NOW, limit=20, after=after, ascending=False, only=only)
    listed = [plan for sql, plan in planned.plans if "ORDER BY" in sql]
    assert listed
    assert all("ix_conversations_pinned" in plan for plan in listed)


def test_search_stops_at_first_matching_message(full: Database) -> None:
    with full.connection() as connection:
        planned = Planned(connection, embedded=full.embedded)
        only = conversations.Filter("text 中文")
        conversations.by_activity(planned, "owner 1", NOW, limit=20, after=None, ascending=False, only=only)
    plans = [plan for sql, plan in planned.plans if "LIKE" in sql]
    wanted = "CORRELATED SCALAR SUBQUERY" if full.embedded else "DEPENDENT SUBQUERY"
    assert sum(wanted in plan for plan in plans) == 2, plans
    assert not any(word in plan for plan in plans for word in ("LIST SUBQUERY", "MATERIALIZED")), plans


@pytest.mark.parametrize("after", [None, CONVERSATION.id])
def test_list_by_creation_reads_only_own_rows(full: Database, after: UUID | None) -> None:
    with full.connection() as connection:
        planned = Planned(connection, embedded=full.embedded)
        for ascending in (True, False):
            conversations.by_creation(planned, "owner 1", NOW, limit=20, after=after, ascending=ascending)
    listed = [plan for sql, plan in planned.plans if "ORDER BY" in sql]
    assert listed
    assert all("ix_conversations_of_owner" in plan for plan in listed), listed


@pytest.mark.parametrize("full", DATABASES[1:], indirect=True)
def test_append_reads_only_changed_rows(full: Database) -> None:
    reply = a_message(CONVERSATION, role=Role.ASSISTANT, status=Status.GENERATING)
    with full.connection() as connection:
        connection.begin()
        transaction = Transaction(connection, epochs.hold(connection))
        conversations.insert(transaction, CONVERSATION)
        messages.insert(transaction, reply)
        before = rows_walked(connection)
        assert connection.append([Append(item, 0, Delta("text")) for item in (reply.id, new_id(), new_id())]) == 1
        assert rows_walked(connection) == before
        connection.rollback()


def rows_walked(connection: Connection) -> int:
    """Return the number of rows that the server has read sequentially."""
    return int(connection.rows(Sql("SHOW SESSION STATUS LIKE 'Handler_read_rnd_next'"))[0][1])
