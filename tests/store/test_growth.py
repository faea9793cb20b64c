"""The rows that a transaction changes, or a query returns, do not grow with the stored data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import UUID

import pytest
from msgspec.structs import replace

from chatkeep.auth.access import digest_of
from chatkeep.conversations import branches, sharing
from chatkeep.conversations.service import Changes, Page, change_conversation, delete_conversation, read_conversation
from chatkeep.domain.audit import COMMAND_LINE
from chatkeep.domain.conversation import Conversation, Message, Role, new_id, now_us
from chatkeep.domain.quota import Defaults
from chatkeep.domain.usage import UsageKey, UsageTotals
from chatkeep.imports import ImportOptions, import_file
from chatkeep.limiting.aggregator import UsageAggregator
from chatkeep.limiting.limiter import Limiter
from chatkeep.retention import erasure, sweeper
from chatkeep.retention.erasure import Eraser, belongings
from chatkeep.store import conversations, idempotency, imports, jobs, keys, messages, shares, usage
from chatkeep.store.engine import Database
from chatkeep.store.idempotency import IdempotencyRecord
from chatkeep.store.journal import Journal
from chatkeep.store.messages import CHARACTERS, ROWS
from chatkeep.store.sql import Connection, DriverConnection, Sql
from chatkeep.store.transaction import Transaction
from chatkeep.turns.cache import MemoryCache
from tests.conftest import DATABASES
from tests.store.connections import PassingOn
from tests.store.examples import a_conversation, a_message

T = TypeVar("T")
OWNER = "local/" + "0" * 32
LONG = 3 * ROWS
MUCH = 1_010
# A switch also changes its conversation; erasing 200 rows of usage changes 400.
MOST_CHANGED = ROWS + 20


class Measured(PassingOn):
    """Counts changed and returned rows."""

    def __init__(self, connection: DriverConnection) -> None:
        super().__init__(connection)
        self.changed = self.returned = 0

    def rows(self, sql: Sql, **values: Any) -> list[tuple[Any, ...]]:
        """Run a query and return its rows."""
        found = super().rows(sql, **values)
        self.returned = max(self.returned, len(found))
        return found

    def change(self, sql: Sql, **values: Any) -> int:
        """Run a statement and return how many rows it matched."""
        changed = super().change(sql, **values)
        self.changed += changed
        return changed


class MeasuredJournal(Journal):
    """Records the most rows that any transaction changed or a query returned."""

    changed = returned = transactions = 0

    def write(self, work: Callable[[Transaction], T], **options: Any) -> T:
        def measured(transaction: Transaction) -> T:
            seen = Measured(transaction.connection)
            again = Transaction(seen, transaction.epoch)
            again.ledger, again.events = transaction.ledger, transaction.events
            try:
                return work(again)
            finally:
                self.changed, self.returned = max(self.changed, seen.changed), max(self.returned, seen.returned)

        self.transactions += 1
        return super().write(measured, **options)


class MeasuredDatabase(Database):
    """Records the most rows that any query returned."""

    returned = 0

    def read(self, work: Callable[[Connection], T], **options: Any) -> T:
        def measured(connection: Connection) -> T:
            seen = Measured(cast("DriverConnection", connection))
            try:
                return work(seen)
            finally:
                self.returned = max(self.returned, seen.returned)

        return super().read(measured, **options)


@pytest.fixture
def store(database_url: str) -> Iterator[MeasuredDatabase]:
    found = MeasuredDatabase(database_url)
    yield found
    found.close()


@pytest.fixture
def measured(store: MeasuredDatabase) -> Iterator[MeasuredJournal]:
    with closing(MeasuredJournal(store)) as found:
        yield found


def chain(conversation: Conversation, amount: int, *, parent: UUID | None = None, at: int = 0) -> list[Message]:
    """Return messages, each the child of the previous one."""
    made: list[Message] = []
    for number in range(amount):
        role = Role.ASSISTANT if number % 2 else Role.USER
        one = a_message(
            conversation, parent_id=parent, timestamp=at + number + 1, position=number + 1, role=role,
            content=f"{at + number + 1}",
        )  # fmt: skip
        made.append(one)
        parent = one.id
    return made


def put(database: Database, conversation: Conversation, *runs: list[Message]) -> None:
    """Store a conversation whose current branch is the last run; earlier runs are off the branch."""
    branch = {one.id for one in runs[-1]}
    with closing(Journal(database)) as journal:

        def write(connection: Transaction) -> None:
            conversations.insert(connection, replace(conversation, current_id=runs[-1][-1].id, forks=len(runs) - 1))
            for run in runs:
                imports.add(connection, run, branch)

        journal.write(write)


def long_one(database: Database, **fields: Any) -> tuple[Conversation, list[Message]]:
    made = a_conversation(owner=OWNER, message_count=LONG, **fields)
    said = chain(made, LONG)
    put(database, made, said)
    return made, said


def forked_one(database: Database) -> tuple[Conversation, list[Message], list[Message]]:
    """Return a conversation whose first message was edited, with a long old and a long current branch."""
    made = a_conversation(owner=OWNER, message_count=2 * LONG)
    old, new = chain(made, LONG), chain(made, LONG, at=LONG)
    put(database, made, old, new)
    return made, old, new


def branch(database: Database, id: UUID) -> list[UUID]:
    rows = database.read(lambda c: messages.page(c, id, limit=10 * LONG, after=None, ascending=True))
    return [one.id for one in rows or []]


def test_long_branch_switch_uses_several_transactions(store: MeasuredDatabase, measured: MeasuredJournal) -> None:
    made, old, new = forked_one(store)
    changed = change_conversation(store, measured, OWNER, made.id, Changes(current_id=old[3].id, title="Old"))
    assert (changed.current_id, changed.title) == (old[-1].id, "Old")
    assert branch(store, made.id) == [one.id for one in old]
    assert measured.changed <= MOST_CHANGED
    assert measured.transactions > 2 * LONG // ROWS
    assert measured.returned <= ROWS
    change_conversation(store, measured, OWNER, made.id, Changes(current_id=new[0].id))
    assert branch(store, made.id) == [one.id for one in new]


def test_turn_during_switch_keeps_branch_valid(store: MeasuredDatabase, measured: MeasuredJournal) -> None:
    """After each step the branch is valid, from a first message to the current one."""
    made, old, _ = forked_one(store)
    parents = {step.id: step.parent_id for step in store.read(lambda c: messages.newer(c, made.id, 0, 10 * LONG))}

    def check(connection: Connection) -> None:
        found = conversations.get(connection, OWNER, made.id, now_us())
        assert found
        shown = messages.page(connection, made.id, limit=10 * LONG, after=None, ascending=True) or []
        path, step = [], found.current_id
        while step is not None:
            path.append(step)
            step = parents[step]
        assert [one.id for one in shown] == path[::-1]

    steps = 0
    route = store.read(lambda c: branches.route_to(c, made.id, old[-1].id))

    def step(connection: Transaction) -> bool:
        found = conversations.lock(connection, OWNER, made.id, now_us())
        assert found
        moved, whole = branches.advance(connection, found, route)
        conversations.update(connection, moved)
        return whole

    while not measured.write(step):
        steps += 1
        store.read(check)
    store.read(check)
    assert steps >= 2 * LONG // ROWS - 1


def test_forked_conversation_is_read_in_pages(store: MeasuredDatabase) -> None:
    made, _, new = forked_one(store)
    store.returned = 0
    seen: list[UUID] = []
    after = None
    for _ in range(3):
        found = read_conversation(store, OWNER, made.id, Page(50, after))
        assert found.has_more
        seen += [one.id for one in found.messages]
        after = seen[-1]
    assert seen[:150] == [one.id for one in new[::-1][:150]]
    first = read_conversation(store, OWNER, made.id, Page(5, ascending=True))
    assert [one.id for one in first.messages] == [one.id for one in new[:5]]
    assert list(first.siblings) == [new[0].id]
    assert store.returned <= 64


@pytest.mark.parametrize("database_url", DATABASES[1:], indirect=True)
def test_reading_a_branch_skips_other_branches(store: MeasuredDatabase) -> None:
    """The current branch was chosen over a longer, newer one."""
    made = a_conversation(owner=OWNER)
    left, current = chain(made, LONG, at=LONG), chain(made, LONG)
    put(store, made, left, current)
    one, said = long_one(store)
    for read in (
        lambda: read_conversation(store, OWNER, made.id, Page(20)),
        lambda: read_conversation(store, OWNER, made.id, Page(20, current[-50].id)),
        lambda: store.read(lambda connection: messages.last_up_to(connection, made.id, current[-1].id, 20)),
        lambda: read_conversation(store, OWNER, one.id, Page(20, said[50].id, ascending=True)),
    ):
        before = store.read(rows_walked)
        read()
        assert store.read(rows_walked) - before < LONG // 3


def rows_walked(connection: Connection) -> int:
    """Return the number of rows that the server has read in this session."""
    return sum(int(value) for _, value in connection.rows(Sql("SHOW SESSION STATUS LIKE 'Handler_read%'")))


def test_branch_of_any_length_is_walked_to_root(store: MeasuredDatabase) -> None:
    """MySQL and MariaDB recurse at most a thousand steps in a statement."""
    made = a_conversation(owner=OWNER)
    said = chain(made, MUCH)
    put(store, made, said)
    walked = store.read(lambda connection: list(messages.ancestors(connection, made.id, said[-1].id)))
    assert [step.id for step in walked] == [one.id for one in reversed(said)]


def test_newest_siblings_are_returned(store: MeasuredDatabase) -> None:
    made = a_conversation(owner=OWNER)
    runs = [chain(made, 1, at=10 * number) for number in range(messages.SIBLINGS + 20)]
    put(store, made, *runs)
    store.returned = 0
    [shown] = read_conversation(store, OWNER, made.id, Page(5)).messages
    siblings = read_conversation(store, OWNER, made.id, Page(5)).siblings[shown.id]
    assert siblings == [run[0].id for run in runs[-messages.SIBLINGS - 1 :]]
    assert store.returned <= messages.SIBLINGS


@pytest.mark.parametrize("which", ["all there is", "the current branch", "a branch that was left"])
def test_shared_conversation_is_read_in_pages(store: MeasuredDatabase, measured: MeasuredJournal, which: str) -> None:
    if which == "all there is":
        made, shown = long_one(store)
    else:
        made, old, new = forked_one(store)
        shown = new if which == "the current branch" else old
    token = sharing.share_conversation(measured, OWNER, made.id, COMMAND_LINE).token
    with closing(Journal(store)) as journal:
        share = shares.Share(made.id, OWNER, digest_of(token), shown[-2].id, 1)
        journal.write(lambda connection: shares.put(connection, share))
    store.returned = 0
    for after in (0, 7, LONG - 12, LONG - 1, LONG + 5):
        found = sharing.read_shared(store, token, 10, after)
        assert [one.content for one in found.messages] == [one.content for one in shown[:-1][after : after + 10]]
        assert found.has_more == (after + 10 < LONG - 1)
    assert store.returned <= messages.STEPS


@pytest.mark.parametrize("large", ["many messages", "much text"])
def test_deletion_updates_holdings(store: MeasuredDatabase, measured: MeasuredJournal, large: str) -> None:
    """The conversation claims to have one message, as an imported file can."""
    made = a_conversation(owner=OWNER, message_count=1)
    text = "x" if large == "many messages" else "x" * (CHARACTERS // 3)
    put(store, made, [replace(one, content=text) for one in chain(made, ROWS + 1 if text == "x" else 4)])
    delete_conversation(measured, OWNER, made.id)
    assert count(store, "conversations") == 1, "it is left to the sweep"
    swept = sweeper.sweep(measured, now_us())
    assert swept.conversations == 1
    assert measured.changed <= MOST_CHANGED
    assert measured.transactions >= 3
    assert count(store, "messages") == 0


def test_import_updates_holdings(store: MeasuredDatabase, measured: MeasuredJournal) -> None:
    record = (
        '{"object":"export","version":1,"conversations":[{"object":"conversation","id":"%s","title":"t","system":null,'
        '"ttl":null,"pinned":false,"metadata":{},"message_count":%d,"current_id":null,"created_at":"%s","last_active":'
        '"%s","expires_at":null,"messages":[]}],"end":null}'
    )
    at = "2026-11-22T09:30:00.000000Z"
    file = (record % (new_id(), 10**9, at, at)).encode()
    import_file(store, measured, [file], ImportOptions(OWNER, now_us()))
    [(told,)] = store.read(lambda c: c.rows(Sql("SELECT message_count FROM conversations")))
    assert told == 0


def test_erasing_uses_several_transactions(
    store: MeasuredDatabase, measured: MeasuredJournal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "PAGE", 150)
    with closing(Journal(store)) as journal:
        journal.write(fill)
    said = b"".join(belongings(store, OWNER)).decode()
    assert [said.count(f'"object":"{kind}"') for kind in ("idempotency_key", "export_job", "key", "usage")] == [
        MUCH
    ] * 4
    assert store.returned <= 150
    limiter = Limiter(Defaults(), (), measured, UsageAggregator())
    erased = Eraser(store, measured, MemoryCache(0, 0), limiter, tmp_path).erase(OWNER, COMMAND_LINE).erased
    assert (erased.idempotency_keys, erased.exports, erased.keys) == (MUCH, MUCH, MUCH)
    assert measured.changed <= 800
    assert (count(store, "idempotency_keys"), count(store, "export_jobs"), count(store, "api_keys")) == (0, 0, 0)
    [(told, owners)] = store.read(lambda c: c.rows(Sql("SELECT SUM(requests), COUNT(DISTINCT owner) FROM `usage`")))
    assert (int(told), owners) == (MUCH, 1)


def fill(connection: Connection) -> None:
    """Store many rows of everything that an end user has besides conversations."""
    known = IdempotencyRecord(bytes(32), new_id(), new_id())
    for number in range(MUCH):
        idempotency.insert(connection, OWNER, f"key {number}", known, now_us())
        jobs.insert(connection, jobs.Job(new_id(), OWNER, "{}", 1))
        key = keys.Key(new_id(), f"{number:08}", bytes(32), "name", "local", ("chat",), 1, end_user="0" * 32)
        keys.insert(connection, key)
    spent = {UsageKey("local", 7, OWNER, bytes(16), f"model {number}"): UsageTotals(1) for number in range(MUCH)}
    for begin in range(0, MUCH, 100):
        usage.add(connection, dict(list(spent.items())[begin : begin + 100]))


def test_old_rows_are_deleted_in_steps(store: MeasuredDatabase, measured: MeasuredJournal) -> None:
    with closing(Journal(store)) as journal:
        journal.write(fill)
    later = now_us() + 2 * idempotency.KEPT_US
    assert measured.write(lambda c: idempotency.expire(c, later, 10)) == 10
    assert measured.write(lambda c: jobs.expire(c, jobs.NEVER, 10)) == 10
    assert measured.changed == 10
    assert len(store.read(lambda c: usage.summed(c, None, None, (0, 99), ("model",), limit=5))) == 5


def count(database: Database, table: str) -> int:
    return int(database.read(lambda connection: connection.rows(Sql(f"SELECT COUNT(*) FROM {table}")))[0][0])  # noqa: S608
