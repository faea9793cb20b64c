"""Guarantees of the tables' functions that the API can't show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

import pytest
from msgspec.structs import replace

from chatkeep.conversations import branches
from chatkeep.domain.conversation import Role, Said, Status, Usage, new_id, now_us
from chatkeep.store import conversations, idempotency, leases, messages
from chatkeep.store.conversations import Position
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.leases import Lease
from chatkeep.store.sql import Connection
from chatkeep.store.transaction import Transaction
from tests.store.examples import a_conversation, a_message, a_reply, stored_reply

T = TypeVar("T")
ODD = "a\0b 😀👩‍👩‍👧 ﷽ שלום e\u0301 \u2028\r\n\t\\ ' \" % _ \U0010ffff \uffff "


def write(journal: Journal, function: Callable[..., T], *arguments: Any) -> T:
    """Return the result of a writing function after its commit."""
    return journal.write(lambda connection: function(connection, *arguments))


def read(database: Database, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Return the result of a reading function."""
    return database.read(lambda connection: function(connection, *arguments, **options))


def test_every_character_is_stored_unchanged(database: Database, journal: Journal) -> None:
    made = a_conversation(title=ODD, system=ODD, metadata={ODD: [ODD]}, ttl=5, expires_at=now_us() * 2, pinned=True)
    said = a_message(made, content=ODD, role=Role.USER)
    reply = a_message(
        made, content=ODD, reasoning=ODD, role=Role.ASSISTANT, model="m", finish_reason="stop", usage=Usage(1, 2),
        parent_id=said.id, position=2, timestamp=said.timestamp + 1, status=Status.TRUNCATED, error="x", cached=True,
    )  # fmt: skip

    write(journal, conversations.insert, made)
    write(journal, messages.insert, said)
    write(journal, messages.insert, reply)
    assert read(database, conversations.get, "me", made.id, now_us()) == made
    assert read(database, messages.page, made.id, limit=9, after=None, ascending=True) == [said, reply]


def test_owners_cannot_reach_foreign_conversations(database: Database, journal: Journal) -> None:
    mine, now = a_conversation(owner="me"), now_us()
    write(journal, conversations.insert, mine)
    with database.connection() as connection:
        assert conversations.get(connection, "you", mine.id, now) is None
        assert conversations.lock(connection, "you", mine.id, now) is None
        assert listed(connection, "you") == []
        assert conversations.latest(connection, "you") is None
    assert not write(journal, conversations.delete, "you", mine.id, now)
    write(journal, conversations.update, replace(mine, owner="you", title="stolen"))
    assert read(database, conversations.get, "me", mine.id, now) == mine


def listed(
    connection: Connection, owner: str, *, after: Position | None = None, ascending: bool = False
) -> list[Position]:
    found = conversations.by_activity(connection, owner, now_us(), limit=3, after=after, ascending=ascending)
    return [Position(item.last_active, item.id) for item in found]


