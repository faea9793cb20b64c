"""Answers of a turn, and the requests that it sends to the provider."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest

from tests.conftest import ON_EVERY_PAIR
from tests.http.api import Api, asked, unique
from tests.upstream import Upstream, reply_to, tokens_of

pytestmark = [ON_EVERY_PAIR, pytest.mark.everywhere]

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
MODEL = "gpt-4o-mini-2026"


def test_json_answer_has_every_field(api: Api) -> None:
    message = "Tell me something."
    answer = api.chat(message)
    assert TIME.fullmatch(answer.pop("created_at"))
    assert {UUID(answer.pop(name)).version for name in ("conversation_id", "message_id")} == {7}
    usage = {"input_tokens": 1, "output_tokens": len(tokens_of({}, message))}
    assert answer == {
        "reply": reply_to(message), "model": MODEL, "finish_reason": "stop", "status": "completed", "cached": False,
        "usage": usage,
    }  # fmt: skip


def test_stream_has_every_event_and_field(api: Api) -> None:
    stream = api.streamed("Tell me #n=9,r=100#")
    assert [event.event for event in stream.events] == ["start", *["delta"] * (len(stream.events) - 2), "done"]
    start, done = stream.events[0].data, stream.events[-1].data
    assert {UUID(start.pop(name)).version for name in ("conversation_id", "message_id")} == {7}
    assert start == {"model": "gpt-4o-mini", "cached": False}
    assert TIME.fullmatch(done.pop("created_at"))
    usage = {"input_tokens": 1, "output_tokens": 9}
    assert done == {"finish_reason": "stop", "status": "completed", "cached": False, "usage": usage}
    assert stream.text == reply_to("Tell me #n=9,r=100#")


@pytest.mark.parametrize(
    ("accept", "fields", "kind"),
    [
        ("*/*", {}, "application/json"),
        ("application/json", {"stream": False}, "application/json"),
        ("*/*", {"stream": True}, "text/event-stream"),
        ("application/json", {"stream": True}, "text/event-stream"),
        ("text/event-stream", {}, "text/event-stream"),
        ("application/json, text/event-stream;q=0.5", {}, "application/json"),
    ],
)
def test_request_selects_json_or_stream(api: Api, accept: str, fields: dict[str, Any], kind: str) -> None:
    response = api.post("Hello.", headers={"Accept": accept}, **fields)
    assert (response.status, response.headers.get_content_type()) == (200, kind)


def test_stream_headers_forbid_buffering(api: Api) -> None:
    headers = api.streamed("Hello.").headers
    assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-store, no-transform", "no")


def test_deltas_arrive_while_the_reply_is_generated(api: Api) -> None:
    stream = api.streamed("Slowly #n=8,r=20#")
    deltas = [event for event in stream.events if event.event == "delta"]
    assert 4 <= len(deltas) <= 8  # a busy machine joins deltas
    assert deltas[-1].at - deltas[0].at > 0.2


def test_answer_equals_the_stored_reply(api: Api) -> None:
    message = "Remember this #think=2#"
    answer = api.chat(message, metadata={"topic": ["a", 1, None]}, ttl=60, system="Be kind.")
    conversation = api.read(answer["conversation_id"])
    asked_for, reply = conversation["messages"]["data"]
    assert (asked_for["role"], asked_for["content"], asked_for["parent_id"]) == ("user", message, None)
    assert (reply["role"], reply["content"], reply["parent_id"]) == ("assistant", answer["reply"], asked_for["id"])
    assert (reply["id"], reply["timestamp"]) == (answer["message_id"], answer["created_at"])
    same = ("model", "finish_reason", "status", "usage", "cached", "reasoning")
    assert {name: reply[name] for name in same} == {name: answer[name] for name in same}
    assert (conversation["metadata"], conversation["ttl"]) == ({"topic": ["a", 1, None]}, 60)
    assert (conversation["system"], conversation["message_count"]) == ("Be kind.", 2)


def test_prompt_is_the_system_prompt_and_whole_turns_of_the_last_ten_messages(api: Api, upstream: Upstream) -> None:
    history: list[dict[str, str]] = []
    fields = {"system": "Be brief."}
    for number in range(7):
        message = unique(f"turn {number}")
        answer = api.chat(message, **fields)
        fields = {"conversation_id": answer["conversation_id"]}
        history += [{"role": "user", "content": message}, {"role": "assistant", "content": answer["reply"]}]
    last = history[-2]["content"]
    assert asked(upstream, last)[0].messages == [{"role": "system", "content": "Be brief."}, *history[:-1][-9:]]


def test_text_of_a_broken_reply_is_context(api: Api, upstream: Upstream) -> None:
    broken = api.post("One two three #fault=cut_after:3#")
    assert broken.status == 502
    message = unique("Go on")
    api.chat(message, conversation_id=broken.json["conversation_id"])
    assert [item["content"] for item in asked(upstream, message)[0].messages][1] == "You said: One "


def test_options_are_passed_to_the_provider(api: Api, upstream: Upstream) -> None:
    message = unique("Options")
    answer = api.chat(message, model="other", temperature=0.25, max_tokens=77)
    body = asked(upstream, message)[0].body
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("other", 0.25, 77)
    assert answer["model"] == "other-2026"


def test_unset_options_are_not_sent(api: Api, upstream: Upstream) -> None:
    message = unique("No options")
    api.chat(message)
    request = asked(upstream, message)[0]
    assert request.body.keys() == {"model", "messages", "stream", "stream_options"}
    assert request.headers["authorization"] == "Bearer test-key"
    assert [item["role"] for item in request.messages] == ["user"]


@pytest.mark.parametrize("spelling", ["reasoning", "reasoning_content"])
def test_reasoning_is_separate_from_the_text(api: Api, spelling: str) -> None:
    message = f"Think first #think=3,think_as={spelling}#"
    stream = api.streamed(message)
    reasoning = "".join(event.data.get("reasoning", "") for event in stream.events)
    stored = api.last(stream.events[0].data["conversation_id"])
    assert reasoning == stored["reasoning"] == "thought 0 thought 1 thought 2 "
    assert stream.text == stored["content"] == reply_to(message)


def test_usage_is_null_if_the_provider_reports_none(api: Api) -> None:
    answer = api.chat("Hello #no_usage#")
    assert answer["usage"] is None
    assert api.last(answer["conversation_id"])["usage"] is None


@pytest.mark.parametrize("spec", ["crlf", "cr", "bom", "comments", "odd", "length", "json", "close", "fault=no_done"])
def test_every_provider_dialect_gives_the_same_reply(api: Api, spec: str) -> None:
    message = f"你好 😀 #{spec}#"
    assert api.chat(message)["reply"] == api.streamed(message).text == reply_to(message)


def test_finish_reason_is_forwarded(api: Api) -> None:
    assert api.chat("Hello #finish=length#")["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("message", "title"),
    [("\n  A  haiku,\tplease \nsecond line", "A haiku, please"), ("字" * 100, "字" * 79 + "…"), ("字" * 80, "字" * 80)],
    ids=["white space", "long", "just fits"],
)
def test_first_line_becomes_the_title(api: Api, message: str, title: str) -> None:
    assert api.read(api.chat(message)["conversation_id"])["title"] == title


def test_chinese_message_is_accepted_up_to_the_body_limit(api: Api) -> None:
    taken, refused = (f'{{"message":"{"汉" * characters}"}}'.encode() for characters in (340_000, 400_000))
    kind = {"Content-Type": "application/json"}
    assert api.request("POST", "/api/chat", body=taken, headers=kind).status == 200
    answer = api.request("POST", "/api/chat", body=refused, headers=kind)
    assert (answer.status, answer.json["code"]) == (413, "body_too_large")
    assert "CHATKEEP_MAX_BODY" in answer.json["detail"]


def test_conversation_accepts_one_turn_at_a_time(api: Api, beside: Api) -> None:
    with api.running("Slowly #n=99,r=20#") as reply:
        conversation = reply.id
        for other in (api, beside):
            refused = other.post("Me too", conversation_id=conversation)
            assert (refused.status, refused.json["code"]) == (409, "turn_running")
        api.stop(conversation)
    api.ended(conversation)
    api.chat("Now", conversation_id=conversation)
    assert [item["position"] for item in api.read(conversation)["messages"]["data"]] == [1, 2, 3, 4]


def test_refused_turn_stores_nothing(api: Api) -> None:
    with api.running("Slowly #n=99,r=20#") as reply:
        conversation = reply.id
        api.post("Me too", conversation_id=conversation, system="Changed", ttl=5)
        after = api.read(conversation)
        api.stop(conversation)
    assert (after["message_count"], after["system"], after["ttl"]) == (2, None, 86400)
