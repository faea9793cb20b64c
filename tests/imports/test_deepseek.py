"""Import conversations of DeepSeek."""

from __future__ import annotations

from typing import Any

import pytest

from chatkeep.domain.conversation import Status
from tests.imports.programs import deepseek, fragments
from tests.imports.stores import Store
from tests.imports.taken import only, take

pytestmark = pytest.mark.parametrize("stores", ["sqlite"], indirect=True)


def test_conversation_is_imported(store: Store) -> None:
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
def test_fragments_are_read(store: Store, message: Any, text: str, left: Any) -> None:
    report = take(store, deepseek(fragments(("REQUEST", "?")), message))
    assert only(store).said[1:] == [("reply", text)]
    assert report.left_out == left


def test_reply_stopped_within_reasoning_is_kept(store: Store) -> None:
    take(store, deepseek(fragments(("REQUEST", "?")), fragments(("THINK", "Hm")), fragments(("REQUEST", "Well?"))))
    found = only(store)
    assert found.said == [("user", "?"), ("reply", ""), ("user", "Well?")]
    assert (found.messages[1].reasoning, found.messages[1].status) == ("Hm", Status.TRUNCATED)


def test_question_with_only_a_file_is_a_user_message(store: Store) -> None:
    file = fragments(files=[{"id": "f", "file_name": "a.pdf"}])
    report = take(store, deepseek(file, fragments(("RESPONSE", "Nice."))))
    assert only(store).said == [("user", "[file: a.pdf]"), ("reply", "Nice.")]
    assert report.left_out == {"file": 1}


def test_text_of_file_is_kept(store: Store) -> None:
    files = [{"file_name": "a.txt", "content": "Flour."}, {"file_name": "b.pdf"}]
    report = take(store, deepseek(fragments(("REQUEST", "?"), files=files)))
    assert only(store).said == [("user", "?\n\n[file: a.txt]\nFlour.")]
    assert report.left_out == {"file": 1}


def test_older_messages_alternate_roles(store: Store) -> None:
    texts = [("?", None), ("Yes.", "Hm"), ("Why?", None), ("So.", None)]
    said = [{"content": text, "reasoning_content": thought, "model": "x"} for text, thought in texts]
    take(store, deepseek(*said))
    assert only(store).said == [("user", "?"), ("reply", "Yes."), ("user", "Why?"), ("reply", "So.")]
    assert only(store).messages[1].reasoning == "Hm"


def test_bad_message_is_skipped(store: Store) -> None:
    report = take(store, deepseek(fragments(("REQUEST", "?")), {"model": "x"}, fragments(("RESPONSE", "Yes."))))
    assert only(store).said == [("user", "?"), ("reply", "Yes.")]
    assert [problem.reason for problem in report.problems] == ["its message 2 is left out: it has no content"]
