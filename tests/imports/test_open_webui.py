"""Import Open WebUI's exports of every version: output items, folded text, failures, files, and chats without ids."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chatkeep.domain.conversation import Status
from tests.imports.stores import Store
from tests.imports.taken import only, take, taken
from tests.imports.test_sources import said, webui

pytestmark = pytest.mark.parametrize("stores", ["sqlite"], indirect=True)

ASKED = said("user", "Rain?")


def output(*items: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a reply as written by versions from 0.10 on."""
    return said("assistant", "", "u", output=list(items), done=True) | fields


def message(*texts: str) -> dict[str, Any]:
    parts = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {"type": "message", "role": "assistant", "status": "completed", "content": parts}


def reasoning(text: str, where: str = "content") -> dict[str, Any]:
    return {"type": "reasoning", "summary": [], "content": []} | {where: [{"type": "reasoning_text", "text": text}]}


CALL = {"type": "function_call", "call_id": "c", "name": "search", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "12 mm"}]}
CODE = {"type": "open_webui:code_interpreter", "lang": "python", "code": "print(1)", "output": {"stdout": "1"}}


@pytest.mark.parametrize(
    ("items", "text", "thought", "left"),
    [
        ([reasoning("Bergen."), CALL, OUTPUT, message("Yes.")], "Yes.", "Bergen.", {"tool_call": 1, "tool_result": 1}),
        ([reasoning("Short.", "summary"), message("One."), message("Two.")], "One.\nTwo.", "Short.", {}),
        ([CODE, message("It is 1.")], "It is 1.", "```python\nprint(1)\n```", {}),
        ([{"type": "web_search_call"}, message("Yes.")], "Yes.", "", {"tool_call": 1}),
        ([{"type": "image_generation_call", "result": "aGk="}], "[picture]", "", {"picture": 1}),
        ([{"type": "message", "content": "A string."}], "A string.", "", {}),
        ([{"type": "message", "content": [{"type": "refusal", "refusal": "I can't."}]}], "I can't.", "", {}),
        ([{"type": "open_webui:note", "content": [{"text": "Noted."}]}], "Noted.", "", {}),
        ([{"type": "open_webui:map", "points": [1]}, message("There.")], "There.", "", {"open_webui:map": 1}),
        ([{"type": "message", "content": [{"type": "output_audio", "id": "x"}]}, message("Yes.")], "Yes.", "",
         {"output_audio": 1}),
        ([7, None, message("Yes.")], "Yes.", "", {}),
    ],
)  # fmt: skip
def test_output_items_become_a_reply(store: Store, items: Any, text: str, thought: str, left: Any) -> None:
    report = take(store, webui({"u": ASKED, "a": output(*items)}, "a"))
    found = only(store)
    assert found.said == [("user", "Rain?"), ("reply", text)]
    assert (found.messages[1].reasoning, report.left_out, report.problem_count) == (thought, left, 0)


def test_content_is_read_if_output_has_no_text(store: Store) -> None:
    take(store, webui({"u": ASKED, "a": output(CALL, content="Yes.")}, "a"))
    assert only(store).said[1:] == [("reply", "Yes.")]


def test_edited_reply_is_read_as_edited(store: Store) -> None:
    edited = output(reasoning("Bergen."), message("Yes."), content="No.", originalContent="")
    take(store, webui({"u": ASKED, "a": edited}, "a"))
    found = only(store)
    assert (found.said[1:], found.messages[1].reasoning) == ([("reply", "No.")], "Bergen.")


def test_phases_of_reply_are_separated(store: Store) -> None:
    phases = [{"phase": "think", "content": "Hm"}, {"phase": "web_search"}, {"phase": "answer", "content": "Yes."}]
    take(store, webui({"u": ASKED, "a": said("assistant", "", "u", content_list=phases)}, "a"))
    assert (only(store).messages[1].content, only(store).messages[1].reasoning) == ("Yes.", "Hm")


FOLDED = '<details type="{}" done="true"{}>\n<summary>Done</summary>\n{}\n</details>\n'


@pytest.mark.parametrize(
    ("folded", "thought", "left"),
    [
        (FOLDED.format("reasoning", "", "&gt; 30 m.\n&gt; ramp &lt; span"), "30 m.\nramp < span", {}),
        (FOLDED.format("reasoning", "", "> 30 m.\n> &gt; cited"), "30 m.\n> cited", {}),
        (FOLDED.format("tool_calls", ' name="f" arguments="&quot;{}&quot;"', ""), "", {"tool_call": 1}),
        (FOLDED.format("code_interpreter", "", "```python\n1\n```"), "```python\n1\n```", {}),
    ],
)  # fmt: skip
def test_folded_blocks_are_removed_from_text(store: Store, folded: str, thought: str, left: Any) -> None:
    report = take(store, webui({"u": ASKED, "a": said("assistant", folded + "Thirty.", "u")}, "a"))
    found = only(store)
    assert (found.messages[1].content, found.messages[1].reasoning, report.left_out) == ("Thirty.", thought, left)


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        ({"content": "500: no memory"}, "500: no memory"),
        ("no memory", "no memory"),
        (True, None),
        ({"message": "x"}, "x"),
    ],
)
def test_failed_reply_keeps_its_position(store: Store, error: Any, detail: str | None) -> None:
    messages = {"u": ASKED, "a": said("assistant", "", "u", error=error), "v": said("user", "Again?", "a")}
    take(store, webui(messages, "v"))
    found = only(store)
    assert found.said == [("user", "Rain?"), ("reply", ""), ("user", "Again?")]
    failed = found.messages[1]
    assert (failed.status, failed.error, failed.error_detail) == (Status.FAILED, "provider_broke", detail)


