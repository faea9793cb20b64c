"""Import conversations of LibreChat."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chatkeep.domain.conversation import Status
from tests.imports.programs import NO_PARENT, librechat, line
from tests.imports.stores import Store
from tests.imports.taken import only

pytestmark = pytest.mark.parametrize("stores", ["sqlite"], indirect=True)


@pytest.mark.parametrize("messages", [[], None])
def test_empty_conversation_is_counted(store: Store, messages: Any) -> None:
    report = store.take(librechat(messages=messages))
    assert (report.left_out, report.problem_count) == ({"empty_conversation": 1}, 0)


def test_conversation_is_imported(store: Store) -> None:
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


def test_messages_may_be_nested_in_parents(store: Store) -> None:
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
def test_replies_are_read(store: Store, fields: Any, text: str, status: Status) -> None:
    store.take(librechat(line("m1", NO_PARENT, "Tea?", user=True), line("m2", "m1", "Gr") | fields))
    reply = only(store).messages[1]
    assert (reply.content, reply.status) == (text, status)


def test_bad_message_is_skipped(store: Store) -> None:
    odd = {"messageId": "x", "parentMessageId": "m1", "text": "?"}
    report = store.take(librechat(line("m1", NO_PARENT, "Tea?", user=True), odd, 7, line("m2", "x", "Green.")))
    assert only(store).said == [("user", "Tea?"), ("reply", "Green.")]
    assert [problem.reason.partition(": ")[2] for problem in report.problems] == [
        "it has no author", "it is not an object",
    ]  # fmt: skip