@pytest.mark.parametrize("ascending", [True, False])
def test_pages_with_equal_times_have_no_gaps_or_duplicates(
    database: Database, journal: Journal, *, ascending: bool
) -> None:
    made = [a_conversation(last_active=1000 + number // 5) for number in range(20)]
    for one in made:
        write(journal, conversations.insert, one)
    found: list[Position] = []
    with database.connection() as connection:
        while page := listed(connection, "me", after=found[-1] if found else None, ascending=ascending):
            found += page
    in_order = sorted(made, key=lambda one: (one.last_active, one.id), reverse=not ascending)
    assert [place.id for place in found] == [one.id for one in in_order]


def test_expired_conversation_is_never_found(database: Database, journal: Journal) -> None:
    now = now_us()
    made = a_conversation(ttl=1, expires_at=now)
    write(journal, conversations.insert, made)
    with database.connection() as connection:
        assert conversations.get(connection, "me", made.id, now - 1) == made
        assert conversations.get(connection, "me", made.id, now) is None
        assert conversations.lock(connection, "me", made.id, now) is None
        assert listed(connection, "me") == []


@pytest.mark.parametrize(
    ("fields", "expires"),
    [({"ttl": 60}, 5_000_000 + 60_000_000), ({"ttl": None}, None), ({"ttl": 60, "pinned": True}, None)],
)
def test_activity_postpones_expiry(
    database: Database, journal: Journal, fields: dict[str, Any], expires: int | None
) -> None:
    made = a_conversation(last_active=1_000_000, **fields)
    write(journal, conversations.insert, made)
    write(journal, conversations.touch, made.id, 5_000_000)
    write(journal, conversations.touch, made.id, 4_000_000)
    found = read(database, conversations.get, "me", made.id, 0)
    assert found == replace(made, last_active=5_000_000, expires_at=expires)


def test_deletion_cascades_to_messages_and_leases(database: Database, journal: Journal) -> None:
    reply = stored_reply(journal)
    write(journal, leases.acquire, Lease(reply.conversation_id, reply.id, new_id(), stop=False))
    assert write(journal, conversations.delete, "me", reply.conversation_id, now_us())
    with database.connection() as connection:
        assert messages.get(connection, reply.conversation_id, reply.id) is None
        assert leases.of_conversation(connection, reply.conversation_id) is None


def test_reply_ends_once(database: Database, journal: Journal) -> None:
    reply = stored_reply(journal)
    for status, reason in [(Status.COMPLETED, "stop"), (Status.INTERRUPTED, None)]:
        write(journal, messages.finish, replace(reply, status=status, finish_reason=reason))
    found = read(database, messages.get, reply.conversation_id, reply.id)
    assert found == replace(reply, status=Status.COMPLETED, finish_reason="stop")


def test_lease_is_released_once_by_its_holder(journal: Journal) -> None:
    reply = stored_reply(journal)
    lease = leases.Lease(reply.conversation_id, reply.id, new_id(), stop=False)
    write(journal, leases.acquire, lease)
    others = [replace(lease, worker_id=new_id()), replace(lease, reply_id=new_id())]
    given = [write(journal, leases.release, one) for one in (*others, lease, lease)]
    assert given == [False, False, True, False]


def test_heartbeat_grows_and_returns_after_removal(database: Database, journal: Journal) -> None:
    me, other = new_id(), new_id()
    for worker in (me, other, me, me):
        write(journal, leases.heartbeat, worker)
    assert database.read(leases.heartbeats) == {me: 2, other: 0}
    write(journal, leases.forget, me)
    write(journal, leases.heartbeat, me)
    assert database.read(leases.heartbeats) == {me: 0, other: 0}


def test_idempotency_key_is_kept_per_owner_for_a_day(journal: Journal) -> None:
    known, now = idempotency.IdempotencyRecord(b"x" * 32, new_id(), new_id()), now_us()
    write(journal, idempotency.insert, "me", "key", known, now)

    def found(owner: str, at: int) -> idempotency.IdempotencyRecord | None:
        return write(journal, idempotency.get, owner, "key", at)

    day = 24 * 3600 * 1_000_000
    assert [found("me", now), found("me", now + day), found("you", now)] == [known, known, None]
    assert found("me", now + day + 1) is None
    assert found("me", now) is None


def test_old_idempotency_keys_are_deleted(journal: Journal) -> None:
    known, now = idempotency.IdempotencyRecord(b"x" * 32, new_id(), new_id()), now_us()
    for age in range(5):
        at = now - age * 10 * 3600 * 1_000_000
        write(journal, idempotency.insert, "me", str(at), known, at)
    assert write(journal, idempotency.expire, now, 400) == 2


def test_latest_messages_are_of_branch_up_to_time(database: Database, journal: Journal) -> None:
    made = a_conversation()
    write(journal, conversations.insert, made)
    for number in range(6):
        said = a_message(made, timestamp=1000 + number, content=f"{number}", position=number)
        write(journal, messages.insert, said)
    assert read(database, messages.latest, made.id, 1004, 3) == [Said(Role.USER, text) for text in "234"]


def test_switched_branch_has_only_path_to_tip(database: Database, journal: Journal) -> None:
    made, at = a_conversation(), now_us()
    tree = [a_reply(made, content=name, timestamp=at + number) for number, name in enumerate("abcd")]
    a, b, c, d = tree[0], *(replace(tree[n], parent_id=tree[parent].id) for n, parent in ((1, 0), (2, 1), (3, 0)))

    def grow(connection: Transaction) -> None:
        conversations.insert(connection, made)
        for one in (a, b, c):
            messages.insert(connection, one)
        at_a = branches.switch_locked(connection, replace(made, current_id=c.id), a.id)
        messages.insert(connection, d)
        conversations.update(connection, replace(at_a, current_id=d.id))

    def switch(connection: Transaction, tip: UUID | None) -> None:
        found = conversations.lock(connection, "me", made.id, now_us())
        assert found
        conversations.update(connection, branches.switch_locked(connection, found, tip))

    def branch() -> str:
        page = read(database, messages.page, made.id, limit=9, after=None, ascending=True)
        return "".join(one.content for one in page or [])

    journal.write(grow)
    seen = [branch()]
    for tip in (c.id, b.id, a.id, None, d.id):
        write(journal, switch, tip)
        seen.append(branch())
    assert seen == ["ad", "abc", "ab", "a", "", "ad"]
    assert read(database, messages.siblings, made.id, [a, d]) == {d.id: [b.id, d.id]}
