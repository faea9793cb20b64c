from __future__ import annotations

import gzip
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkeep.domain.conversation import Delta, Finish, Prompt, PromptMessage, Role, Usage
from chatkeep.errors import (
    ContextTooLong,
    ProviderBroke,
    ProviderBusy,
    ProviderError,
    ProviderQuotaExceeded,
    ProviderRefused,
    ProviderTimeout,
)
from chatkeep.provider.completions import ENDING_SECONDS, REASONED_SECONDS, ReplyDecoder, ReplyReader, request_body
from chatkeep.provider.dialects import Dialect
from chatkeep.provider.sse import Event

STOP = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"


def decode(*payloads: Any) -> list[Delta | None]:
    decoder = ReplyDecoder()
    return [decoder.decode(Event(json.dumps(payload).encode())) for payload in payloads]


def read(bodies: list[bytes]) -> list[Delta | Finish]:
    found: list[Delta | Finish] = []
    reader = ReplyReader("", found.append)
    for body in bodies:
        reader.feed(body)
    reader.close()
    return found


def choice(**fields: Any) -> dict[str, Any]:
    return {"choices": [fields]}


@pytest.mark.parametrize(
    ("chunk", "delta"),
    [
        (choice(delta={"content": "a"}, index=0, logprobs=None), Delta("a")),
        (choice(delta={"role": "assistant", "content": ""}), None),
        (choice(delta={"content": None, "tool_calls": [{"x": 1}]}), None),
        (choice(delta={"content": [{"type": "text", "text": "a"}]}), Delta("a")),
        (choice(delta={"content": ["a", {"text": {"value": "b"}}, None, 7]}), Delta("ab")),
        (choice(delta={"content": {"type": "image_url", "image_url": {"url": "x"}}}), None),
        (choice(delta={"reasoning_content": "r"}), Delta("", "r")),
        (choice(delta={"reasoning": "r", "content": "a"}), Delta("a", "r")),
        (choice(delta=None), None),
        (choice(), None),
        ({"choices": []}, None),
        ({"choices": None, "error": None, "detail": None, "model": None, "new": {"a": [1e300]}}, None),
        ({}, None),
        (choice(message={"content": "whole"}), Delta("whole")),
    ],
)
def test_chunk_adds_text_and_reasoning(chunk: dict[str, Any], delta: Delta | None) -> None:
    assert decode(chunk) == [delta]


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        ({"error": {"message": "m", "code": 429}}, ProviderBusy),
        ({"error": {"message": "m", "code": "429"}}, ProviderBusy),
        ({"error": {"message": "m", "type": "rate_limit_error"}}, ProviderBusy),
        ({"error": {"message": "m", "type": "overloaded_error"}}, ProviderBusy),
        ({"error": {"message": "m", "type": "incomplete_generation"}}, ProviderBroke),
        ({"error": {"message": "m", "code": "insufficient_quota"}}, ProviderQuotaExceeded),
        ({"error": {"message": "m", "code": "invalid_api_key"}}, ProviderRefused),
        ({"error": {"message": "m", "type": "authentication_error"}}, ProviderRefused),
        ({"error": {"message": "m", "code": 400}}, ProviderRefused),
        ({"error": {"message": "m", "code": 500}}, ProviderBroke),
        ({"error": {"message": "m", "type": "server_error"}}, ProviderBroke),
        ({"error": {"message": "m"}}, ProviderRefused),
        ({"error": "m"}, ProviderRefused),
        ({"detail": "m"}, ProviderRefused),
        ({"detail": [{"msg": "m"}]}, ProviderRefused),
        ({"object": "error", "message": "m", "code": 401}, ProviderRefused),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}, ProviderBusy),
        ({"error": {"error": {"message": "m"}}, "choices": [{"delta": {"content": "lost"}}]}, ProviderRefused),
    ],
)
def test_in_band_error_has_class_and_message(payload: dict[str, Any], kind: type[ProviderError]) -> None:
    with pytest.raises(kind, match=r"It said: m$"):
        decode(payload)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("The prompt has 41000 tokens, there is room for 40960", ProviderRefused),
        ("Conversation roles must alternate; a timeout cannot be set", ProviderRefused),
        ("messages 参数非法", ProviderRefused),
        ("Incorrect API key provided: ***", ProviderRefused),
        ("Too many requests, slow down", ProviderBusy),
        ("Model is overloaded with other requests", ProviderBusy),
        ("系统繁忙", ProviderBusy),
        ("Request timed out", ProviderTimeout),
        ("Unexpected endpoint or method. (POST /chat)", ProviderRefused),
        ("The runner has unexpectedly stopped", ProviderBroke),
        ("Internal Server Error", ProviderBroke),
        ("EngineCore encountered an issue", ProviderBroke),
        ("upstream error: do request failed", ProviderBroke),
        ("CUDA error: device-side assert triggered", ProviderBroke),
        ("Connection to the runner was lost", ProviderBroke),
        ("服务内部错误", ProviderBroke),
    ],
)
@pytest.mark.parametrize(
    "body",
    ['{"error": {"message": "%s"}}', '{"error": "%s"}', '{"detail": "%s"}', "event: error\ndata: %s\n\n", "%s\n"],
)
def test_in_band_error_is_classified_by_its_words(body: str, said: str, kind: type[ProviderError]) -> None:
    """Errors that don't report trouble at the provider are the request's fault, and not retried."""
    with pytest.raises(kind, match=re.escape(said)):
        read([(body % said).encode()])


