"""Import exports of ChatGPT and Open WebUI: trees, times, models, and no duplicates."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from chatkeep.conversations.service import delete_conversation
from chatkeep.domain.conversation import Conversation, Message, Role, Status, now_us
from tests.imports.stores import OWNER, Store, records

AT = 1_795_000_000
S = 1_000_000


def node(parent: str | None, role: str, *parts: Any, at: float | None = None, **fields: Any) -> dict[str, Any]:
    """Return a node of ChatGPT's tree; ``fields`` are the message's."""
    content = {"content_type": "text", "parts": list(parts)}
    message = {
        "author": {"role": role, "metadata": {}},
        "create_time": at,
        "content": content,
        "status": "finished_successfully",
    }
    return {"message": message | fields, "parent": parent, "children": []}


def thoughts(parent: str, *texts: str) -> dict[str, Any]:
    said = [{"summary": "On it", "content": text} for text in texts]
    return node(parent, "assistant", content={"content_type": "thoughts", "thoughts": said})


def chatgpt(mapping: dict[str, Any], current: str | None = None, **fields: Any) -> dict[str, Any]:
    made = {
        "title": "俳句",
        "create_time": AT + 0.25,
        "update_time": AT + 90.5,
        "mapping": mapping,
        "current_node": current,
    }
    return made | {"conversation_id": "c-1"} | fields


TREE = {
    "root": {"id": "root", "message": None, "parent": None, "children": ["sys"]},
    "sys": node("root", "system", "", metadata={"is_visually_hidden_from_conversation": True}),
    "u1": node("sys", "user", "Hello 🙂", at=AT + 1.5),
    "t1": thoughts("u1", "They greet.", "Greet back."),
    "a1": node("t1", "assistant", "Hi", "there", at=AT + 2.000001, metadata={"model_slug": "gpt-5"}),
    "a2": node("u1", "assistant", "Hey", at=AT + 2.000001, metadata={"finish_details": {"type": "max_tokens"}}),
    "tool": node("a1", "tool", "42"),
    "code": node("tool", "assistant", content={"content_type": "code", "text": "print(42)"}),
    "u2": node("code", "user", {"content_type": "image_asset_pointer"}, "What is it?", at=AT,
               content={"content_type": "multimodal_text", "parts": [{"content_type": "image"}, "What is it?"]}),
    "a3": node("u2", "assistant", "A ca", metadata={"finish_details": {"type": "interrupted"}}),
    "blank": node("a3", "assistant", ""),
}  # fmt: skip


def only(store: Store) -> tuple[Conversation, list[Message]]:
    """Return the only conversation with all of its messages by time."""
    ((_, conversation, *_),) = [records(store.give())]
    found = store.conversation(conversation_id(conversation))
    return found, store.messages(found.id)


def conversation_id(record: Any) -> Any:
    return UUID(record["id"])


def test_chatgpt_tree_is_imported(store: Store) -> None:
    report = store.take(json.dumps([chatgpt(TREE, "blank")]).encode(), ttl=60)
    assert (report.problem_count, report.messages) == (0, 6)
    found, branch = only(store)
    assert [(one.role, one.content) for one in branch] == [
        (Role.USER, "Hello 🙂"), (Role.ASSISTANT, "Hi\nthere"), (Role.ASSISTANT, "print(42)"),
        (Role.USER, "What is it?"), (Role.ASSISTANT, "A ca"),
    ]  # fmt: skip
    assert branch[1].reasoning == "On it\n\nThey greet.\n\nOn it\n\nGreet back."
    assert (branch[1].model, branch[1].status, branch[1].finish_reason) == ("gpt-5", Status.COMPLETED, "stop")
    assert (branch[4].status, branch[4].finish_reason) == (Status.STOPPED, None)
    assert (found.title, found.forks, found.message_count, found.current_id) == ("俳句", 1, 6, branch[4].id)
    assert found.metadata == {"imported_from": "chatgpt", "source_id": "c-1"}


def test_times_are_kept_and_ascend(store: Store) -> None:
    store.take(json.dumps([chatgpt(TREE, "blank")]).encode())
    found, branch = only(store)
    assert (found.created_at, found.last_active) == (AT * S + 250_000, AT * S + 90_500_000)
    times = [row[0] for row in store.rows("SELECT timestamp FROM messages ORDER BY position")]
    assert times == [AT * S + rest for rest in (1_500_000, 2_000_001, 2_000_002, 2_000_003, 2_000_004, 2_000_005)]
    assert [one.id.int >> 80 for one in branch[:2]] == [one.timestamp // 1000 for one in branch[:2]]
    assert {one.id.version for one in branch} == {7}


def test_cut_reply_is_truncated(store: Store) -> None:
    store.take(json.dumps([chatgpt(TREE, "a2")]).encode())
    _, (_, reply) = only(store)
    assert (reply.content, reply.status, reply.finish_reason) == ("Hey", Status.TRUNCATED, "length")


def test_imports_do_not_expire_by_default(store: Store) -> None:
    file = json.dumps([chatgpt(TREE, "blank")]).encode()
    store.take(file)
    assert (only(store)[0].ttl, only(store)[0].expires_at) == (None, None)
    before = now_us()
    assert store.take(file, ttl=60).conversations == {"updated": 1}
    first, again = only(store)[0], now_us()
    assert before <= (first.expires_at or 0) - 60 * S <= again
    assert store.take(file, ttl=60).conversations == {"present": 1}
    assert store.take(file).conversations == {"present": 1}
    found, _ = only(store)
    assert found.ttl == 60
    assert again <= (found.expires_at or 0) - 60 * S <= now_us()
    assert store.take(file, ttl=None).conversations == {"updated": 1}
    assert (only(store)[0].ttl, only(store)[0].expires_at) == (None, None)


def test_added_messages_keep_the_ttl(store: Store) -> None:
    first = {"u": said("user", "Hello")}
    store.take(json.dumps([webui(first, "u")]).encode(), ttl=60)
    before = now_us()
    more = first | {"a": said("assistant", "Hi", "u", done=True)}
    assert store.take(json.dumps([webui(more, "a")]).encode()).conversations == {"updated": 1}
    found, _ = only(store)
    assert (found.ttl, found.message_count) == (60, 2)
    assert before <= (found.expires_at or 0) - 60 * S <= now_us()
    longer = more | {"v": said("user", "And?", "a")}
    store.take(json.dumps([webui(longer, "v")]).encode(), ttl=None)
    assert (only(store)[0].ttl, only(store)[0].expires_at) == (None, None)


def test_second_import_adds_nothing_and_owners_are_separate(store: Store) -> None:
    file = json.dumps([chatgpt(TREE, "blank"), webui({"u": said("user", "Hello")}, "u")]).encode()
    assert store.take(file).conversations == {"added": 2}
    assert store.take(file).conversations == {"present": 2}
    assert store.take(file, owner="another owner").conversations == {"added": 2}


def test_newer_file_adds_new_messages(store: Store) -> None:
    older = {name: TREE[name] for name in ("root", "sys", "u1", "t1", "a1")}
    store.take(json.dumps([chatgpt(older, "a1")]).encode())
    report = store.take(json.dumps([chatgpt(TREE, "blank")]).encode())
    assert (report.conversations, report.messages) == ({"updated": 1}, 4)
    newer = store.give()
    store.empty()
    store.take(json.dumps([chatgpt(TREE, "blank")]).encode())
    assert records(newer) == records(store.give())


def test_deleted_conversation_is_restored(store: Store) -> None:
    file = json.dumps([chatgpt(TREE, "blank")]).encode()
    store.take(file)
    before = records(store.give())
    delete_conversation(store.journal, OWNER, only(store)[0].id)
    assert store.take(file).conversations == {"added": 1}
    assert records(store.give()) == before


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"mapping": None}, "it is not a conversation of a program whose exports are read"),
        ({"mapping": 7}, "it is not a conversation of a program"),
        ({"chat": {"title": "x"}}, "it is not a conversation of a program"),
        ({"title": "x"}, "it is not a conversation of a program"),
        ({"messages": [], "config": {}}, "This is an export of BetterChatGPT, which is not read."),
    ],
    ids=["no tree", "a number", "no history", "neither", "another program"],
)
def test_bad_conversation_is_reported_and_the_rest_imported(store: Store, wrong: Any, reason: str) -> None:
    report = store.take(b"[\n" + b",\n".join(json.dumps(one).encode() for one in (chatgpt(TREE), wrong)) + b"\n]")
    assert [(problem.line, reason in problem.reason) for problem in report.problems] == [(3, True)]
    assert report.conversations == {"added": 1}


def test_truncated_file_is_reported(store: Store) -> None:
    file = json.dumps([chatgpt(TREE), chatgpt(TREE, conversation_id="c-2")], indent=1).encode()
    report = store.take(file[:-200])
    assert (report.conversations, [one.reason[:15] for one in report.problems]) == ({"added": 1}, ["the file is cut"])


def test_unusual_content_is_harmless(store: Store) -> None:
    odd = {
        "u": node(None, "user", None, 7, {"text": 7}, "text", at=-1),
        "a": node("u", "assistant", content={"content_type": "code", "text": None}),
        "b": node("a", "assistant", "said", metadata=None, at=1e300, status=None),
        "c": node("b", "assistant", content={"content_type": "thoughts", "thoughts": [None, {"content": 7}]}),
        "d": node("missing", "user", "a second root"),
    }
    assert store.take(json.dumps([chatgpt(odd, "nowhere", title=None, create_time=None)]).encode()).problem_count == 0
    assert {one["content"] for one in records(store.give())[2:]} == {"text", "said", "a second root"}


def said(role: str, content: Any, parent: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return a message of Open WebUI's."""
    return {"role": role, "content": content, "parentId": parent, "childrenIds": [], "timestamp": AT} | fields


