"""Exports of Claude, DeepSeek and LibreChat."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chatkeep.domain.conversation import Status
from tests.imports.stores import Store
from tests.imports.taken import only, take, taken

pytestmark = pytest.mark.parametrize("stores", ["sqlite"], indirect=True)


def claude(*messages: Any, **fields: Any) -> dict[str, Any]:
    times = {"created_at": "2026-01-21T09:00:00.000000Z", "updated_at": "2026-01-21T09:02:00.000000Z"}
    return {"uuid": "c-1", "name": "Bread", "account": {}, "chat_messages": list(messages)} | times | fields


def block(id: str, sender: str, *content: Any, **fields: Any) -> dict[str, Any]:
    """Return a message of Claude's."""
    return {"uuid": id, "sender": sender, "text": "", "content": list(content), "attachments": [], "files": [],
            "created_at": f"2026-01-21T09:00:0{id[-1]}.5Z"} | fields  # fmt: skip


def says(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "citations": []}


ATTACHED = {"file_name": "recipe.txt", "file_type": "text/plain", "extracted_content": "Flour, water."}
CALL = {"type": "tool_use", "name": "web_search", "input": {"query": "salt"}}
RESULT = {"type": "tool_result", "name": "web_search", "content": [says("Salt slows yeast.")]}


def test_a_conversation_of_claude_becomes_ours(store: Store) -> None:
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
def test_blocks_of_claude(store: Store, content: Any, text: str, left: Any) -> None:
    report = take(store, claude(block("m-1", "human", says("?")), block("m-2", "assistant", *content)))
    assert only(store).said[1:] == [("reply", text)]
    assert report.left_out == left


def test_a_reply_of_claude_that_only_called_tools_keeps_its_place(store: Store) -> None:
    take(
        store,
        claude(block("m-1", "human", says("?")), block("m-2", "assistant", CALL), block("m-3", "human", says("!"))),
    )
    found = only(store)
    assert found.said == [("user", "?"), ("reply", ""), ("user", "!")]
    assert (found.messages[1].status, found.messages[1].finish_reason) == (Status.TRUNCATED, None)


def test_a_refusal_of_claude_without_a_word_says_that_it_is_one(store: Store) -> None:
    take(store, claude(block("m-1", "human", says("?")), block("m-2", "assistant", stop_reason="refusal")))
    refused = only(store).messages[1]
    assert (refused.content, refused.status, refused.finish_reason) == ("", Status.TRUNCATED, "content_filter")


def test_older_messages_of_claude_have_a_text_only(store: Store) -> None:
    old = block("m-1", "human", text="Hello")
    del old["content"]
    take(store, claude(old, block("m-2", "assistant", text="Hi")))
    assert only(store).said == [("user", "Hello"), ("reply", "Hi")]


def test_branches_of_claude_are_kept(store: Store) -> None:
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


def test_an_edited_first_question_of_claude_is_another_branch(store: Store) -> None:
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
def test_an_odd_message_of_claude_costs_itself(store: Store, odd: Any, reason: str) -> None:
    report = take(store, claude(block("m-1", "human", says("?")), odd, block("m-3", "assistant", says("Yes."))))
    assert only(store).said == [("user", "?"), ("reply", "Yes.")]
    assert [problem.reason for problem in report.problems] == [f"its message 1 is left out: {reason}"]


@pytest.mark.parametrize(
    "ids", [("m-1", "m-1", "m-3", "m-4"), ("m-1", "m-1", "m-1#2", "m-1#3"), ("m-1#2", "m-1", "m-1", "m-1")]
)
def test_messages_with_one_id_are_all_kept_in_their_order(store: Store, ids: tuple[str, ...]) -> None:
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
def test_messages_that_name_no_parent_follow_the_one_before_them(store: Store, parents: tuple[Any, ...]) -> None:
    turns = [("human", "?"), ("assistant", "Yes."), ("human", "Why?"), ("assistant", "So.")]
    said = [
        block(str(number), sender, says(text)) | ({} if parent is None else {"parent_message_uuid": parent})
        for number, ((sender, text), parent) in enumerate(zip(turns, parents, strict=True), 1)
    ]
    take(store, claude(*said))
    assert [text for _, text in only(store).said] == ["?", "Yes.", "Why?", "So."]


