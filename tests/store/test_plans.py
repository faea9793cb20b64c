"""Every query of the store is served by an index, by the word of the database itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from chatkeep.domain.audit import COMMAND_LINE, Action, AuditEvent
from chatkeep.domain.conversation import Conversation, Delta, Message, Role, Status, new_id, now_us
from chatkeep.domain.quota import WindowUsage
from chatkeep.domain.usage import UsageKey, UsageTotals
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
    schema,
    shares,
    tombstones,
    usage,
    windows,
)
from chatkeep.store.engine import Database
from chatkeep.store.sql import Append, Connection, Sql
from chatkeep.store.transaction import Transaction
from tests.conftest import DATABASES, empty_database
from tests.store.connections import Planned
from tests.store.examples import a_conversation, a_message
from tests.store.reserved import unquoted

pytestmark = pytest.mark.everywhere

OWNERS, CONVERSATIONS, MESSAGES, SAMPLES = 4, 400, 20, 20
NOW = 2_000_000_000_000_000
# One row for each process or running reply: reading all of them is what is wanted.
SMALL_TABLES = {"leases", "workers"}
# What one process for all measures twice a minute: counting rows walks an index from end to end, and the rest is what
# the database tells of itself.
MEASURED = {"conversations USING COVERING INDEX", "VIRTUAL TABLE", "Scanned 1 database"}
# What a walk to the root has found so far, some hundred rows at most; and parents that are counted, in a thread.
WALKED = {"SCAN above", "'above'", "<derived", "UNION RESULT", "count(DISTINCT)"}


@pytest.fixture(scope="module", params=DATABASES)
def full(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database with enough rows that an optimizer has a choice."""
    database = Database(empty_database(request, request.param, tmp_path_factory))
    fill(database)
    yield database
    database.close()


def fill(database: Database) -> None:
    ids = [new_id(NOW + number) for number in range(CONVERSATIONS)]
    rows = [conversation_row(number, made) for number, made in enumerate(ids)]
    spoken = [message_row(number, ids[number % CONVERSATIONS]) for number in range(CONVERSATIONS * MESSAGES)]
    keys = [key_row(number) for number in range(CONVERSATIONS)]
    exported = [job_row(number) for number in range(CONVERSATIONS)]
    made = [api_key_row(number) for number in range(CONVERSATIONS)]
    samples = [sample_row(minute, name) for minute in range(CONVERSATIONS) for name in range(SAMPLES)]
    with database.engine.begin() as connection:
        for table, values in [
            (schema.conversations, rows), (schema.messages, spoken), (schema.idempotency_keys, keys),
            (schema.export_jobs, exported), (schema.metrics, samples), (schema.api_keys, made),
            (schema.audit, [audit_row(number) for number in range(1, CONVERSATIONS + 1)]),
            (schema.windows, [window_row(number) for number in range(CONVERSATIONS)]),
            (schema.usage, [usage_row(number, day) for number in range(OWNERS) for day in range(CONVERSATIONS)]),
        ]:  # fmt: skip
            connection.execute(table.insert(), values)
    tables = "conversations, messages, idempotency_keys, export_jobs, metrics, api_keys, windows, `usage`, audit"
    analyze = "ANALYZE" if database.embedded else f"ANALYZE TABLE {tables}"
    with database.connection() as connection:
        connection.rows(Sql(analyze))
        counters.put(connection, audit.MARK, CONVERSATIONS)


def conversation_row(number: int, id: UUID) -> dict[str, Any]:
    at = NOW + number * 1000
    return {
        "id": id.bytes, "owner": f"owner {number % OWNERS}", "title": f"title {number}", "metadata": "{}",
        "created_at": at, "last_active": at, "expires_at": NOW * 2 if number % 2 else None,
        "pinned": int(number % 40 == 0), "message_count": MESSAGES, "forks": 0,
    }  # fmt: skip


def message_row(number: int, conversation_id: UUID) -> dict[str, Any]:
    return {
        "message_id": new_id(NOW + number).bytes, "conversation_id": conversation_id.bytes, "position": number,
        "on_branch": 1, "role": "user", "content": f"text {number} " * 5, "reasoning": "", "written": 9,
        "timestamp": NOW + number, "status": "completed", "cached": 0,
    }  # fmt: skip


