"""Import increments: they replace, delete and revive conversations."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from chatkeep.domain.conversation import Status, new_id, now_us
from chatkeep.imports.batches import ROWS
from tests.imports.stores import OWNER, Store, a_conversation, exported, increment, records


def test_increment_finds_conversation_with_derived_ids(store: Store) -> None:
    theirs, said = a_conversation()
    store.put((replace(theirs, owner="another owner"), said))
    whole = store.give(owner="another owner")
    assert store.take(whole).conversations == {"added": 1}
    _, conversation, *rest = records(whole)
    report = store.take(increment(conversation | {"title": "New"}, rest[-2]))
    assert (report.conversations, report.problem_count) == ({"updated": 1}, 0)
    assert store.rows("SELECT owner, title FROM conversations ORDER BY title") == [
        (OWNER, "New"),
        ("another owner", "Title"),
    ]
    assert store.take(increment({"object": "tombstone", "id": str(theirs.id), "reason": "deleted"})).conversations == {
        "deleted": 1
    }
    assert store.rows("SELECT owner FROM conversations") == [("another owner",)]


def test_increment_applies_requested_ttl(store: Store) -> None:
    one, said = a_conversation()
    line = records(exported(store, (one, said)))[1]
    store.put((one, said))
    assert store.take(increment(line | {"title": "New"}), ttl=3600).conversations == {"updated": 1}
    found = store.conversation(one.id)
    assert (found.title, found.ttl, found.expires_at is None) == ("New", 3600, False)


def test_increment_replaces_messages_and_fields(store: Store) -> None:
    one, said = a_conversation(2)
    lines = records(exported(store, (one, said)))
    store.put((replace(one, title="Old"), [*said[:3], replace(said[3], content="so far", status=Status.INTERRUPTED)]))
    report = store.take(increment(lines[1] | {"title": "New"}, lines[5]))
    assert (report.conversations, report.messages, report.problem_count) == ({"updated": 1}, 1, 0)
    assert store.conversation(one.id).title == "New"
    assert store.messages(one.id) == said


def test_increment_restores_its_branch(store: Store) -> None:
    one, said = a_conversation(2)
    line = records(exported(store, (one, said)))[1]
    mine = replace(said[3], id=new_id(), timestamp=now_us() + 5, position=5)
    store.put((replace(one, current_id=mine.id, message_count=5, last_active=mine.timestamp, forks=1), [*said, mine]))
    assert store.take(increment(line)).problem_count == 0
    assert store.messages(one.id) == said
    found = store.conversation(one.id)
    assert (found.forks, found.message_count, found.last_active) == (1, 5, mine.timestamp)


def test_increment_of_missing_conversation_is_refused(store: Store) -> None:
    lines = records(exported(store, a_conversation(2)))
    (problem,) = store.take(increment(lines[1], lines[4], lines[5])).problems
    assert "import the export before it first" in problem.reason
    assert store.rows("SELECT COUNT(*) FROM conversations") == [(0,)]


def test_increment_cannot_move_messages(store: Store) -> None:
    one, said = a_conversation(2)
    lines = records(exported(store, (one, said)))
    store.put((one, said))
    (problem,) = store.take(increment(lines[1], lines[2] | {"timestamp": lines[5]["timestamp"]})).problems
    assert "stands elsewhere" in problem.reason
    assert store.messages(one.id) == said


@pytest.mark.parametrize("reason", ["deleted", "expired"])
@pytest.mark.parametrize("turns", [1, ROWS])
def test_tombstone_deletes_only_own_conversation(store: Store, reason: str, turns: int) -> None:
    mine, other = a_conversation(turns), a_conversation(owner="another owner")
    store.put(mine, other)
    stones = [{"object": "tombstone", "id": str(one.id), "reason": reason} for one, _ in (mine, other)]
    assert store.take(increment(*stones)).conversations == {"deleted": 1, "nothing": 1}
    assert store.rows("SELECT conversation_id, reason FROM tombstones") == [(mine[0].id.bytes, reason)]
    assert len(records(store.give())) == 1
    assert store.conversation(other[0].id, "another owner").message_count == 2


@pytest.mark.parametrize("deed", ["change", "deletion"])
def test_conversation_with_running_reply_is_not_changed(store: Store, deed: str) -> None:
    one, said = a_conversation()
    line = records(exported(store, (one, said)))[1]
    store.put((one, said))
    store.lease(one)
    stone = {"object": "tombstone", "id": str(one.id), "reason": "deleted"}
    (problem,) = store.take(increment(line | {"title": "New"} if deed == "change" else stone)).problems
    assert (problem.line, problem.reason[:10]) == (2, "it is busy")
    assert store.conversation(one.id).title == "Title"


def test_increment_revives_expired_conversation(store: Store) -> None:
    one, said = a_conversation()
    line = records(exported(store, (one, said)))[1]
    store.put((replace(one, ttl=60, expires_at=now_us() - 1), said))
    assert store.take(increment(line)).conversations == {"updated": 1}
    assert store.messages(one.id) == said


def test_increment_deletes_expired_conversation(store: Store) -> None:
    one, said = a_conversation()
    line = records(exported(store, (one, said)))[1]
    store.put((one, said))
    report = store.take(increment(line | {"expires_at": "2020-01-01T00:00:00Z"}))
    assert report.conversations == {"expired": 1, "deleted": 1}


def test_later_duplicate_conversation_wins(store: Store) -> None:
    line = records(exported(store, a_conversation()))[1] | {"current_id": None, "message_count": 0}
    assert store.take(increment(line, line | {"title": "Later"})).conversations == {"added": 1, "updated": 1}
    assert [one["title"] for one in records(store.give())[1:]] == ["Later"]