def test_a_list_may_have_replies_before_their_questions(store: Store) -> None:
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
def test_files_that_claude_lists_twice_are_counted_once(store: Store, files: Any, newer: Any, marks: list[str]) -> None:
    named = [{"file_name": "recipe.txt", "file_type": "text/plain", "extracted_content": ""}]
    asked = block("m-1", "human", files=files, files_v2=newer, attachments=named)
    report = take(store, claude(asked))
    assert only(store).said == [("user", "\n".join(["[file: recipe.txt]", *marks]))]
    assert report.left_out.total() == 1 + len(marks)


def test_a_reply_that_was_cut_is_replaced_by_the_whole_one(store: Store) -> None:
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


def test_a_conversation_that_went_on_here_gets_the_whole_reply_amid_it(store: Store) -> None:
    asked, thanks = block("m-1", "human", says("?")), block("m-3", "human", says("Thanks."))
    take(store, claude(asked, block("m-2", "assistant", says("On"), stop_reason="max_tokens"), thanks))
    assert take(store, claude(asked, block("m-2", "assistant", says("One.")))).conversations == {"updated": 1}
    assert [text for _, text in only(store).said] == ["?", "One.", "Thanks."]


def test_a_whole_reply_goes_to_its_place_beside_a_branch_of_ones_own(store: Store) -> None:
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


def deepseek(*messages: Any, **fields: Any) -> dict[str, Any]:
    mapping: dict[str, Any] = {"root": {"id": "root", "parent": None, "children": ["1"], "message": None}}
    for number, one in enumerate(messages, 1):
        mapping[str(number)] = {"parent": str(number - 1) if number > 1 else "root", "message": one, "children": []}
    return {
        "id": "d-1",
        "title": "俳句",
        "inserted_at": "2026-03-01T10:00:00.000000+08:00",
        "mapping": mapping,
    } | fields


def fragments(*parts: tuple[str, str | None], **fields: Any) -> dict[str, Any]:
    made = [{"type": kind, "content": text} for kind, text in parts]
    return {"files": [], "model": "deepseek-reasoner", "inserted_at": "2026-03-01T10:00:05.000000+08:00",
            "fragments": made} | fields  # fmt: skip


def test_a_conversation_of_deepseek_becomes_ours(store: Store) -> None:
    take(
        store,
        deepseek(
            fragments(("REQUEST", "写一首")), fragments(("THINK", "五七五"), ("SEARCH", None), ("RESPONSE", "古池や"))
        ),
    )
    found = only(store)
    assert found.said == [("user", "写一首"), ("reply", "古池や")]
    assert (found.messages[1].reasoning, found.messages[1].model) == ("五七五", "deepseek-reasoner")
    assert (found.conversation.title, found.conversation.created_at) == ("俳句", 1_772_330_400_000_000)


@pytest.mark.parametrize(
    ("message", "text", "left"),
    [
        (fragments(("TEMPLATE_RESPONSE", "Sorry.")), "Sorry.", {}),
        (fragments(("TOOL_SEARCH", None), ("READ_LINK", "x"), ("RESPONSE", "Yes.")), "Yes.", {"tool_call": 2}),
        (fragments(("TIP", None), ("RESPONSE", "Yes.")), "Yes.", {"TIP": 1}),
        ({"fragments": [{"type": "RESPONSE", "content": {"text": "Yes."}}]}, "Yes.", {}),
        ({"fragments": [{"type": "RESPONSE", "content": {"a": 1}}]}, "", {"RESPONSE": 1}),
        ({"role": "assistant", "content": "Yes.", "reasoning_content": "Hm"}, "Yes.", {}),
    ],
)  # fmt: skip
def test_fragments_of_deepseek(store: Store, message: Any, text: str, left: Any) -> None:
    report = take(store, deepseek(fragments(("REQUEST", "?")), message))
    assert only(store).said[1:] == [("reply", text)]
    assert report.left_out == left