def key_row(number: int) -> dict[str, Any]:
    return {
        "owner": f"owner {number % OWNERS}", "key": f"key {number}", "request_hash": bytes(32),
        "conversation_id": bytes(16), "reply_id": bytes(16), "created_at": NOW + number * 1000,
    }  # fmt: skip


def api_key_row(number: int) -> dict[str, Any]:
    return {
        "id": new_id(NOW + number).bytes, "prefix": f"{number:08}", "digest": bytes(32), "name": "name",
        "account": "local", "scopes": "chat,read", "created_at": NOW, "expires_at": NOW + number,
        "parent_id": new_id(number % 20).bytes if number % 2 else None,
    }  # fmt: skip


def job_row(number: int) -> dict[str, Any]:
    status = "completed" if number % 20 else "running" if number % 40 else "queued"
    return {
        "id": new_id(NOW + number).bytes, "owner": f"owner {number % OWNERS}", "status": status, "request": "{}",
        "worker_id": bytes(16), "attempts": 1, "created_at": NOW, "expires_at": NOW + number * 1000,
        "conversations": 0, "messages": 0, "size": 0,
    }  # fmt: skip


def window_row(number: int) -> dict[str, Any]:
    counted = dict.fromkeys(("minute_requests", "minute_tokens", "day_requests", "day_tokens"), 1)
    return {"subject": f"owner {number}", "minute_began": NOW, "day_began": NOW + number * 1000} | counted


def audit_row(number: int) -> dict[str, Any]:
    return {
        "id": number, "at": NOW + number * 1000, "account": f"account {number % OWNERS}", "verb": "key.created",
        "what": "{}", "outcome": "done", "hash": bytes(32),
    }  # fmt: skip


def usage_row(number: int, day: int) -> dict[str, Any]:
    return {
        "account": f"account {number}", "day": day, "owner": f"owner {number}", "key_id": bytes(16), "model": "a model",
        "requests": 1, "input_tokens": 1, "output_tokens": 1, "cost": 1,
    }  # fmt: skip


def sample_row(minute: int, name: int) -> dict[str, Any]:
    return {"minute": minute, "name": f"chatkeep_sample_{name}", "value": 1.0}


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
def test_what_exports_and_expiry_ask_for_is_served_by_an_index(full: Database, text: str) -> None:
    known = new_id(NOW + 7).bytes
    values = {name: value for name, value in (("now", NOW), ("id", known)) if f":{name}" in text}
    with full.connection() as connection:
        planned = Planned(connection, embedded=full.embedded)
        planned.rows(Sql(text), **values)
    assert planned.scans() == []