def webui(messages: dict[str, Any], current: str | None, **fields: Any) -> dict[str, Any]:
    chat = {"title": "Chat", "models": ["m"], "history": {"messages": messages, "currentId": current}, "messages": []}
    return {"id": "w-1", "user_id": "u", "title": "Chat", "chat": chat, "created_at": AT, "updated_at": AT + 9} | fields


REASONED = """<details type="reasoning" done="true" duration="3">
<summary>Thought for 3 seconds</summary>
&gt; a
> b &amp; c
</details>
Hello"""


def test_open_webui_chat_is_imported(store: Store) -> None:
    messages = {
        "u": said("user", [{"type": "text", "text": "Hello"}, {"type": "image_url"}]),
        "a": said("assistant", REASONED, "u", model="llama", done=True),
        "b": said("assistant", "Hel", "u", model="qwen", done=False),
        "c": said("assistant", "", "u", error={"content": "broke"}),
    }
    report = store.take(json.dumps([webui(messages, "a", pinned=True)], indent=2).encode(), ttl=60)
    assert (report.problem_count, report.messages) == (0, 4)
    found, (asked, reply) = only(store)
    assert (asked.content, reply.content, reply.reasoning, reply.model) == ("Hello", "Hello", "a\nb & c", "llama")
    assert (found.pinned, found.expires_at, found.forks) == (True, None, 2)
    assert found.metadata == {"imported_from": "open-webui", "source_id": "w-1"}
    cut = [one for one in records(store.give()) if one.get("content") == "Hel"]
    assert [(one["status"], one["model"], one["on_branch"]) for one in cut] == [("truncated", "qwen", False)]


@pytest.mark.parametrize("factor", [1, 1e3, 1e6, 1e9])
def test_times_may_have_any_unit(store: Store, factor: float) -> None:
    file = webui({"u": said("user", "Hello", timestamp=(AT + 1) * factor)}, "u", created_at=AT * factor)
    store.take(json.dumps([file]).encode())
    found, (asked,) = only(store)
    assert (found.created_at, asked.timestamp) == (AT * S, (AT + 1) * S)