def test_a_reply_of_deepseek_that_was_stopped_amid_its_reasoning_is_kept(store: Store) -> None:
    take(store, deepseek(fragments(("REQUEST", "?")), fragments(("THINK", "Hm")), fragments(("REQUEST", "Well?"))))
    found = only(store)
    assert found.said == [("user", "?"), ("reply", ""), ("user", "Well?")]
    assert (found.messages[1].reasoning, found.messages[1].status) == ("Hm", Status.TRUNCATED)


def test_a_question_of_deepseek_that_is_a_file_alone_is_the_user_s(store: Store) -> None:
    file = fragments(files=[{"id": "f", "file_name": "a.pdf"}])
    report = take(store, deepseek(file, fragments(("RESPONSE", "Nice."))))
    assert only(store).said == [("user", "[file: a.pdf]"), ("reply", "Nice.")]
    assert report.left_out == {"file": 1}


def test_the_text_of_a_file_of_deepseek_is_kept(store: Store) -> None:
    files = [{"file_name": "a.txt", "content": "Flour."}, {"file_name": "b.pdf"}]
    report = take(store, deepseek(fragments(("REQUEST", "?"), files=files)))
    assert only(store).said == [("user", "?\n\n[file: a.txt]\nFlour.")]
    assert report.left_out == {"file": 1}


def test_older_messages_of_deepseek_take_turns(store: Store) -> None:
    texts = [("?", None), ("Yes.", "Hm"), ("Why?", None), ("So.", None)]
    said = [{"content": text, "reasoning_content": thought, "model": "x"} for text, thought in texts]
    take(store, deepseek(*said))
    assert only(store).said == [("user", "?"), ("reply", "Yes."), ("user", "Why?"), ("reply", "So.")]
    assert only(store).messages[1].reasoning == "Hm"


@pytest.mark.parametrize("content", ["Tea?", ["Tea?"], {"type": "text", "text": "Tea?"}])
def test_content_may_be_no_list_of_blocks(store: Store, content: Any) -> None:
    asked = line("m1", NO_PARENT, "", user=True, content=content)
    take(store, claude(block("m-1", "human", content=content)), json.loads(librechat(asked)))
    assert [one.said for one in taken(store)] == [[("user", "Tea?")]] * 2


@pytest.mark.parametrize("sender", ["Human", "USER"])
def test_roles_are_known_in_any_case(store: Store, sender: str) -> None:
    report = take(store, claude(block("m-1", sender, says("?")), block("m-2", "Assistant", says("Yes."))))
    assert (only(store).said, report.left_out) == ([("user", "?"), ("reply", "Yes.")], {})


def test_an_odd_message_of_deepseek_costs_itself(store: Store) -> None:
    report = take(store, deepseek(fragments(("REQUEST", "?")), {"model": "x"}, fragments(("RESPONSE", "Yes."))))
    assert only(store).said == [("user", "?"), ("reply", "Yes.")]
    assert [problem.reason for problem in report.problems] == ["its message 2 is left out: it has no content"]


NO_PARENT = "00000000-0000-0000-0000-000000000000"


def librechat(*messages: Any, **fields: Any) -> bytes:
    made = {"conversationId": "l-1", "endpoint": "openAI", "title": "Tea", "exportAt": "10:00:00 GMT+0000",
            "branches": True, "recursive": False, "options": {"model": "gpt-4o", "promptPrefix": "Be brief."},
            "messages": list(messages)}  # fmt: skip
    return json.dumps(made | fields).encode()


def line(id: str, parent: str, text: str, *, user: bool = False, **fields: Any) -> dict[str, Any]:
    """Return a message of LibreChat's."""
    return {"messageId": id, "parentMessageId": parent, "text": text, "sender": "User" if user else "GPT-4o",
            "isCreatedByUser": user, "createdAt": f"2026-02-01T10:00:0{id[-1]}.000Z"} | fields  # fmt: skip


