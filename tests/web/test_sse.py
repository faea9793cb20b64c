"""A reply's events are rendered as a stream of frames, or as one response."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from chatkeep.domain.conversation import Delta, Message, Role, Status, Usage
from chatkeep.errors import ProviderBroke
from chatkeep.i18n import verbatim
from chatkeep.turns.live import End, Event
from chatkeep.web import sse
from chatkeep.web.schemas import chat
from chatkeep.web.schemas.common import time_text

ROW = Message(
    id=UUID(int=2), conversation_id=UUID(int=1), parent_id=None, position=2, role=Role.ASSISTANT, content="",
    timestamp=1_790_000_000_123_456, status=Status.COMPLETED, model="m", finish_reason="stop", usage=Usage(3, 4),
)  # fmt: skip
START = chat.Start(ROW.conversation_id, ROW.id, "m", cached=False)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


def frames(events: list[Event], after: int = 0) -> list[bytes]:
    return list(sse.SSEEncoder(START, request_id="r", after=after).stream(iter(events)))


def parsed(frame: bytes) -> tuple[str, str | None, Any]:
    """Parse a frame into event, id and data; assert that it has only known fields."""
    assert frame.endswith(b"\n\n")
    lines = frame[:-2].decode().split("\n")
    fields = dict(line.split(": ", 1) for line in lines)
    assert fields.keys() <= {"event", "id", "data", "retry"}
    assert len(fields) == len(lines)
    return fields["event"], fields.get("id"), json.loads(fields["data"])


@given(st.lists(TEXT.filter(bool), max_size=8), st.integers(0, 1000))
def test_deltas_join_to_the_text_and_ids_count_characters(texts: list[str], after: int) -> None:
    start, *deltas, done = map(parsed, frames([*map(Delta, texts), End(ROW)], after))
    assert [event for event, _, _ in (start, *deltas, done)] == ["start", *["delta"] * len(texts), "done"]
    assert [data["text"] for _, _, data in deltas] == texts
    assert [shown for _, shown, _ in deltas] == [str(after + len("".join(texts[: n + 1]))) for n in range(len(texts))]
    assert done[1] == "end"


def test_unicode_line_separators_are_escaped() -> None:
    """Some clients split lines as Python does."""
    text = "a\x85b\u2028c\u2029d"
    _, delta, _ = frames([Delta(text), End(ROW)])
    assert len(delta.decode().splitlines()) == delta.count(b"\n")
    assert parsed(delta)[2] == {"text": text}


def test_silence_sends_a_ping_comment() -> None:
    assert frames([None, Delta("x"), None, End(ROW)])[1::2] == [b": ping\n\n", b": ping\n\n"]


@pytest.mark.parametrize(
    ("delta", "data"),
    [
        (Delta("a"), {"text": "a"}),
        (Delta("", "b"), {"reasoning": "b"}),
        (Delta("a", "b"), {"text": "a", "reasoning": "b"}),
        (Delta("a\nb\r\n\n"), {"text": "a\nb\r\n\n"}),
    ],
)
def test_delta_has_only_nonempty_fields(delta: Delta, data: dict[str, str]) -> None:
    assert parsed(frames([delta, End(ROW)])[1])[2] == data


def test_done_event_has_status_and_usage() -> None:
    assert parsed(frames([End(ROW)])[-1])[2] == {
        "finish_reason": "stop", "status": "completed", "cached": False,
        "usage": {"input_tokens": 3, "output_tokens": 4}, "created_at": "2026-09-21T14:13:20.123Z",
    }  # fmt: skip


def test_error_event_is_a_problem_with_the_ids_of_the_reply() -> None:
    event, at, problem = parsed(frames([Delta("x"), End(ROW, ProviderBroke(verbatim("It broke.")))])[-1])
    assert (event, at, problem["detail"], problem["request_id"]) == ("error", "end", "It broke.", "r")
    assert (problem["conversation_id"], problem["message_id"]) == (str(ROW.conversation_id), str(ROW.id))


def test_failure_before_the_first_delta_raises() -> None:
    with pytest.raises(ProviderBroke):
        sse.first_event(iter([None, End(replace(ROW, status=Status.FAILED), ProviderBroke())]))
    assert sse.first_event(iter([None, Delta("x")])) == Delta("x")
    assert sse.first_event(iter([End(ROW)])) == End(ROW)


def test_answer_returns_the_message_of_the_end() -> None:
    assert sse.answer(iter([Delta("x"), None, End(ROW)])) == ROW


def test_answer_raises_the_problem_of_a_broken_reply() -> None:
    with pytest.raises(ProviderBroke):
        sse.answer(iter([Delta("x"), End(ROW, ProviderBroke())]))


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_790_000_000_999_999, "2026-09-21T14:13:20.999Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (253_402_300_799_999_999, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_times_are_rfc_3339_with_milliseconds(at: int, text: str) -> None:
    assert time_text(at) == text


def events() -> Iterator[Event]:
    yield Delta("x")
    raise AssertionError("a second event was read")


def test_first_event_reads_nothing_ahead() -> None:
    assert sse.first_event(events()) == Delta("x")