def test_unknown_error_words_within_a_reply_are_no_refusal() -> None:
    begun = b"data: " + json.dumps(choice(delta={"content": "a"})).encode() + b"\n\n"
    for error in (
        b'data: {"error": {"message": "Oh"}}\n\n',
        b"event: error\ndata: Oh\n\n",
        b'data: [{"error": "Oh"}]\n\n',
    ):
        with pytest.raises(ProviderBroke, match=r"It said: Oh$"):
            read([begun, error])


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": "invalid_api_key"}, 401),
        ({"type": "permission_error"}, 403),
        ({"code": "model_not_found"}, 404),
        ({"code": 404}, 404),
        ("Oh", None),
    ],
)
def test_in_band_error_has_matching_status(error: object, status: int | None) -> None:
    with pytest.raises(ProviderRefused) as raised:
        decode({"error": error})
    assert raised.value.upstream_status == status


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        ({"error": True, "message": "the words"}, ProviderRefused),
        ({"error": "invalid_request", "message": "the words"}, ProviderRefused),
        ({"error": "invalid_request", "error_description": "the words"}, ProviderRefused),
        ({"error": "Bad Request", "status": 400, "message": ["the words"], "path": "/v1"}, ProviderRefused),
        ({"error": {"code": 500}, "message": "the words"}, ProviderBroke),
        ({"error": "rate_limit_exceeded", "detail": "the words"}, ProviderBusy),
        ({"error": {"message": "the words", "title": "Oh no"}}, ProviderRefused),
        ({"error": {"code": "overloaded", "message": "the words"}, "message": "failed"}, ProviderBusy),
        ({"base_resp": {"status_code": 2013, "status_msg": "invalid params: the words"}}, ProviderRefused),
    ],
)
def test_error_message_may_be_beside_its_name(payload: dict[str, Any], kind: type[ProviderError]) -> None:
    with pytest.raises(kind, match=r"the words$"):
        decode(payload)


@pytest.mark.parametrize(
    "payload",
    [
        {"fault": {"faultstring": "the words"}},
        {"response": {"error": {"message": "the words"}}},
        {"Message": "the words"},
    ],
)
def test_object_without_completion_reports_its_message(payload: dict[str, Any]) -> None:
    with pytest.raises(ProviderRefused, match=r"other than a reply. It said: the words$"):
        read([json.dumps(payload).encode()])


@pytest.mark.parametrize(
    "error", [{"code": 0, "message": "Success"}, {"code": "200", "msg": "ok"}, "none", "False", []]
)
def test_error_object_that_reports_success_is_ignored(error: object) -> None:
    assert decode(choice(delta={"content": "a"}) | {"error": error}) == [Delta("a")]


@pytest.mark.parametrize("name", ["error", "code", "detail", "status"])
def test_deeply_nested_value_does_not_crash(name: str) -> None:
    deep = b'{"a":' * 900 + b"1" + b"}" * 900
    with pytest.raises((ProviderBroke, ProviderRefused)):
        read([b'data: {"%s": %s}\n\n' % (name.encode(), deep)])


def test_error_after_usage_ends_reply_without_finish_reason() -> None:
    found: list[Delta | Finish] = []
    reader = ReplyReader("", found.append)
    said = json.dumps(choice(delta={"content": "half"})).encode()
    told = json.dumps({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}).encode()
    reader.feed(b"data: " + said + b"\n\ndata: " + told + b"\n\n")
    with pytest.raises(ProviderBroke, match="upstream died"):
        reader.feed(b'data: {"error": {"message": "upstream died", "code": 502}}\n\n')
    assert found == [Delta("half")]


