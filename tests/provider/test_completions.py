from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkeep.errors import (
    ContextTooLong,
    ProviderBroke,
    ProviderBusy,
    ProviderError,
    ProviderQuotaExceeded,
    ProviderRefused,
)
from chatkeep.model import Delta, Finish, Prompt, PromptMessage, Role, Usage
from chatkeep.provider.completions import ReplyDecoder, ReplyReader, request_body
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
def test_what_a_chunk_adds(chunk: dict[str, Any], delta: Delta | None) -> None:
    assert decode(chunk) == [delta]


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        ({"error": {"message": "m", "code": 429}}, ProviderBusy),
        ({"error": {"message": "m", "code": "429"}}, ProviderBusy),
        ({"error": {"message": "m", "type": "rate_limit_error"}}, ProviderBusy),
        ({"error": {"message": "m", "type": "overloaded_error"}}, ProviderBusy),
        ({"error": {"message": "m", "code": "insufficient_quota"}}, ProviderQuotaExceeded),
        ({"error": {"message": "m", "code": "invalid_api_key"}}, ProviderRefused),
        ({"error": {"message": "m", "type": "authentication_error"}}, ProviderRefused),
        ({"error": {"message": "m", "code": 400}}, ProviderRefused),
        ({"error": {"message": "m", "code": 500}}, ProviderBroke),
        ({"error": {"message": "m"}}, ProviderBroke),
        ({"error": "m"}, ProviderBroke),
        ({"detail": "m"}, ProviderBroke),
        ({"detail": [{"msg": "m"}]}, ProviderBroke),
        ({"object": "error", "message": "m", "code": 401}, ProviderRefused),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}, ProviderBusy),
        ({"error": {"error": {"message": "m"}}, "choices": [{"delta": {"content": "lost"}}]}, ProviderBroke),
    ],
)
def test_an_error_in_band_is_typed_and_told(payload: dict[str, Any], kind: type[ProviderError]) -> None:
    with pytest.raises(kind, match=r"It said: m$"):
        decode(payload)


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
def test_what_is_not_the_protocol_is_refused(payload: bytes) -> None:
    with pytest.raises(ProviderBroke):
        ReplyDecoder().decode(Event(payload))


@given(st.lists(st.text(st.characters(codec=None), min_size=1, max_size=4), max_size=8))
def test_halved_characters_are_joined_and_lone_halves_replaced(pieces: list[str]) -> None:
    body = b"".join(b"data: " + json.dumps(choice(delta={"content": piece})).encode() + b"\n\n" for piece in pieces)
    items = read([body + STOP + DONE])
    text = "".join(item.text for item in items if isinstance(item, Delta))
    whole = "".join(pieces).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert text == whole
    assert all(item.text.encode() for item in items if isinstance(item, Delta))


def test_usage_and_model_are_in_the_finish_even_if_they_come_last() -> None:
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4},"model":"m-1"}\n\n'
    assert read([STOP, usage, DONE]) == [Finish("stop", Usage(3, 4), "m-1")]


@pytest.mark.parametrize("counts", [{}, {"prompt_tokens": None, "completion_tokens": -1}, {"prompt_tokens": 1e400}])
def test_senseless_usage_counts_as_none(counts: dict[str, Any]) -> None:
    body = json.dumps({**choice(finish_reason="stop"), "usage": counts}).replace("Infinity", "1e308").encode()
    assert read([body]) == [Finish("stop")]


@pytest.mark.parametrize("ending", [[STOP, DONE], [STOP], [STOP, b"data: [DONE]"], [STOP[:-2]], [STOP, b": bye\n\n"]])
def test_a_reply_with_a_finish_reason_is_whole(ending: list[bytes]) -> None:
    assert read(ending) == [Finish("stop")]


@pytest.mark.parametrize(
    "ending", [[], [b": bye\n\n"], [b'data: {"choices":[{"finish_reason":""}]}\n\n'], [b"data: null\n\n"]]
)
def test_a_reply_without_one_is_not(ending: list[bytes]) -> None:
    with pytest.raises(ProviderBroke, match=r"without a finish reason|other than a reply"):
        read(ending)


def test_a_finish_reason_can_say_that_the_prompt_is_too_long() -> None:
    ended = json.dumps(choice(delta={}, finish_reason="model_context_window_exceeded")).encode()
    with pytest.raises(ContextTooLong):
        read([b"data: " + ended + b"\n\n", DONE])
    said = json.dumps(choice(delta={"content": "a"})).encode()
    whole = read([b"data: " + said + b"\n\n", b"data: " + ended + b"\n\n", DONE])
    assert whole == [Delta("a"), Finish("length")]


def test_a_request_holds_what_the_prompt_asks() -> None:
    prompt = Prompt("m", (PromptMessage(Role.SYSTEM, "s"), PromptMessage(Role.USER, "u")), 0.5, 9)
    assert request_body(prompt, Dialect()) == {
        "model": "m",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "max_tokens": 9,
    }


def test_a_request_leaves_out_what_it_does_not_ask() -> None:
    assert set(request_body(Prompt("m", ()), Dialect(stream_options=False))) == {"model", "messages", "stream"}