@pytest.mark.parametrize("messages", [[], None])
def test_an_empty_conversation_of_librechat_is_counted(store: Store, messages: Any) -> None:
    report = store.take(librechat(messages=messages))
    assert (report.left_out, report.problem_count) == ({"empty_conversation": 1}, 0)


def test_a_conversation_of_librechat_becomes_ours(store: Store) -> None:
    parts = [
        {"type": "think", "think": "Green?"}, {"type": "tool_call", "tool_call": {"name": "x"}},
        {"type": "text", "text": {"value": "Green."}},
    ]  # fmt: skip
    file = librechat(
        line("m1", NO_PARENT, "Tea?", user=True),
        line("m2", "m1", "", content=parts),
        line("m3", "m1", "Black.", unfinished=True),
    )
    report = store.take(file)
    assert store.take(file).conversations == {"present": 1}
    found = only(store)
    assert found.said == [("user", "Tea?"), ("reply", "Black.")]
    assert (found.messages[1].status, found.messages[1].model) == (Status.TRUNCATED, "gpt-4o")
    assert (found.conversation.system, found.conversation.forks) == ("Be brief.", 1)
    assert (report.messages, report.left_out) == (3, {"tool_call": 1})
    assert store.rows("SELECT content, reasoning FROM messages WHERE reasoning <> ''") == [("Green.", "Green?")]


def test_messages_of_librechat_may_lie_inside_their_parents(store: Store) -> None:
    tree = line("m1", NO_PARENT, "Tea?", user=True, children=[line("m2", "m1", "Green.", children=[])])
    file = json.loads(librechat(recursive=True, messagesTree=[tree]))
    del file["messages"]
    store.take(json.dumps(file).encode())
    assert only(store).said == [("user", "Tea?"), ("reply", "Green.")]


@pytest.mark.parametrize(
    ("fields", "text", "status"),
    [
        ({"text": ":::thinking\nHm\n:::\nGreen."}, "Green.", Status.COMPLETED),
        ({"text": "no key", "error": True}, "", Status.FAILED),
        ({"finish_reason": "length"}, "Gr", Status.TRUNCATED),
        ({"finish_reason": "incomplete"}, "Gr", Status.TRUNCATED),
        ({"finish_reason": "stop"}, "Gr", Status.COMPLETED),
        ({"content": [{"type": "image_file", "image_file": {}}], "text": ""}, "[picture]", Status.COMPLETED),
        ({"content": [{"type": "novel", "x": 1}, {"type": "text", "text": "Green."}]}, "Green.", Status.COMPLETED),
    ],
)  # fmt: skip
def test_replies_of_librechat(store: Store, fields: Any, text: str, status: Status) -> None:
    store.take(librechat(line("m1", NO_PARENT, "Tea?", user=True), line("m2", "m1", "Gr") | fields))
    reply = only(store).messages[1]
    assert (reply.content, reply.status) == (text, status)


def test_an_odd_message_of_librechat_costs_itself(store: Store) -> None:
    odd = {"messageId": "x", "parentMessageId": "m1", "text": "?"}
    report = store.take(librechat(line("m1", NO_PARENT, "Tea?", user=True), odd, 7, line("m2", "x", "Green.")))
    assert only(store).said == [("user", "Tea?"), ("reply", "Green.")]
    assert [problem.reason.partition(": ")[2] for problem in report.problems] == [
        "it has no author", "it is not an object",
    ]  # fmt: skip


def test_conversations_in_lines_are_read_however_long_the_first_one_is(store: Store) -> None:
    chats = [
        claude(block("m-1", "human", says("Long. " * 100_000))),
        claude(block("m-1", "human", says("?")), uuid="c-2"),
    ]
    report = store.take("\n".join(map(json.dumps, chats)).encode())
    assert (report.conversations, report.problem_count) == ({"added": 2}, 0)


def test_one_list_may_hold_conversations_of_several_programs(store: Store) -> None:
    take(store, claude(block("m-1", "human", says("One?"))), deepseek(fragments(("REQUEST", "Two?"))))
    assert {one.said[0][1] for one in taken(store)} == {"One?", "Two?"}
