"""Import conversations of Claude."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chatkeep.domain.conversation import Status
from tests.imports.programs import block, claude, says
from tests.imports.stores import Store
from tests.imports.taken import only, take

pytestmark = pytest.mark.parametrize("stores", ["sqlite"], indirect=True)


ATTACHED = {"file_name": "recipe.txt", "file_type": "text/plain", "extracted_content": "Flour, water."}


CALL = {"type": "tool_use", "name": "web_search", "input": {"query": "salt"}}


RESULT = {"type": "tool_result", "name": "web_search", "content": [says("Salt slows yeast.")]}


def test_conversation_is_imported(store: Store) -> None:
    thought = {"type": "thinking", "thinking": "No salt.", "summaries": [{"summary": "Looked"}]}
    report = take(
        store,
        claude(
            block("m-1", "human", says("What is missing?"), attachments=[ATTACHED]),
            block("m-2", "assistant", thought, says("I check."), CALL, RESULT, says("Salt.")),
            block("m-3", "human", files=[{"file_name": "loaf.jpg"}]),
            block("m-4", "assistant", says("A good crust.")),
            model="claude-x",
        ),
        claude(uuid="c-2"),
    )
    found = only(store)
    assert found.said == [
        ("user", "What is missing?\n\n[file: recipe.txt]\nFlour, water."), ("reply", "I check.\n\nSalt."),
        ("user", "[picture: loaf.jpg]"), ("reply", "A good crust."),
    ]  # fmt: skip
    assert (found.messages[1].reasoning, found.messages[1].model) == ("No salt.", "claude-x")
    assert found.messages[0].timestamp == 1_768_986_001_500_000
    assert report.left_out == {"tool_call": 1, "tool_result": 1, "picture": 1, "empty_conversation": 1}


@pytest.mark.parametrize(
    ("content", "text", "left"),
    [
        ([{"type": "tool_use", "name": "artifacts", "input": {"type": "text/markdown", "content": "# Letter"}}],
         "# Letter", {}),
        ([{"type": "tool_use", "name": "artifacts", "input": {"type": "text/html", "content": "<p>"}}],
         "```html\n<p>\n```", {}),
        ([{"type": "tool_use", "name": "artifacts", "input": {"command": "update", "new_str": "Dear all"}}],
         "Dear all", {}),
        ([{"type": "tool_use", "name": "create_file",
           "input": {"path": "/mnt/user-data/outputs/a.py", "file_text": "print(1)"}}], "```py\nprint(1)\n```", {}),
        ([{"type": "tool_use", "name": "create_file",
           "input": {"path": "/mnt/user-data/outputs/a.md", "file_text": "# Letter"}}], "# Letter", {}),
        ([{"type": "tool_use", "name": "create_file", "input": {"path": "/workspace/a.py", "file_text": "x"}},
          says("Yes.")], "Yes.", {"tool_call": 1}),
        ([{"type": "voice_note", "title": "x", "text": "Spoken."}], "Spoken.", {}),
        ([{"type": "server_tool_use", "input": {}}, {"type": "web_search_tool_result"}, says("Yes.")], "Yes.",
         {"tool_call": 1, "tool_result": 1}),
        ([{"type": "token_budget", "remaining": 7}, {"type": "flag", "flag": "x"}, says("Yes.")], "Yes.", {"flag": 1}),
        ([{"type": "image", "source": {}}], "[picture]", {"picture": 1}),
        ([None, "A string."], "A string.", {}),
    ],
)  # fmt: skip
def test_blocks_are_read(store: Store, content: Any, text: str, left: Any) -> None:
    report = take(store, claude(block("m-1", "human", says("?")), block("m-2", "assistant", *content)))
    assert only(store).said[1:] == [("reply", text)]
    assert report.left_out == left


def test_reply_with_only_tool_calls_keeps_its_position(store: Store) -> None:
    take(
        store,
        claude(block("m-1", "human", says("?")), block("m-2", "assistant", CALL), block("m-3", "human", says("!"))),
    )
    found = only(store)
    assert found.said == [("user", "?"), ("reply", ""), ("user", "!")]
    assert (found.messages[1].status, found.messages[1].finish_reason) == (Status.TRUNCATED, None)


def test_empty_refusal_has_finish_reason(store: Store) -> None:
    take(store, claude(block("m-1", "human", says("?")), block("m-2", "assistant", stop_reason="refusal")))
    refused = only(store).messages[1]
    assert (refused.content, refused.status, refused.finish_reason) == ("", Status.TRUNCATED, "content_filter")


def test_older_messages_have_only_text(store: Store) -> None:
    old = block("m-1", "human", text="Hello")
    del old["content"]
    take(store, claude(old, block("m-2", "assistant", text="Hi")))
    assert only(store).said == [("user", "Hello"), ("reply", "Hi")]


def test_branches_are_kept(store: Store) -> None:
    root = {"parent_message_uuid": "00000000-0000-4000-8000-000000000000"}
    below = {"parent_message_uuid": "m-1"}
    chat = claude(
        block("m-1", "human", says("?"), **root),
        block("m-2", "assistant", says("One."), **below),
        block("m-3", "assistant", says("Two."), **below),
        current_leaf_message_uuid="m-2",
    )
    take(store, chat)
    assert only(store).said == [("user", "?"), ("reply", "One.")]
    assert only(store).conversation.forks == 1


def test_edited_first_question_is_another_branch(store: Store) -> None:
    chat = claude(
        block("m-1", "human", says("?"), parent_message_uuid=None),
        block("m-2", "assistant", says("One."), parent_message_uuid="m-1"),
        block("m-3", "human", says("Well?"), parent_message_uuid=None),
        block("m-4", "assistant", says("Two."), parent_message_uuid="m-3"),
    )
    take(store, chat)
    assert only(store).said == [("user", "Well?"), ("reply", "Two.")]
    assert only(store).conversation.forks == 1


@pytest.mark.parametrize(
    ("odd", "reason"), [(None, "it is not an object"), ({"uuid": "1", "text": "x"}, "it has no author")]
)
def test_bad_message_is_skipped(store: Store, odd: Any, reason: str) -> None:
    report = take(store, claude(block("m-1", "human", says("?")), odd, block("m-3", "assistant", says("Yes."))))
    assert only(store).said == [("user", "?"), ("reply", "Yes.")]
    assert [problem.reason for problem in report.problems] == [f"its message 1 is left out: {reason}"]


@pytest.mark.parametrize(
    "ids", [("m-1", "m-1", "m-3", "m-4"), ("m-1", "m-1", "m-1#2", "m-1#3"), ("m-1#2", "m-1", "m-1", "m-1")]
)
def test_messages_with_duplicate_ids_are_kept_in_order(store: Store, ids: tuple[str, ...]) -> None:
    turns = [("human", "?"), ("assistant", "Yes."), ("human", "Why?"), ("assistant", "So.")]
    chat = claude(*(block(one, sender, says(text)) for one, (sender, text) in zip(ids, turns, strict=True)))
    take(store, chat)
    assert [text for _, text in only(store).said] == ["?", "Yes.", "Why?", "So."]
    assert take(store, chat).conversations == {"present": 1}


PARENTS: dict[str, tuple[Any, ...]] = {
    "on none": (None, None, None, None),
    "on the newer ones": (None, None, None, "3"),
    "on a reply alone": (None, "1", None, None),
    "on questions alone": ("0", None, "2", None),
    "on all but one question": ("0", "1", None, "3"),
    "on a message that is gone": ("0", "1", "9", "3"),
    "on a root that is another message": ("0", "1", "2", "3"),
    "on all, with a root that is there": (None, "1", "2", "3"),
    "as numbers": (0, 1, 2, 3),
}


@pytest.mark.parametrize("parents", PARENTS.values(), ids=PARENTS)
def test_messages_without_parent_follow_the_previous_one(store: Store, parents: tuple[Any, ...]) -> None:
    turns = [("human", "?"), ("assistant", "Yes."), ("human", "Why?"), ("assistant", "So.")]
    said = [
        block(str(number), sender, says(text)) | ({} if parent is None else {"parent_message_uuid": parent})
        for number, ((sender, text), parent) in enumerate(zip(turns, parents, strict=True), 1)
    ]
    take(store, claude(*said))
    assert [text for _, text in only(store).said] == ["?", "Yes.", "Why?", "So."]


def test_replies_may_precede_their_questions(store: Store) -> None:
    root, below = {"parent_message_uuid": "0"}, {"parent_message_uuid": "m-1"}
    times = {"created_at": None}
    asked = block("m-1", "human", says("?")) | root | times
    take(store, claude(block("m-2", "assistant", says("Yes.")) | below | times, asked))
    assert only(store).said == [("user", "?"), ("reply", "Yes.")]


def test_ids_may_be_numbers(store: Store) -> None:
    said = [block("m-1", "human", says("?"), uuid=1), block("m-2", "assistant", says("Yes."), uuid=2)]
    take(store, claude(*said, uuid=7))
    grown = claude(*said, block("m-3", "human", says("Why?"), uuid=3), uuid=7)
    assert take(store, grown).conversations == {"updated": 1}
    assert [text for _, text in only(store).said] == ["?", "Yes.", "Why?"]


@pytest.mark.parametrize(
    ("files", "newer", "marks"),
    [
        ([{"file_name": "a.pdf"}], [{"file_name": "a.pdf", "file_kind": "document"}], ["[file: a.pdf]"]),
        ([{"file_name": "a.pdf"}], [{"file_name": "loaf", "file_kind": "image"}, {"file_name": "a.pdf"}],
         ["[file: a.pdf]", "[picture: loaf]"]),
        ([], [{"file_name": "b.png"}, {"file_name": "b.png"}], ["[picture: b.png]", "[picture: b.png]"]),
        ([{}], [{}, {}], ["[file]", "[file]"]),
        ([{"file_name": "recipe.txt"}, {"file_name": "c.txt"}], [{"file_name": "recipe.txt"}], ["[file: c.txt]"]),
    ],
)  # fmt: skip
def test_files_listed_twice_are_counted_once(store: Store, files: Any, newer: Any, marks: list[str]) -> None:
    named = [{"file_name": "recipe.txt", "file_type": "text/plain", "extracted_content": ""}]
    asked = block("m-1", "human", files=files, files_v2=newer, attachments=named)
    report = take(store, claude(asked))
    assert only(store).said == [("user", "\n".join(["[file: recipe.txt]", *marks]))]
    assert report.left_out.total() == 1 + len(marks)


def test_truncated_reply_is_replaced_by_whole_one(store: Store) -> None:
    asked = block("m-1", "human", says("?"))
    cut = block("m-2", "assistant", says("On"), stop_reason="max_tokens")
    more = block("m-2", "assistant", says("One, tw"), stop_reason="max_tokens")
    whole = block("m-2", "assistant", says("One, two."))
    thanks = block("m-3", "human", says("Thanks."))
    take(store, claude(asked, cut, thanks))
    first = only(store)
    for file, fate in ((more, "updated"), (more, "present"), (cut, "present"), (whole, "updated"), (whole, "present")):
        assert take(store, claude(asked, file, thanks)).conversations == {fate: 1}
    assert take(store, claude(asked, more, thanks)).conversations == {"present": 1}
    found = only(store)
    assert found.said == [("user", "?"), ("reply", "One, two."), ("user", "Thanks.")]
    assert found.messages[1].status is Status.COMPLETED
    places = [
        [(one.id, one.parent_id, one.position, one.timestamp) for one in taken.messages] for taken in (first, found)
    ]
    assert places[0] == places[1]


def test_continued_conversation_gets_whole_reply(store: Store) -> None:
    asked, thanks = block("m-1", "human", says("?")), block("m-3", "human", says("Thanks."))
    take(store, claude(asked, block("m-2", "assistant", says("On"), stop_reason="max_tokens"), thanks))
    assert take(store, claude(asked, block("m-2", "assistant", says("One.")))).conversations == {"updated": 1}
    assert [text for _, text in only(store).said] == ["?", "One.", "Thanks."]


def test_whole_reply_is_placed_beside_own_branch(store: Store) -> None:
    asked, cut = block("m-1", "human", says("?")), block("m-2", "assistant", says("On"), stop_reason="max_tokens")
    other = block("m-4", "assistant", says("Two."), parent_message_uuid="m-1")
    root = {"parent_message_uuid": "0"}
    tree = [asked | root, cut | {"parent_message_uuid": "m-1"}, other]
    take(store, claude(*tree, current_leaf_message_uuid="m-4"))
    whole = block("m-2", "assistant", says("One, two."), parent_message_uuid="m-1")
    assert take(store, claude(tree[0], whole, other, current_leaf_message_uuid="m-2")).conversations == {"updated": 1}
    assert only(store).said == [("user", "?"), ("reply", "Two.")]
    texts = store.rows("SELECT content, on_branch, status FROM messages ORDER BY position")
    assert texts == [("?", 1, "completed"), ("One, two.", 0, "completed"), ("Two.", 1, "completed")]


@pytest.mark.parametrize("sender", ["Human", "USER"])
def test_roles_are_read_ignoring_case(store: Store, sender: str) -> None:
    report = take(store, claude(block("m-1", sender, says("?")), block("m-2", "Assistant", says("Yes."))))
    assert (only(store).said, report.left_out) == ([("user", "?"), ("reply", "Yes.")], {})


def test_lines_are_read_with_a_long_first_line(store: Store) -> None:
    chats = [
        claude(block("m-1", "human", says("Long. " * 100_000))),
        claude(block("m-1", "human", says("?")), uuid="c-2"),
    ]
    report = store.take("\n".join(map(json.dumps, chats)).encode())
    assert (report.conversations, report.problem_count) == ({"added": 2}, 0)
