"""The turns of a branch: each question is paired with its whole answer, for training models."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkeep.exports.formats import make, turns
from chatkeep.store.exports import MessageRow
from tests.exports.test_formats import TEXT, a_conversation, a_message, written

WORDS = TEXT.filter(lambda text: text.strip() != "")
Pairs = list[tuple[str, str]]


def asked(content: str) -> MessageRow:
    return a_message(content)


def said(content: str, status: str = "completed", finish_reason: str | None = "stop", **kind: Any) -> MessageRow:
    return a_message(content, role="assistant", status=status, finish_reason=finish_reason, **kind)


def pairs(*rows: MessageRow) -> Pairs:
    """Return each question of the file with its answer."""
    return pairs_of(written("openai", *rows))


def pairs_of(lines: str) -> Pairs:
    messages = [message for line in lines.splitlines() for message in json.loads(line)["messages"]]
    assert [message["role"] for message in messages] == ["user", "assistant"] * (len(messages) // 2)
    texts = [message["content"] for message in messages]
    return list(zip(texts[::2], texts[1::2], strict=True))


@given(TEXT, WORDS, WORDS)
def test_fine_tuning_keeps_any_text(system: str, question: str, answer: str) -> None:
    rows = asked(question), said(answer)
    (line, rest) = written("openai", *rows, conversation=a_conversation(system=system)).split("\n")
    expected = [("system", system)] * bool(system) + [("user", question), ("assistant", answer)]
    assert [(one["role"], one["content"]) for one in json.loads(line)["messages"]] == expected
    assert rest == ""


def test_fine_tuning_skips_conversations_without_turns() -> None:
    form = make("openai")
    empty = form.conversation(a_conversation()) + form.messages([asked("waiting")])
    full = form.conversation(a_conversation()) + form.messages([asked("Hi"), said("Hello")])
    assert (empty, (full + form.finish()).count(b"\n")) == (b"", 1)


ENDINGS = {
    "completed": ("completed", "stop", True),
    "without a reason": ("completed", None, True),
    "an unknown reason": ("completed", "quite_done", True),
    "end_turn": ("completed", "end_turn", True),
    "length": ("completed", "length", False),
    "MAX_TOKENS": ("completed", "MAX_TOKENS", False),
    "cut by the server's own limit": ("truncated", "length", False),
    "content_filter": ("completed", "content_filter", False),
    "SAFETY": ("completed", "SAFETY", False),
    "tool_calls": ("completed", "tool_calls", False),
    "refusal": ("completed", "refusal", False),
    "network_error": ("completed", "network_error", False),
    **{status: (status, None, False) for status in ("generating", "stopped", "truncated", "failed", "interrupted")},
}


@pytest.mark.parametrize(("status", "reason", "whole"), ENDINGS.values(), ids=ENDINGS)
def test_only_complete_replies_are_answers(status: str, reason: str | None, whole: bool) -> None:  # noqa: FBT001 - a case
    kept = ("Next?", "Next.")
    found = pairs(asked("First?"), said("First.", status, reason), asked(kept[0]), said(kept[1]))
    assert found == [("First?", "First.")] * whole + [kept]


CUT = said("January, Feb", "truncated", "length")
REST = said("ruary.")
RUNS: dict[str, tuple[list[MessageRow], str | None]] = {
    "continued": ([CUT, REST], "January, February."),
    "continued twice": ([CUT, said("ruary, Mar", "completed", "max_tokens"), said("ch.")], "January, February, March."),
    "continued and stopped": ([CUT, said("ruary", "stopped", None)], None),
    "continued and cut": ([CUT, said("ruary, Mar", "completed", "length")], None),
    "stopped, then more": ([said("January, Feb", "stopped", None), REST], None),
    "broken off, then more": ([said("January, Feb", "truncated", None), REST], None),
    "steps": ([said("I will see."), said("3 + 4"), said("It is **7**.")], "I will see.\n\n3 + 4\n\nIt is **7**."),
    "a step for a tool": ([said("Let me look.", finish_reason="tool_calls"), said("Rain.")], "Let me look.\n\nRain."),
    "a tool without an answer": ([said("Let me look."), said("look()", finish_reason="tool_use")], None),
    "a step, then a failure": ([said("Let me look."), said("", "failed", None)], None),
    "steps, one of which was continued": ([said("Well:"), CUT, REST], "Well:\n\nJanuary, February."),
    "an empty failure, then an answer": ([said("", "failed", None), said("Seven.")], "Seven."),
    "an empty step": ([said("", finish_reason="tool_calls"), said("Seven.")], "Seven."),
    "filtered, then an answer": ([said("Sev", finish_reason="content_filter"), said("Seven.")], None),
    "nothing said": ([said("")], None),
    "blanks": ([said(" \n")], None),
}  # fmt: skip


@pytest.mark.parametrize(("replies", "answer"), RUNS.values(), ids=RUNS)
def test_consecutive_replies_are_one_answer_or_none(replies: list[MessageRow], answer: str | None) -> None:
    found = pairs(asked("First?"), *replies, asked("Next?"), said("Next."))
    assert found == [("First?", answer)] * (answer is not None) + [("Next?", "Next.")]


def test_answer_needs_a_users_question() -> None:
    assert pairs(said("Welcome."), asked(" "), said("Yes?"), a_message("Be brief.", role="system"), said("Ok.")) == []


def test_question_without_answer_is_skipped() -> None:
    assert pairs(asked("Lost?"), asked("Kept?"), said("Whole."), asked("Waiting?")) == [("Kept?", "Whole.")]


@given(st.lists(st.sampled_from([asked("?"), said("a"), CUT, said("b", "stopped", None)]), max_size=12), st.data())
def test_pieces_may_end_anywhere(rows: list[MessageRow], data: st.DataObject) -> None:
    """Messages come in pieces, also within a turn. What follows a conversation belongs to the next one."""
    for name in ("openai", "md"):
        form, parts = make(name), list[bytes]()
        for _ in range(2):
            at = data.draw(st.integers(0, len(rows)))
            parts += [form.conversation(a_conversation()), form.messages(rows[:at]), form.messages(rows[at:])]
        one = written(name, *rows)
        between = "---\n\n" if name == "md" else ""
        assert b"".join([*parts, form.finish()]).decode() == one + between + one


def test_turn_too_long_for_memory_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MOST_BYTES", 100)
    rows = asked("Long?"), *[said("x" * 30)] * 9, asked("Next?"), said("Next.")
    assert pairs(*rows) == [("Next?", "Next.")]
    assert written("md", *rows).count("x" * 30) == 9


def test_markdown_has_one_heading_for_continued_reply() -> None:
    text = written(
        "md", asked("Months?"), said("Well:"), said("```\nJan", "truncated", "length"), said("uary\n```\nThat's it.")
    )
    assert [line for line in text.split("\n") if line.startswith("#")] == [
        "# Title", "## User", "## Assistant", "## Assistant",
    ]  # fmt: skip
    assert text.endswith("```\nJanuary\n```\nThat's it.\n\n")


NOTES = {
    "truncated": (said("a", "truncated", "length"), "truncated"),
    "length": (said("a", "completed", "length"), "length"),
    "content_filter": (said("a", "completed", "content_filter"), r"content\_filter"),
    "stop": (said("a", model="*a* <b>"), r"\*a\* \<b\>"),
}


@pytest.mark.parametrize(("reply", "note"), NOTES.values(), ids=NOTES)
def test_markdown_escapes_why_a_reply_is_short(reply: MessageRow, note: str) -> None:
    (line,) = [line for line in written("md", reply).split("\n") if "AI generated" in line]
    assert note in line.strip("*").split(" · ")
