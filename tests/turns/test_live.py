"""A reply while it is generated: who follows it sees all of it once, and how it ends is decided by what happened."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from msgspec.structs import replace

from chatkeep.domain.conversation import Delta, Finish, Message, Role, Status, Usage
from chatkeep.errors import EmptyReply, Problem, ProviderBroke, ProviderTimeout
from chatkeep.i18n import verbatim
from chatkeep.store.leases import Lease
from chatkeep.turns.live import End, FollowerCall, LiveReply, StopReason
from chatkeep.turns.outcome import outcome, problem_of

ROW = Message(
    id=UUID(int=2), conversation_id=UUID(int=1), parent_id=None, position=2, role=Role.ASSISTANT, content="",
    timestamp=0, status=Status.GENERATING, model="asked",
)  # fmt: skip
FINISH = Finish("stop", Usage(1, 2), "told")
BROKE = ProviderBroke(verbatim("It broke."))


def test_copy_of_a_reply_without_text_ends_like_the_reply() -> None:
    ended = replace(ROW, status=Status.FAILED, finish_reason="content_filter", error="empty_reply")
    with pytest.raises(EmptyReply) as raised:
        FollowerCall(lambda _events: iter([End(ended, EmptyReply(verbatim("It was filtered.")))])).deliver(
            lambda _piece: None
        )
    final, problem = outcome(a_reply(), None, raised.value)
    assert (final.error, final.finish_reason, problem) == ("empty_reply", "content_filter", raised.value)


def a_reply(*, received: str = "", ending: StopReason | None = None) -> LiveReply:
    reply = LiveReply(Lease(ROW.conversation_id, ROW.id, UUID(int=3), stop=False), ROW)
    if received:
        reply.receive(Delta(received))
    if ending:
        reply.end(ending)
    return reply


OUTCOMES: list[tuple[str, StopReason | None, Finish | None, Problem | None, Status, str | None]] = [
    ("text", None, FINISH, None, Status.COMPLETED, None),
    ("", None, FINISH, None, Status.FAILED, "empty_reply"),
    (" \n", None, FINISH, None, Status.TRUNCATED, "empty_reply"),
    ("", None, Finish("content_filter", screened=True), None, Status.TRUNCATED, None),
    ("text", None, Finish("length"), None, Status.TRUNCATED, None),
    ("text", None, Finish("content_filter"), None, Status.TRUNCATED, None),
    ("text", None, Finish("tool_calls", tool="x"), None, Status.TRUNCATED, None),
    ("text", None, Finish("refusal"), None, Status.COMPLETED, None),
    ("text", None, Finish("tired"), None, Status.COMPLETED, None),
    ("text", StopReason.STOPPED, FINISH, None, Status.COMPLETED, None),
    ("text", StopReason.GAP, FINISH, None, Status.COMPLETED, None),
    ("text", StopReason.STOPPED, None, None, Status.STOPPED, None),
    ("", StopReason.STOPPED, None, BROKE, Status.STOPPED, None),
    ("text", StopReason.TOO_LONG, None, None, Status.TRUNCATED, None),
    ("text", StopReason.LOST, None, None, Status.INTERRUPTED, "reply_interrupted"),
    ("", StopReason.SHUTDOWN, None, BROKE, Status.INTERRUPTED, "reply_interrupted"),
    ("", StopReason.SLOW_START, None, None, Status.FAILED, "provider_timeout"),
    ("text", StopReason.GAP, None, BROKE, Status.TRUNCATED, "provider_timeout"),
    ("text", StopReason.TOTAL, None, None, Status.TRUNCATED, "provider_timeout"),
    ("text", None, None, BROKE, Status.TRUNCATED, "provider_broke"),
    ("", None, None, BROKE, Status.FAILED, "provider_broke"),
    ("text", None, None, None, Status.TRUNCATED, "provider_broke"),
    ("", None, None, None, Status.FAILED, "provider_broke"),
]


@pytest.mark.parametrize(("received", "ending", "finish", "problem", "status", "code"), OUTCOMES)
def test_outcome_of_a_reply(
    received: str,
    ending: StopReason | None,
    finish: Finish | None,
    problem: Problem | None,
    status: Status,
    code: str | None,
) -> None:
    row, told = outcome(a_reply(received=received, ending=ending), finish, problem)
    assert (row.status, row.error, told.code if told else None) == (status, code, code)


def test_completed_reply_has_the_provider_s_finish() -> None:
    row, _ = outcome(a_reply(received="text"), FINISH, None)
    assert (row.finish_reason, row.usage, row.model) == ("stop", Usage(1, 2), "told")
    assert outcome(a_reply(received="text"), Finish("stop"), None)[0].model == "asked"


@pytest.mark.parametrize("received", ["", "text"])
def test_failed_reply_has_the_provider_s_finish(received: str) -> None:
    broke = ProviderBroke(verbatim("It broke."))
    broke.finish = Finish("network_error", Usage(1, 2), "told")
    row, problem = outcome(a_reply(received=received), None, broke)
    assert (row.finish_reason, row.usage, row.model, problem) == ("network_error", Usage(1, 2), "told", broke)


@pytest.mark.parametrize(
    ("finish", "reasoning", "told"),
    [
        (Finish("length"), "why", "token limit"),
        (Finish("content_filter"), "", "content filter"),
        (Finish("tool_calls", tool="search"), "", "the tool search"),
        (Finish("tool_calls"), "", "a tool"),
        (Finish("stop", tool=""), "", "a tool"),
        (Finish("stop"), "why", "after the reasoning"),
        (Finish("stop"), "", "too long for the model"),
    ],
)
def test_reply_without_text_explains_why(finish: Finish, reasoning: str, told: str) -> None:
    reply = a_reply()
    reply.receive(Delta("", reasoning))
    row, problem = outcome(reply, finish, None)
    assert (row.error, row.finish_reason) == ("empty_reply", finish.reason)
    assert row.error_detail
    assert problem
    assert told in row.error_detail == problem.detail


@pytest.mark.parametrize("ending", [None, *StopReason])
def test_only_the_provider_s_finish_completes_a_reply(ending: StopReason | None) -> None:
    for received in ("", "text"):
        assert outcome(a_reply(received=received, ending=ending), None, None)[0].status is not Status.COMPLETED


def test_first_stop_reason_wins() -> None:
    reply = a_reply(ending=StopReason.STOPPED)
    reply.end(StopReason.LOST)
    assert reply.ending is StopReason.STOPPED


@pytest.mark.parametrize("code", ["provider_timeout", "provider_broke", "reply_interrupted"])
def test_stored_error_becomes_the_same_problem(code: str) -> None:
    problem = problem_of(replace(ROW, error=code))
    assert problem
    assert problem.code == code
    assert problem_of(ROW) is None


def test_followers_receive_every_delta_once() -> None:
    reply = a_reply()
    early = reply.follow()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(next, early)
        reply.committed(Delta("one ", "why"))
        late = reply.follow()
        assert next(late) == Delta("one ", "why")
        reply.committed(Delta("two"))
        reply.close(End(ROW))
        seen = [first.result(5), *early]
    assert [event for event in seen if isinstance(event, Delta)] == [Delta("one ", "why"), Delta("two")]
    assert list(late) == [Delta("two"), End(ROW)]
    assert list(reply.follow()) == [Delta("one two", "why"), End(ROW)]


@pytest.mark.parametrize("after", [0, 1, 4, 6, 7, 99])
def test_follow_begins_after_the_given_characters(after: int) -> None:
    reply = a_reply()
    reply.committed(Delta("😀two 你好", "why"))
    following = reply.follow(after)
    reply.committed(Delta("!"))
    reply.close(End(ROW, BROKE))
    *events, end = following
    deltas = [event for event in events if isinstance(event, Delta)]
    assert "".join(delta.text for delta in deltas) == "😀two 你好!"[after:]
    assert any(delta.reasoning for delta in deltas) == (after == 0)
    assert end == End(ROW, BROKE)


def test_follow_skips_given_characters_that_are_not_committed_yet() -> None:
    reply = a_reply()
    reply.committed(Delta("one "))
    following = reply.follow(6)
    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(list, following)
        reply.committed(Delta("two "))
        reply.committed(Delta("three"))
        reply.close(End(ROW))
        assert "".join(event.text for event in rest.result(5) if isinstance(event, Delta)) == "o three"


def test_timeout_names_the_deadline() -> None:
    _, problem = outcome(a_reply(received="x", ending=StopReason.GAP), None, None)
    assert isinstance(problem, ProviderTimeout)
    assert "fell silent" in problem.detail