CONVERSATION: Conversation = a_conversation(owner="owner 1")
POSITION = conversations.Position(NOW, CONVERSATION.id, NOW * 2)
MESSAGE: Message = a_message(CONVERSATION)
LEASE = leases.Lease(CONVERSATION.id, MESSAGE.id, new_id(), stop=False)
KNOWN = idempotency.IdempotencyRecord(bytes(32), CONVERSATION.id, MESSAGE.id)
JOB = jobs.Job(new_id(), "me", "{}", NOW)
KEY = keys.Key(new_id(), "12345678", bytes(32), "name", "local", ("chat", "read"), NOW)
SHARE = shares.Share(CONVERSATION.id, "owner 1", bytes(32), MESSAGE.id, NOW)
SPAN = {"names": ["chatkeep_sample_1", "chatkeep_sample_2"], "first": 100, "last": 160, "step": 10}
FILTERS = [
    conversations.Filter(query, pinned) for query in (None, "text", "text 中文") for pinned in (None, True, False)
]
SPENDER = UsageKey("account 1", 7, "owner 1", bytes(16), "a model")
CALLS: dict[Callable[..., Any], list[dict[str, Any]]] = {
    conversations.get: [{"owner": "owner 1", "id": CONVERSATION.id, "now": NOW}],
    conversations.lock: [{"owner": "owner 1", "id": CONVERSATION.id, "now": NOW}],
    conversations.insert: [{"conversation": CONVERSATION}],
    conversations.update: [{"conversation": CONVERSATION}],
    conversations.touch: [{"id": CONVERSATION.id, "now": NOW}],
    conversations.delete: [{"owner": "owner 1", "id": new_id(), "now": NOW}],
    conversations.expire: [{"owner": "owner 1", "id": new_id(), "now": NOW}],
    conversations.expired: [{"now": NOW, "limit": 20}],
    conversations.count_expired: [{"now": NOW}],
    conversations.remove: [{"owner": "owner 1", "id": new_id(), "now": NOW}],
    conversations.lock_some: [{"owner": "owner 1", "limit": 20}],
    conversations.end_reply: [{"id": new_id()}],
    conversations.newest: [
        {"owner": "owner 1", "now": NOW, "limit": 20, "after": after, "ascending": ascending, "only": only}
        for after in (None, POSITION)
        for ascending in (True, False)
        for only in FILTERS
    ],
    conversations.by_creation: [
        {"owner": "owner 1", "now": NOW, "limit": 20, "after": after, "ascending": ascending, "only": only}
        for after in (None, CONVERSATION.id)
        for ascending in (True, False)
        for only in FILTERS
    ],
    conversations.latest: [{"owner": "owner 1"}],
    messages.insert: [{"message": MESSAGE}],
    messages.get: [{"conversation_id": CONVERSATION.id, "id": MESSAGE.id}],
    messages.latest: [{"conversation_id": CONVERSATION.id, "until": now_us(), "limit": 10}],
    messages.page: [
        {"conversation_id": CONVERSATION.id, "limit": 20, "after": after, "ascending": ascending}
        for after in (None, MESSAGE.id)
        for ascending in (True, False)
    ],
    messages.nearest: [{"conversation_id": CONVERSATION.id, "tip": MESSAGE.id, "limit": 10}],
    messages.above: [{"conversation_id": CONVERSATION.id, "id": MESSAGE.id}],
    messages.later: [{"conversation_id": CONVERSATION.id, "after": 0, "limit": 20}],
    messages.timestamp_of: [{"conversation_id": CONVERSATION.id, "id": MESSAGE.id}],
    messages.span: [
        {"conversation_id": CONVERSATION.id, "until": NOW * 2, "skip": 0, "limit": 20, "forked": forked}
        for forked in (False, True)
    ],
    messages.count_until: [{"conversation_id": CONVERSATION.id, "until": NOW}],
    messages.some: [{"ids": [MESSAGE.id]}],
    messages.finish: [{"reply": MESSAGE}],
    messages.count: [{"conversation_id": CONVERSATION.id}],
    messages.is_long: [{"conversation_id": CONVERSATION.id}],
    messages.progress: [{"id": MESSAGE.id}],
    messages.progress_of: [{"ids": [MESSAGE.id, new_id()]}],
    messages.leave_branch: [{"conversation_id": CONVERSATION.id, "after": 0}],
    messages.join_branch: [{"ids": [MESSAGE.id, new_id()]}],
    messages.forks: [{"conversation_id": CONVERSATION.id}],
    messages.siblings: [
        {"conversation_id": CONVERSATION.id, "shown": [MESSAGE, replace(MESSAGE, parent_id=parent)]}
        for parent in (None, MESSAGE.id)
    ],
    holdings.hold: [{"owners": ["owner 1", "somebody new"]}],
    holdings.get: [{"owner": "owner 1"}],
    holdings.add: [{"owner": "owner 1", "more": holdings.Stored(1, 1)}],
    holdings.add_reply: [{"owner": "owner 1", "reply_id": MESSAGE.id}],
    holdings.take_off: [{"owner": "owner 1", "conversation_id": CONVERSATION.id}],
    holdings.take_off_some: [{"owner": "owner 1", "ids": [MESSAGE.id, new_id()]}],
    holdings.drift: [{"owner": "owner 1"}],
    holdings.next_owner: [{"after": "owner 1"}],
    idempotency.get: [{"owner": "owner 1", "key": "key 1", "now": NOW}],
    idempotency.insert: [{"owner": "owner 1", "key": "new", "known": KNOWN, "now": NOW}],
    idempotency.of_owner: [{"owner": "owner 1", "after": "", "limit": 20}],
    idempotency.forget: [{"owner": "owner 1", "limit": 20}],
    idempotency.expire: [{"now": NOW, "limit": 20}],
    tombstones.bury: [{"owner": "owner 1", "id": new_id(), "reason": "deleted", "now": NOW}],
    tombstones.unbury: [{"id": new_id()}],
    tombstones.holder: [{"id": new_id()}],
    tombstones.page: [{"owner": "owner 1", "epoch": 3, "after": new_id().bytes, "limit": 20}],
    tombstones.forget: [{"before": NOW, "limit": 20}],
    fences.raise_fence: [{"owner": "me/1", "now": NOW}],
    fences.touch: [{"owner": "me/1", "now": NOW}],
    fences.erased: [{"owners": ["me/1", "me/2"], "since": 3}],
    jobs.insert: [{"job": JOB}],
    jobs.get: [{"owner": "owner 1", "id": JOB.id, "now": NOW}],
    jobs.newest: [
        {"owner": "me", "now": NOW, "limit": 20, "after": after, "ascending": ascending}
        for after in (None, JOB.id)
        for ascending in (True, False)
    ],
    jobs.room: [{"owner": "owner 1", "but": JOB.id}],
    jobs.unfinished: [{"owner": "owner 1"}],
    jobs.claimable: [{"worker_id": LEASE.worker_id}],
    jobs.claim: [{"found": JOB, "taken": JOB, "worker_id": LEASE.worker_id}],
    jobs.update: [{"held": JOB, "became": JOB}],
    jobs.cancel: [{"owner": "owner 1", "id": JOB.id, "now": NOW, "expires_at": NOW}],
    jobs.delete: [{"owner": "owner 1", "id": new_id()}],
    jobs.of_owner: [{"owner": "owner 1", "after": b"", "limit": 20}],
    jobs.remove: [{"owner": "owner 1", "limit": 20}],
    jobs.expire: [{"now": NOW, "limit": 20}],
    jobs.with_files: [{"ids": [JOB.id, new_id()]}],
    imports.holder: [{"id": CONVERSATION.id}],
    imports.places: [{"ids": [MESSAGE.id, new_id()]}],
    imports.remove: [{"conversation_id": CONVERSATION.id, "ids": [new_id()]}],
    imports.add: [{"messages": [replace(MESSAGE, id=new_id(), timestamp=NOW)], "branch": []}],
    metrics.add: [{"minute": 7, "counted": {"a": 1.0, "b": 2.0}}],
    metrics.put: [{"minute": 7, "measured": {"a": 1.0, "b": 2.0}}],
    metrics.totals: [{}],
    metrics.summed: [SPAN],
    metrics.highest: [SPAN],
    metrics.forget: [{"before": CONVERSATIONS // 2}],
    metrics.running: [{}],
    metrics.conversations: [{}],
    metrics.storage: [{}],
    epochs.hold: [{}],
    epochs.current: [{}],
    keys.insert: [{"key": KEY}],
    keys.get: [{"id": KEY.id}],
    keys.lock: [{"id": KEY.id}],
    keys.named: [{"prefix": KEY.prefix}],
    keys.page: [{"limit": 20, "after": after, "ascending": up} for after in (None, KEY.id) for up in (True, False)],
    keys.live: [{"ids": [KEY.id, new_id()], "now": NOW}],
    keys.count_live: [{"now": NOW, "soon": NOW + 1}],
    keys.change: [{"key": KEY}],
    keys.revoke: [{"id": KEY.id, "now": NOW}],
    keys.expire: [{"id": KEY.id, "at": NOW}],
    keys.forget_children: [{"id": KEY.id, "before": NOW, "limit": 20}],
    keys.of_end_user: [{"account": "local", "end_user": "0" * 32, "after": b"", "limit": 20}],
    keys.remove: [{"account": "local", "end_user": "0" * 32, "limit": 20}],
    keys.use: [{"id": KEY.id, "at": NOW}],
    keys.changes: [{}],
    shares.put: [{"share": SHARE}],
    shares.since: [{"owner": "owner 1", "conversation_id": CONVERSATION.id}],
    shares.find: [{"digest": bytes(32)}],
    shares.of_owner: [{"owner": "owner 1", "after": b"", "limit": 20}],
    shares.delete: [{"owner": "owner 1", "conversation_id": CONVERSATION.id}],
    counters.count: [{"name": "a mark"}],
    counters.get: [{"name": "a mark"}],
    counters.put: [{"name": "a mark", "value": 1}],
    counters.try_out: [{}],
    leadership.acquire: [{"name": "a duty", "worker_id": LEASE.worker_id}],
    leases.acquire: [{"lease": LEASE, "question": bytes(32)}],
    leases.ask: [{"conversation_id": CONVERSATION.id, "reply_id": MESSAGE.id, "question": bytes(32)}],
    leases.answering: [{"reply_id": MESSAGE.id, "question": bytes(32)}],
    leases.of_conversation: [{"conversation_id": CONVERSATION.id}],
    leases.ask_to_stop: [{"lease": LEASE}],
    leases.to_stop: [{"worker_id": LEASE.worker_id}],
    leases.every: [{}],
    leases.release: [{"lease": LEASE}],
    leases.running: [{"owner": "owner 1", "key_id": LEASE.worker_id}],
    windows.hold: [{"subjects": ["owner 1", "somebody new"]}],
    windows.put: [
        {"spent": {"owner 1": WindowUsage(), "owner 2": WindowUsage()}, "begins_days": begins_days}
        for begins_days in (False, True)
    ],
    windows.remove: [{"subject": "owner 1"}],
    windows.remove_unused: [{"subject": "owner 1"}],
    windows.forget: [{"before": NOW, "limit": 20}],
    usage.add: [{"used": {SPENDER: UsageTotals(1), SPENDER._replace(day=8): UsageTotals(1)}}],
    usage.summed: [
        {"account": account, "owner": owner, "days": (100, 130), "groups": groups, "limit": 20, "skip": 2}
        for account, owner in ((None, None), ("account 1", None), ("account 1", "owner 1"))
        for groups in ((), ("day",))
    ],
    usage.of_owner: [{"owner": "owner 1", "after": usage.Place(), "limit": 20}],
    usage.disown: [{"account": "account 1", "owner": "owner 1", "limit": 20}],
    usage.forget: [{"before": 100, "limit": 20}],
    audit.add: [
        {"notes": [AuditEvent(COMMAND_LINE, Action.KEY_CREATED), AuditEvent(COMMAND_LINE, Action.KEY_REVOKED)]}
    ],
    audit.newest_id: [{}],
    audit.page: [
        {"only": audit.Filter(account, verb, start), "after": after, "limit": 20, "ascending": ascending}
        for account in (None, "account 1")
        for verb in (None, "key.created")
        for start in (None, NOW)
        for after in (None, CONVERSATIONS // 2)
        for ascending in (True, False)
    ],
    audit.forget: [{"before": NOW, "limit": 20}],
    leases.heartbeat: [{"worker_id": LEASE.worker_id}],
    leases.heartbeats: [{}],
    leases.forget: [{"worker_id": LEASE.worker_id}],
    messages.delete_some: [{"owner": "owner 1", "conversation_id": CONVERSATION.id, "limit": 2}],
    holdings.remove: [{"owner": "owner 1"}],
    holdings.remove_unused: [{"owner": "owner 1"}],
}
SELECTIONS = [
    exports.Selection("owner 1", one, start, NOW * 2, since, branch_only=narrow, records=narrow)
    for one in (None, CONVERSATION.id)
    for start in (None, NOW)
    for since in (None, 3)
    for narrow in (False, True)
]


def statements(module: ModuleType) -> set[Callable[..., Any]]:
    """Return the functions of a table's module that run statements."""
    found = [
        value for _, value in inspect.getmembers(module, inspect.isfunction) if value.__module__ == module.__name__
    ]
    shown = [value for value in found if not value.__name__.startswith("_")]
    return {value for value in shown if next(iter(inspect.signature(value).parameters), "") == "connection"}


def test_every_function_of_the_store_is_tried() -> None:
    tables: tuple[ModuleType, ...]
    tables = (
        audit, conversations, messages, idempotency, leases, tombstones, epochs, fences, counters,
        leadership, jobs, imports, keys, metrics, windows, usage, shares, holdings,
    )  # fmt: skip
    assert set().union(*map(statements, tables)) == CALLS.keys()


@pytest.fixture(scope="module")
def planned(full: Database) -> Planned:
    """Every statement of the store, sent. Fills a database first: a second or two."""
    with full.connection() as connection:
        planned = Planned(connection, embedded=full.embedded)
        planned.begin()
        for function in sorted(CALLS, key=lambda function: function.__name__ not in {"insert", "take", "hold"}):
            for arguments in CALLS[function]:
                found = function(Transaction(planned, epoch=7), **arguments)
                if isinstance(found, Iterator):
                    list(found)
        for selection in SELECTIONS:
            list(exports.Pages(selection).page(planned, NOW))
        planned.rollback()
    return planned


def test_every_statement_of_the_store_quotes_reserved_words(planned: Planned) -> None:
    texts = {text for sql in planned.sent for text in (sql.sqlite, sql.mysql)}
    assert [(text, words) for text in texts if (words := unquoted(text))] == []


def test_every_statement_of_the_store_is_served_by_an_index(planned: Planned) -> None:
    slow = [plan for plan in planned.scans() if not any(known in plan[1] for known in SMALL_TABLES | MEASURED | WALKED)]
    assert slow == []
    assert len(planned.plans) > len(CALLS)


def test_pinned_conversations_are_not_looked_for_among_all_the_others(full: Database) -> None:
    with full.connection() as connection:
        planned = Planned(connection, embedded=full.embedded)
        for after in (None, POSITION):
            only = conversations.Filter(pinned=True)
            conversations.newest(planned, "owner 1", NOW, limit=20, after=after, ascending=False, only=only)
    listed = [plan for sql, plan in planned.plans if "ORDER BY" in sql]
    assert listed
    assert all("ix_conversations_pinned" in plan for plan in listed)


def test_a_search_reads_no_more_of_a_conversation_than_the_first_message_that_fits(full: Database) -> None:
    with full.connection() as connection:
        planned = Planned(connection, embedded=full.embedded)
        only = conversations.Filter("text 中文")
        conversations.newest(planned, "owner 1", NOW, limit=20, after=None, ascending=False, only=only)
    plans = [plan for sql, plan in planned.plans if "LIKE" in sql]
    wanted = "CORRELATED SCALAR SUBQUERY" if full.embedded else "DEPENDENT SUBQUERY"
    assert sum(wanted in plan for plan in plans) == 2, plans
    assert not any(word in plan for plan in plans for word in ("LIST SUBQUERY", "MATERIALIZED")), plans


@pytest.mark.parametrize("after", [None, CONVERSATION.id])
def test_a_list_by_creation_reads_nothing_of_other_owners(full: Database, after: UUID | None) -> None:
    with full.connection() as connection:
        planned = Planned(connection, embedded=full.embedded)
        for ascending in (True, False):
            conversations.by_creation(planned, "owner 1", NOW, limit=20, after=after, ascending=ascending)
    listed = [plan for sql, plan in planned.plans if "ORDER BY" in sql]
    assert listed
    assert all("ix_conversations_of_owner" in plan for plan in listed), listed


@pytest.mark.parametrize("full", DATABASES[1:], indirect=True)
def test_appending_reads_nothing_but_the_rows_that_it_changes(full: Database) -> None:
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
    """Return how many rows the server has read by going from one to the next."""
    return int(connection.rows(Sql("SHOW SESSION STATUS LIKE 'Handler_read_rnd_next'"))[0][1])
