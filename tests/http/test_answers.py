"""Recorded answers of real providers: their effect on callers, rows and the cache."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.answer_parts import NO_ROOM, SENTENCE, Answer
from tests.answers import ANSWERS
from tests.http.api import Api, asked, unique
from tests.upstream import Upstream


def calm(api: Api) -> None:
    """Keep the breaker closed: most of its last calls succeed."""
    for _ in range(6):
        api.chat(unique("A provider that fails at times leaves the breaker closed."))


def turn(api: Api, message: str, *, streamed: bool, cache: bool) -> dict[str, Any]:
    """Take a turn and return its end in one form for JSON, streams and problems."""
    response = api.post(message, cache=cache, stream=streamed)
    if response.headers.get_content_type() != "text/event-stream":
        return dict(response.json)
    frames = [dict(line.split(": ", 1) for line in frame.split("\n")) for frame in response.text.split("\n\n") if frame]
    events = [(frame["event"], json.loads(frame["data"])) for frame in frames if "event" in frame]
    text = "".join(event.get("text", "") for name, event in events if name == "delta")
    return {"reply": text, **events[0][1], **events[-1][1]}


@pytest.mark.parametrize("streamed", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("name", ANSWERS)
def test_turn_ends_as_the_provider_ended_it(embedded: Api, upstream: Upstream, name: str, *, streamed: bool) -> None:
    """Takes nearly a second if chatkeep retries twice."""
    due = ANSWERS[name]
    if due.error == "provider_broke":
        calm(embedded)
    message = unique(f"What is fog? #fault=answer:{name}#")
    ended = turn(embedded, message, streamed=streamed, cache=False)
    assert ended.get("code") == due.error
    assert due.told in ended.get("detail", "")
    if due.error is None:
        assert (ended["reply"], ended["status"], ended["finish_reason"]) == (due.text, due.status, due.reason)
    assert_stored(embedded.last(ended["conversation_id"]), due)
    assert 1 <= len(asked(upstream, message)) <= due.calls
    assert_learnt(embedded, upstream, message, due, streamed=streamed)


def assert_stored(row: dict[str, Any], due: Answer) -> None:
    """Fail unless the row has all received text and the reason of its end."""
    assert (row["content"], row["reasoning"]) == (due.text, due.reasoning)
    assert (row["status"], row["finish_reason"], row["error"]) == (due.status, due.reason, due.error)
    assert due.told in (row["error_detail"] or "")
    if due.usage:
        assert tuple(row["usage"].values()) == due.usage


def assert_learnt(api: Api, upstream: Upstream, message: str, due: Answer, *, streamed: bool) -> None:
    """Fail unless only complete answers are cached."""
    if due.calls > 1:
        return
    before = len(asked(upstream, message))
    first, second = (turn(api, message, streamed=streamed, cache=True) for _ in range(2))
    assert len(asked(upstream, message)) - before == (1 if due.is_learnt else 2)
    if due.error is None:
        assert (first["reply"], first["cached"]) == (due.text, False)
        assert (second["reply"], second["cached"]) == (due.text, due.is_learnt)


@pytest.mark.parametrize("name", ["error-message", "error-field", "error-of-words", "only-done"])
def test_request_errors_do_not_open_the_breaker(embedded: Api, upstream: Upstream, name: str) -> None:
    """Takes 21 turns."""
    for _ in range(20):
        message = unique(f"Too long #fault=answer:{name}#")
        assert embedded.post(message).status in {422, 502}
        assert len(asked(upstream, message)) == 1
    assert embedded.chat(unique("Hello"))["status"] == "completed"


@pytest.mark.parametrize("name", ["think", "unopened"])
def test_reasoning_in_the_text_is_not_sent_as_context(embedded: Api, upstream: Upstream, name: str) -> None:
    first = embedded.chat(unique(f"#fault=answer:{name}#"))
    message = unique("And mist?")
    embedded.chat(message, conversation_id=first["conversation_id"])
    assert asked(upstream, message)[0].messages[1]["content"] == SENTENCE


def test_failed_reply_has_its_reason_in_both_languages_and_the_log_does_not(embedded: Api) -> None:
    problem = embedded.post(unique("#fault=answer:error-message#")).json
    path = f"/api/conversations/{problem['conversation_id']}"
    row = embedded.request("GET", path, headers={"Accept-Language": "zh"}).json["messages"]["data"][-1]
    assert row["error_detail"].startswith("模型服务不接受该请求")
    assert NO_ROOM.rstrip(".") in row["error_detail"]
    log = embedded.server.log()
    assert f"{problem['message_id']} failed at the provider: ProviderRefused" in log
    assert NO_ROOM not in log


def test_unknown_finish_reason_is_logged_once(embedded: Api) -> None:
    for _ in range(2):
        embedded.chat(unique("#fault=answer:unknown-word#"))
    assert embedded.server.log().count("unknown finish reason: tired") == 1


def test_deadline_error_names_its_setting(impatient: Api) -> None:
    """Waits for a deadline of a second. A provider's comments do not count as tokens."""
    detail = impatient.post("Hello #fault=queue#").json["detail"]
    assert "CHATKEEP_FIRST_TOKEN_TIMEOUT" in detail