@pytest.mark.parametrize("indent", [0, 1])
def test_json_may_span_several_lines(indent: int) -> None:
    whole = json.dumps(choice(message={"content": "a"}, finish_reason="stop"), indent=indent).encode()
    assert read([whole]) == [Delta("a"), Finish("stop")]
    assert read([b"data: " + whole.replace(b"\n", b"\ndata: ") + b"\n\n", DONE]) == [Delta("a"), Finish("stop")]


@pytest.mark.parametrize(("cut", "is_whole"), [(0, True), (1, False)])
def test_connection_lost_after_complete_object_is_whole(cut: int, *, is_whole: bool) -> None:
    body = json.dumps(choice(message={"content": "a"}, finish_reason="stop")).encode()
    found: list[Delta | Finish] = []
    reader = ReplyReader("", found.append)
    reader.feed(body[: len(body) - cut])
    assert reader.break_off() is is_whole
    assert found == ([Delta("a"), Finish("stop")] if is_whole else [])


def test_raw_tab_in_text_is_kept() -> None:
    assert read([b'{"choices": [{"message": {"content": "a\tb"}}]}']) == [Delta("a\tb"), Finish("stop")]


def test_finish_reason_and_tool_are_storable() -> None:
    tool = b'{"choices": [{"delta": {"tool_calls": [{"function": {"name": "a\\udc00\\n%s"}}]}}]}' % (b"b" * 1000)
    reason = b'{"choices": [{"delta": {}, "finish_reason": "odd\\ud800"}]}'
    finish = read([b"data: " + tool + b"\n\ndata: " + reason + b"\n\n"])[-1]
    assert isinstance(finish, Finish)
    assert finish.reason == "odd?"
    assert finish.tool
    assert finish.tool.encode().startswith(b"a b")
    assert len(finish.tool) <= 300


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("length", "stop"), "length"),
        (("content_filter", "stop"), "content_filter"),
        (("stop", "length"), "length"),
        (("in_progress", "stop"), "stop"),
        (("max_completion_tokens",), "length"),
        (("context_length_exceeded",), "length"),
        (("stop_str",), "stop"),
        (("jailbreak",), "content_filter"),
    ],
)
def test_stop_does_not_replace_other_finish_reasons(words: tuple[str, ...], reason: str) -> None:
    said = choice(delta={"content": "a"})
    events = [said, *(choice(delta={}, finish_reason=word) for word in words)]
    assert read([b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]) == [Delta("a"), Finish(reason)]


@pytest.mark.parametrize(
    "word",
    ["incomplete", "deadline_exceeded", "connection_reset", "killed", "internal", "modelUnloaded", "userStopped"],
)
def test_finish_reason_can_report_provider_failure(word: str) -> None:
    said = json.dumps(choice(delta={"content": "a"}, finish_reason=word)).encode()
    with pytest.raises(ProviderBroke, match=word):
        read([b"data: " + said + b"\n\n", DONE])