def test_reply_that_failed_within_text_is_truncated(store: Store) -> None:
    take(store, webui({"u": ASKED, "a": said("assistant", "It wi", "u", error={"content": "gone"})}, "a"))
    assert (only(store).messages[1].status, only(store).messages[1].content) == (Status.TRUNCATED, "It wi")


@pytest.mark.parametrize(
    ("fields", "mark", "left"),
    [
        ({"files": [{"type": "file", "name": "a.pdf", "file": {}}]}, "[file: a.pdf]", {"file": 1}),
        ({"files": [{"type": "file", "file": {"filename": "a.png"}}]}, "[picture: a.png]", {"picture": 1}),
        ({"files": [{"type": "image", "url": "data:"}]}, "[picture]", {"picture": 1}),
        ({"content": [{"type": "image_url", "image_url": {"url": "data:"}}]}, "[picture]", {"picture": 1}),
    ],
)  # fmt: skip
def test_question_with_only_a_file_has_a_mark(store: Store, fields: Any, mark: str, left: Any) -> None:
    report = take(store, webui({"u": said("user", "") | fields, "a": said("assistant", "Nice.", "u")}, "a"))
    assert only(store).said == [("user", mark), ("reply", "Nice.")]
    assert report.left_out == left


def test_system_prompt_and_default_model_are_kept(store: Store) -> None:
    chat = webui({"u": ASKED, "a": said("assistant", "No.", "u")}, "a")
    chat["chat"]["params"] = {"system": "Be brief."}
    take(store, chat)
    assert (only(store).conversation.system, only(store).messages[1].model) == ("Be brief.", "m")


def old(messages: dict[str, Any]) -> dict[str, Any]:
    """Return a chat as the oldest versions export it, without a wrapper."""
    return {"id": "", "title": "Old", "models": ["m"], "history": {"messages": messages, "currentId": "a"},
            "timestamp": 1_795_000_000_000}  # fmt: skip


LIST = [{"role": "user", "content": "Rain?"}, {"role": "assistant", "content": "No."}]
WITHOUT_IDS = {
    "no id": webui({"u": ASKED, "a": said("assistant", "No.", "u")}, "a", id=""),
    "no wrapper": old({"u": ASKED, "a": said("assistant", "No.", "u")}),
    "no tree": {"title": "x", "chat": {"title": "x", "messages": LIST}},
    "no parents": {"title": "x", "chat": {"title": "x", "messages": [one | {"parentId": None} for one in LIST]}},
    "a list for a tree": {"title": "x", "chat": {"title": "x", "history": {"messages": LIST}}},
}


@pytest.mark.parametrize("chat", WITHOUT_IDS.values(), ids=WITHOUT_IDS)
def test_chats_without_ids_are_imported_once(store: Store, chat: Any) -> None:
    assert take(store, chat).conversations == {"added": 1}
    assert take(store, chat).conversations == {"present": 1}
    assert only(store).said == [("user", "Rain?"), ("reply", "No.")]


@pytest.mark.parametrize(
    "wrapper", [{}, {"data": ...}, {"success": True, "data": ...}, {"conversations": ...}, {"items": ...}]
)
def test_file_may_be_one_chat_or_a_wrapped_list(store: Store, wrapper: dict[str, Any]) -> None:
    chats = [webui({"u": ASKED}, "u"), webui({"u": ASKED}, "u", id="w-2")]
    file = {name: chats if value is ... else value for name, value in wrapper.items()} or chats[0]
    store.take(json.dumps(file).encode())
    assert len(taken(store)) == (2 if wrapper else 1)


@pytest.mark.parametrize(
    ("odd", "reason"), [(7, "it is not an object"), ({"content": "x", "parentId": "u"}, "it has no author")]
)
def test_bad_message_is_skipped(store: Store, odd: Any, reason: str) -> None:
    report = take(store, webui({"u": ASKED, "x": odd, "a": said("assistant", "No.", "u")}, "a"))
    assert only(store).said == [("user", "Rain?"), ("reply", "No.")]
    assert [problem.reason for problem in report.problems] == [f"its message x is left out: {reason}"]
