"""Import whole exports: missing messages are added, nothing is duplicated, and bad records are reported."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from msgspec.structs import replace

from chatkeep.conversations.service import Changes, change_conversation, delete_conversation
from chatkeep.domain.conversation import Message, Status, id_of, new_id, now_us
from chatkeep.imports import UnknownFile
from chatkeep.imports.batches import ROWS
from chatkeep.store import conversations
from tests.imports.stores import HOUR, OWNER, Store, a_conversation, changed, exported, increment, records, resealed

FORMATS = ["json", "ndjson"]


def buried(store: Store) -> int:
    return int(store.rows("SELECT COUNT(*) FROM tombstones")[0][0])


@pytest.mark.parametrize("name", FORMATS)
def test_second_import_adds_and_overwrites_nothing(store: Store, name: str) -> None:
    (one, said), two = a_conversation(2), a_conversation()
    file = exported(store, (one, said), two, name=name)
    assert store.take(file).conversations == {"added": 2}
    change_conversation(store.database, store.journal, OWNER, one.id, Changes(title="Mine"))
    again = store.take(file)
    assert (again.conversations, again.messages, again.problem_count) == ({"present": 2}, 0, 0)
    assert store.conversation(one.id).title == "Mine"
    assert [message.content for message in store.messages(one.id)] == [message.content for message in said]


@pytest.mark.parametrize("name", FORMATS)
def test_missing_messages_are_added(store: Store, name: str) -> None:
    one, said = a_conversation(turns=ROWS)
    file = exported(store, (one, said), name=name)
    store.put((replace(one, current_id=said[499].id), said[:500]))
    report = store.take(file)
    assert (report.conversations, report.messages) == ({"updated": 1}, len(said) - 500)
    assert records(store.give()) == records(file) if name == "ndjson" else store.messages(one.id) == said


def test_own_branch_is_kept_beside_the_files(store: Store) -> None:
    one, said = a_conversation(2)
    mine = replace(said[3], id=new_id(), timestamp=now_us(), content="mine")
    file = exported(store, (one, said))
    store.put((replace(one, current_id=mine.id), [*said[:3], mine]))
    assert store.take(file).messages == 1
    assert [message.content for message in store.messages(one.id)] == ["said 1", "said 2", "said 3", "mine"]
    assert (store.conversation(one.id).forks, store.conversation(one.id).message_count) == (1, 5)


@pytest.mark.parametrize(
    ("text", "wrong", "reason"),
    [
        (b'"role":"user"', b'"role":"king"', "Invalid enum value 'king'"),
        (b'"content":"said 1"', b'"content":"said 1', "not valid JSON"),
        (b'"position":1', b'"position":0', "Expected `int` >= 1"),
        (b'"on_branch":true,', b"", "missing required field `on_branch`"),
        (b'"content":"said 1"', b'"content":"\\ud800"', "not valid JSON"),
        (b'"content":"said 1"', b'"content":"\xff"', "not valid JSON"),
        (b'"usage":null', b'"usage":' + b"[" * 5000 + b"]" * 5000, "not as it should be"),
    ],
)
def test_bad_message_skips_only_its_conversation(store: Store, text: bytes, wrong: bytes, reason: str) -> None:
    made = [a_conversation(at=HOUR * number) for number in (1, 2, 3)]
    lines = exported(store, *made).splitlines(keepends=True)
    lines[5] = changed(lines[5], (text, wrong))
    report = store.take(resealed(b"".join(lines[:-1])))
    assert [problem.line for problem in report.problems] == [6, 5]
    assert reason in report.problems[0].reason
    assert [one["id"] for one in records(store.give()) if one["object"] == "conversation"] == [
        str(made[0][0].id), str(made[2][0].id),
    ]  # fmt: skip


def test_bad_conversation_is_reported_by_line(store: Store) -> None:
    made = [a_conversation(at=HOUR * number) for number in (1, 2, 3)]
    lines = exported(store, *made, name="json").splitlines(keepends=True)
    begins = next(number for number, line in enumerate(lines) if str(made[1][0].id).encode() in line)
    lines[begins] = changed(lines[begins], (b'"ttl":null', b'"ttl":-5'))
    report = store.take(resealed(b"".join(lines[:-1]), b'"end":', b"}"))
    assert [(problem.line, "$.ttl" in problem.reason) for problem in report.problems] == [(begins + 1, True)]
    assert report.conversations == {"added": 2}


def test_unreadable_sibling_skips_conversation(store: Store) -> None:
    one, said = a_conversation()
    newer = replace(said[1], id=new_id(), timestamp=said[1].timestamp + 1, position=3)
    lines = exported(store, (replace(one, current_id=newer.id, message_count=3), [*said, newer])).splitlines(
        keepends=True
    )
    lines[3] = b"lost\n"
    report = store.take(resealed(b"".join(lines[:-1])))
    assert [(problem.line, problem.reason[:14]) for problem in report.problems][1:] == [(2, "it is left out")]
    assert report.conversations == {}


def test_unreadable_line_skips_its_messages(store: Store) -> None:
    made = [a_conversation(at=HOUR * number) for number in (1, 2, 3)]
    lines = exported(store, *made).splitlines(keepends=True)
    lines[4] = b"lost\n"  # the second conversation, but the reader can't know
    report = store.take(resealed(b"".join(lines[:-1])))
    assert [problem.line for problem in report.problems] == [5]
    assert report.conversations == {"added": 2}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda said: [said[0], replace(said[1], timestamp=said[0].timestamp)], "the same timestamp"),
        (lambda said: [said[0], replace(said[1], parent_id=new_id())], "which is not there"),
        (lambda said: [replace(said[0], parent_id=said[1].id), said[1]], "not later than its parent"),
        (lambda said: [replace(said[0], parent_id=said[0].id), said[1]], "not later than its parent"),
        (lambda said: [said[0]], "which is not there"),
    ],
    ids=["one time", "no parent", "circle", "own parent", "no end"],
)
def test_invalid_tree_is_refused(store: Store, change: Any, reason: str) -> None:
    one, said = a_conversation()
    lines = records(exported(store, (one, said)))
    found = {message.id: message for message in change(said)}
    kept = [
        line | placed(found[message.id]) for line, message in zip(lines[2:], said, strict=True) if message.id in found
    ]
    report = store.take(resealed(b"".join(json.dumps(line).encode() + b"\n" for line in (*lines[:2], *kept))))
    assert [(problem.line, reason in problem.reason) for problem in report.problems] == [(2, True)]
    assert store.rows("SELECT COUNT(*) FROM conversations") == [(0,)]


def placed(message: Message) -> dict[str, Any]:
    at = f"{message.timestamp % 1_000_000:06d}Z"
    return {
        "parent_id": str(message.parent_id) if message.parent_id else None,
        "timestamp": f"2026-11-24T10:00:00.{at}",
    }


@pytest.mark.parametrize("gone", [False, True])
def test_foreign_ids_get_stable_replacements(store: Store, *, gone: bool) -> None:
    """Also if theirs is deleted, and only its tombstone is left."""
    one, two = a_conversation(), a_conversation()
    file = exported(store, one, two)
    store.put((replace(one[0], owner="another owner"), one[1]))
    if gone:
        store.journal.write(lambda by: conversations.delete(by, "another owner", one[0].id, now_us()))
    assert store.take(file).conversations == {"added": 2}
    assert store.take(file).conversations == {"present": 2}
    ((mine,),) = store.rows(
        "SELECT id FROM conversations WHERE owner = :owner AND id <> :id", owner=OWNER, id=two[0].id.bytes
    )
    copied = [message.content for message in store.messages(id_of(mine))]
    assert copied == [message.content for message in one[1]]
    assert store.conversation(id_of(mine)).current_id == store.messages(id_of(mine))[-1].id
    kept = store.rows("SELECT owner FROM conversations WHERE id = :id", id=one[0].id.bytes)
    buried = store.rows("SELECT owner FROM tombstones WHERE conversation_id = :id", id=one[0].id.bytes)
    assert (kept, buried) == (([], [("another owner",)]) if gone else ([("another owner",)], []))


@pytest.mark.parametrize("owner", [OWNER, "another owner"])
def test_ids_of_other_messages_are_refused(store: Store, owner: str) -> None:
    (one, said), (two, _) = a_conversation(), a_conversation()
    file = exported(store, (one, said))
    moved = [replace(message, conversation_id=two.id) for message in said]
    store.put((replace(two, owner=owner, current_id=said[-1].id), moved))
    (problem,) = store.take(file).problems
    assert (problem.line, problem.reason) == (2, "the id of one of its messages belongs to something else")
    assert store.rows("SELECT COUNT(*) FROM conversations") == [(1,)]


@pytest.mark.parametrize("name", FORMATS)
def test_expired_conversation_is_skipped_unless_renewed(store: Store, name: str) -> None:
    expired, pinned = a_conversation(ttl=60, expires_at=4_000_000_000_000_000), a_conversation(ttl=60, pinned=True)
    file = exported(store, expired, pinned, name=name)
    file = changed(file, (b'"expires_at":"2096-10-02T07:06:40.000000Z"', b'"expires_at":"2020-10-02T07:06:40.000000Z"'))
    assert store.take(file).conversations == {"expired": 1, "added": 1}
    before = now_us()
    assert store.take(file, renew=True).conversations == {"added": 1, "present": 1}
    found = store.conversation(expired[0].id)
    assert found.expires_at is not None
    assert before < found.expires_at - 60_000_000 < now_us()
    assert found.last_active == expired[0].last_active


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("ttl", [None, 3600])
def test_requested_ttl_applies_to_own_exports(store: Store, name: str, ttl: int | None) -> None:
    expired, kept = a_conversation(ttl=60, expires_at=4_000_000_000_000_000), a_conversation()
    file = exported(store, expired, kept, name=name)
    file = changed(file, (b'"expires_at":"2096-10-02T07:06:40.000000Z"', b'"expires_at":"2020-10-02T07:06:40.000000Z"'))
    before = now_us()
    assert store.take(file, ttl=ttl).conversations == {"added": 2}
    for one, _ in (expired, kept):
        found = store.conversation(one.id)
        assert found.ttl == ttl
        assert found.expires_at is None if ttl is None else before < (found.expires_at or 0) - ttl * 10**6 < now_us()


def test_running_reply_is_imported_as_interrupted(store: Store) -> None:
    one, (asked, reply) = a_conversation()
    file = exported(store, (one, [asked, replace(reply, status=Status.GENERATING)]))
    assert store.take(file).problem_count == 0
    _, found = store.messages(one.id)
    assert (found.status, found.error, found.content) == (Status.INTERRUPTED, "reply_interrupted", reply.content)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda file: changed(file, (b"said 2", b"said 3")), "the seal does not fit"),
        (lambda file: file[: file.rindex(b"\n", 0, -1) + 1], "the file is cut"),
        (lambda file: file[: file.rindex(b'"sha256"')], "the file is cut"),
    ],
    ids=["changed", "no last line", "half of it"],
)
def test_missing_or_wrong_seal_is_reported(store: Store, name: str, change: Any, reason: str) -> None:
    report = store.take(change(exported(store, a_conversation(), name=name)))
    assert [reason in problem.reason for problem in report.problems[-1:]] == [True]
    assert report.conversations == {"added": 1}


@pytest.mark.parametrize("name", FORMATS)
def test_truncated_file_imports_its_complete_part(store: Store, name: str) -> None:
    made = [a_conversation(at=HOUR * number) for number in (1, 2, 3)]
    file = exported(store, *made, name=name)
    report = store.take(file[: file.index(str(made[2][1][1].id).encode())])
    assert report.conversations == {"added": 2}
    assert report.problems


@pytest.mark.parametrize("indent", [None, 2])
def test_document_may_be_reformatted(store: Store, indent: int | None) -> None:
    file = exported(store, a_conversation(2), a_conversation(), name="json")
    report = store.take(json.dumps(json.loads(file), indent=indent).encode())
    assert [problem.reason[:21] for problem in report.problems] == ["the seal does not fit"]
    assert report.conversations == {"added": 2}
    assert store.give("json").splitlines()[:-1] == file.splitlines()[:-1]


def test_conversation_changed_during_export_is_corrected(store: Store) -> None:
    one, said = a_conversation(2)
    lines = exported(store, (one, said)).splitlines(keepends=True)
    earlier = [(b'"message_count":4', b'"message_count":2'), (str(said[3].id).encode(), str(said[1].id).encode())]
    lines[1] = changed(lines[1], *earlier)
    assert store.take(resealed(b"".join(lines[:-1]))).problem_count == 0
    found = store.conversation(one.id)
    assert (found.message_count, found.current_id, found.last_active) == (4, said[3].id, said[3].timestamp)


@pytest.mark.parametrize("turns", [1, ROWS])
def test_deleted_conversation_is_restored(store: Store, turns: int) -> None:
    one = a_conversation(turns)
    file = exported(store, one)
    store.take(file)
    delete_conversation(store.journal, OWNER, one[0].id)
    assert buried(store) == 1
    assert store.take(file).conversations == {"added": 1}
    assert buried(store) == 0
    assert records(store.give()) == records(file)


def test_at_most_a_thousand_problems_are_listed(store: Store) -> None:
    report = store.take(increment(*["none"] * 1500))
    assert (len(report.problems), report.problem_count) == (1000, 1500)


@pytest.mark.parametrize(
    "file",
    [
        b"", b"{}", b"[", b"[1, 2]", b'[{"title": "x"}]', b"hello", b'"export"', b'{"object": "list", "data": []}',
        b'{"object":"export","version":2}\n', b'{"object":"export","version":2,"conversations":[]}', b"\x00" * 100,
        b"[" * 100_000,
    ],
    ids=lambda file: repr(file[:50]),
)  # fmt: skip
def test_other_files_are_refused(store: Store, file: bytes) -> None:
    with pytest.raises(UnknownFile):
        store.take(file)


def test_rows_equal_those_of_turns(store: Store) -> None:
    one, said = a_conversation(2)
    store.take(exported(store, (one, said)))
    written = store.rows("SELECT written, on_branch, epoch FROM messages")
    assert [(length, on, epoch > 0) for length, on, epoch in written] == [(6, 1, True)] * 4
    found = store.journal.write(lambda connection: conversations.lock(connection, OWNER, one.id, now_us()))
    assert found == replace(one, metadata={})


def test_concurrent_imports_make_no_duplicates(store: Store) -> None:
    """Imports two thousand messages twice at the same time: a second."""
    made = [a_conversation(40, at=HOUR * number) for number in range(1, 10)]
    file = exported(store, *made, a_conversation(ROWS))
    with Store(store.url) as beside, ThreadPoolExecutor(2) as both:
        reports = list(both.map(lambda one: one.take(file), (store, beside)))
    assert [report.problem_count for report in reports] == [0, 0]
    assert records(store.give()) == records(file)