def test_input_and_output_usage_may_come_separately() -> None:
    first = json.dumps(choice(delta={"content": "a"}) | {"usage": {"input_tokens": 9, "output_tokens": 1}}).encode()
    last = json.dumps({"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 12}}).encode()
    bodies = [b"data: " + first + b"\n\n", STOP, b"data: " + last + b"\n\n", DONE]
    assert read(bodies) == [Delta("a"), Finish("stop", Usage(9, 12))]


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_gzip_body_may_have_several_members(step: int) -> None:
    said = json.dumps(choice(delta={"content": "a"})).encode()
    body = gzip.compress(b"data: " + said + b"\n\n") + gzip.compress(STOP + DONE) + bytes(9)
    found: list[Delta | Finish] = []
    reader = ReplyReader("gzip", found.append)
    for start in range(0, len(body), step):
        reader.feed(body[start : start + step])
    assert found == [Delta("a"), Finish("stop")]


def test_closing_think_tag_may_be_split_after_blanks() -> None:
    pieces = ("<think>Hm" + " " * 300 + "</thi", "nk>Answer")
    bodies = [b"data: " + json.dumps(choice(delta={"content": piece})).encode() + b"\n\n" for piece in pieces]
    items = read([*bodies, STOP])
    assert "".join(item.text for item in items if isinstance(item, Delta)) == "Answer"
    assert "".join(item.reasoning for item in items if isinstance(item, Delta)).strip() == "Hm"


@pytest.mark.parametrize(("first", "seconds"), [(None, ENDING_SECONDS), ("normal", REASONED_SECONDS)])
def test_finish_reason_in_first_chunk_waits_longer(first: str | None, seconds: float) -> None:
    reader = ReplyReader("", lambda _piece: None)
    for reason in (first, "stop"):
        said = json.dumps(choice(delta={"content": "a"}, finish_reason=reason)).encode()
        reader.feed(b"data: " + said + b"\n\n")
    assert reader.is_ending
    assert reader.ending_seconds == seconds


@pytest.mark.parametrize(
    "payload",
    [
        b"{",
        b'{"choices": [{"delta": {"content": "\xff"}}]}',
        b'{"choices": [{"delta": {"content": "\xed\xa0\xbd"}}]}',
        b'{"choices": [{"delta": {"content": "\\u12"}}]}',
        b'{"x": ' + b"[" * 100_000,
        b'{"x": "\\ud83d", "y": ' + b"[" * 100_000,
        b'{"x": "\\ud83d", "y": ' + b"9" * 5000 + b"}",
        b"{}{}",
    ],
    ids=range(8),
)
def test_invalid_chunks_are_refused(payload: bytes) -> None:
    with pytest.raises(ProviderBroke):
        ReplyDecoder().decode(Event(payload))


@given(st.lists(st.text(st.characters(codec=None), min_size=1, max_size=4), max_size=8))
def test_surrogate_halves_are_joined_and_lone_ones_replaced(pieces: list[str]) -> None:
    body = b"".join(b"data: " + json.dumps(choice(delta={"content": piece})).encode() + b"\n\n" for piece in pieces)
    items = read([body + STOP + DONE])
    text = "".join(item.text for item in items if isinstance(item, Delta))
    whole = "".join(pieces).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert text == whole
    assert all(item.text.encode() for item in items if isinstance(item, Delta))


def test_finish_has_usage_and_model_that_come_last() -> None:
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4},"model":"m-1"}\n\n'
    assert read([STOP, usage, DONE]) == [Finish("stop", Usage(3, 4), "m-1")]


@pytest.mark.parametrize("counts", [{}, {"prompt_tokens": None, "completion_tokens": -1}, {"prompt_tokens": 1e400}])
def test_invalid_usage_is_ignored(counts: dict[str, Any]) -> None:
    body = json.dumps({**choice(finish_reason="stop"), "usage": counts}).replace("Infinity", "1e308").encode()
    assert read([body]) == [Finish("stop")]


@pytest.mark.parametrize("ending", [[STOP, DONE], [STOP], [STOP, b"data: [DONE]"], [STOP[:-2]], [STOP, b": bye\n\n"]])
def test_reply_with_finish_reason_is_whole(ending: list[bytes]) -> None:
    assert read(ending) == [Finish("stop")]


def test_blank_body_is_no_reply() -> None:
    with pytest.raises(ProviderBroke, match="without a finish reason"):
        read([b"\r\n\r\n"])


def test_html_page_within_reply_is_reported_by_title() -> None:
    begun = b"data: " + json.dumps(choice(delta={"content": "a"})).encode() + b"\n\n"
    with pytest.raises(ProviderBroke, match=r"It said: 504 Gateway Time-out$"):
        read([begun, b"<html><head><title>504 Gateway Time-out</title></head></html>"])


@pytest.mark.parametrize(
    "ending", [[], [b": bye\n\n"], [b'data: {"choices":[{"finish_reason":""}]}\n\n'], [b"data: null\n\n"]]
)
def test_reply_without_finish_reason_is_not_whole(ending: list[bytes]) -> None:
    with pytest.raises(ProviderBroke, match=r"without a finish reason|other than a reply"):
        read(ending)


def test_finish_reason_can_report_too_long_prompt() -> None:
    ended = json.dumps(choice(delta={}, finish_reason="model_context_window_exceeded")).encode()
    with pytest.raises(ContextTooLong):
        read([b"data: " + ended + b"\n\n", DONE])
    said = json.dumps(choice(delta={"content": "a"})).encode()
    whole = read([b"data: " + said + b"\n\n", b"data: " + ended + b"\n\n", DONE])
    assert whole == [Delta("a"), Finish("length")]


def test_request_has_fields_of_prompt() -> None:
    prompt = Prompt("m", (PromptMessage(Role.SYSTEM, "s"), PromptMessage(Role.USER, "u")), 0.5, 9)
    assert request_body(prompt, Dialect()) == {
        "model": "m",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "max_tokens": 9,
    }


def test_request_omits_unset_fields() -> None:
    assert set(request_body(Prompt("m", ()), Dialect(stream_options=False))) == {"model", "messages", "stream"}
