from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import MappingProxyType

import pytest

from chatkeep.errors import (
    ContextTooLong,
    ProviderBroke,
    ProviderBusy,
    ProviderError,
    ProviderQuotaExceeded,
    ProviderRefused,
    ProviderTimeout,
)
from chatkeep.provider.failures import from_payload, from_response, scrub
from chatkeep.provider.resilience import is_healthy, is_retryable

KEY = "my-very-own-key"


def fail(status: int, body: bytes = b"", headers: Mapping[str, str] = MappingProxyType({})) -> ProviderError:
    return from_response(status, headers.get, body, (KEY,))


def in_seconds(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("statuses", "kind"),
    [
        ((400, 401, 403, 404, 409, 418, 422), ProviderRefused),
        ((402,), ProviderQuotaExceeded),
        ((413,), ContextTooLong),
        ((429, 503, 529), ProviderBusy),
        ((408, 504), ProviderTimeout),
        ((201, 204, 301, 307, 500, 501, 502, 505, 599), ProviderBroke),
    ],
)
def test_each_status_maps_to_its_error(statuses: tuple[int, ...], kind: type[ProviderError]) -> None:
    for status in statuses:
        assert type(fail(status)) is kind
        assert kind in {ContextTooLong, ProviderQuotaExceeded} or str(status) in fail(status).detail


@pytest.mark.parametrize(
    "error",
    [
        {
            "message": "You exceeded your current quota, please check your plan and billing details.",
            "type": "insufficient_quota",
            "code": "insufficient_quota",
        },
        {"message": "You exceeded your current quota, please check your plan and billing details."},
        {"message": "Insufficient Balance", "type": "unknown_error"},
        {"code": "1113", "message": "您的账户已欠费。"},
        {"message": "Your credit balance is too low to access the API."},
        {"message": "The account is suspended.", "type": "exceeded_current_quota_error"},
        {"message": "Sorry, your account balance is insufficient"},
        {"message": "Your team has run out of credits"},
    ],
)
@pytest.mark.parametrize("status", [400, 402, 403, 429, None])
def test_exhausted_account_is_not_busy(error: dict[str, str], status: int | None) -> None:
    found = from_payload(error) if status is None else fail(status, json.dumps({"error": error}).encode())
    assert type(found) is ProviderQuotaExceeded
    assert not is_retryable(found)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3),
        ({"retry-after": " 2.5 "}, 2.5),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "NaN"}, None),
        ({"retry-after": "inf"}, 3600),
        ({"retry-after": "1e9"}, 3600),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "7", "retry-after-ms": "x"}, 7),
        ({"retry-after": in_seconds(-60)}, None),
        ({"retry-after": in_seconds(999_999)}, 3600),
        ({"retry-after": "Fri, 31 Dec 99999 23:59:59 GMT"}, None),
    ],
)
def test_retry_after_is_parsed(headers: dict[str, str], seconds: float | None) -> None:
    assert fail(429, headers=headers).retry_after == seconds


def test_retry_after_may_be_a_date() -> None:
    assert 58 < (fail(503, headers={"retry-after": in_seconds(60)}).retry_after or 0) <= 60


@pytest.mark.parametrize(("value", "meaning"), [("true", True), ("False", False), ("maybe", None), ("", None)])
def test_should_retry_header_is_parsed(value: str, meaning: object) -> None:
    assert getattr(fail(500, headers={"x-should-retry": value}), "should_retry", "missing") is meaning


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"message": "No such model.", "code": "x"}}', "No such model."),
        (b'{"error": "No such model."}', "No such model."),
        (b'{"detail": [{"loc": ["model"], "msg": "No such model."}]}', "No such model."),
        (b'{"message": "No such model."}', "No such model."),
        (b'{"error": {"message": "two\\nlines\\u0007"}}', "two lines"),
        (b'{"error": {"message": "\\ud83d half"}}', ""),
        (b"<html>No</html>", "No"),
        (b"<html><head><title>\n Bad &amp; ugly</title></head><body>No</body></html>", "Bad & ugly"),
        (b"no healthy upstream", "no healthy upstream"),
        (b'{"errors": [{"message": "No."}, {"message": "Nor this."}, {"message": "No."}]}', "No.; Nor this."),
        (b'{"error": {"message": "Failed", "metadata": {"raw": "quota of 3"}}}', "Failed: quota of 3"),
        (b'{"error": {"message": "{\\"error\\": {\\"message\\": \\"No.\\"}}"}}', "No."),
        (b'{"error": {"code": "engine_overloaded", "message": ""}}', "engine_overloaded"),
        (b'{"error": {"message": "<html><title>No.</title></html>"}}', "No."),
        (b'{"error": {"message": "cut", "code"', ""),
        (b"\xff\xfe", ""),
        (b"[" * 60_000, ""),
        (b"[]", ""),
        (b"", ""),
    ],
)
def test_error_quotes_providers_message(body: bytes, said: str) -> None:
    detail = fail(404, body, {"content-type": "application/json"}).detail
    assert detail.partition(" It said: ")[2] == said


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"error": {"message": "m", "type": "invalid_request_error"}}, ProviderRefused),
        ({"error": {"message": "m", "code": 404}}, ProviderRefused),
        ({"detail": "m", "status": "INVALID_ARGUMENT"}, ProviderRefused),
        ({"error": {"message": "m", "type": "overloaded_error"}}, ProviderBusy),
        ({"error": {"message": "m", "type": "server_error", "code": None}}, ProviderBroke),
        ({"error": {"message": "m", "code": 500}}, ProviderBroke),
    ],
)
@pytest.mark.parametrize("status", [500, 502])
def test_body_overrides_general_status(error: dict[str, object], kind: type[ProviderError], status: int) -> None:
    assert type(fail(status, json.dumps(error).encode())) is kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "model_not_found", "message": "No available channel for the model"}, ProviderRefused),
        ({"type": "invalid_request_error", "message": "m"}, ProviderRefused),
        ({"code": 503, "type": "unavailable_error", "message": "Loading model"}, ProviderBusy),
        ({"type": "service_unavailable", "message": "m"}, ProviderBusy),
        ({"message": "m"}, ProviderBusy),
    ],
)
def test_unknown_model_at_gateway_is_not_overload(error: dict[str, object], kind: type[ProviderError]) -> None:
    found = fail(503, json.dumps({"error": error}).encode())
    assert (type(found), is_healthy(found)) == (kind, kind is ProviderRefused)


def test_plain_text_body_is_quoted() -> None:
    assert fail(500, b"upstream\xff is away", {"content-type": "text/plain"}).detail.endswith(
        "It said: upstream� is away"
    )


@pytest.mark.parametrize(
    "text",
    [f"key {KEY}", f"Bearer {KEY}", "bearer abc.def-ghi", "sk-proj-abc123", "sk-ab***yz", "x" * 295 + KEY, KEY * 99],
)
def test_secrets_are_scrubbed_before_truncation(text: str) -> None:
    shown = scrub(text, (KEY,))
    assert not any(part in shown for part in ("my-very", "abc", "yz", "def"))
    assert len(shown) <= 300


def test_advice_names_the_setting() -> None:
    assert "OPENAI_API_KEY" in fail(401).detail
    assert "CHATKEEP_MODEL" in fail(404).detail
    assert "OPENAI_BASE_URL" in fail(307).detail


@pytest.mark.parametrize(
    "error",
    [
        {"message": "Please shorten it.", "code": "context_length_exceeded"},
        {"message": "400 tokens are too many", "type": "exceed_context_size_error", "n_ctx": 300},
        {"message": "Prompt 超长", "code": "1261"},
        {"message": "This model's maximum context length is 300 tokens, and 400 came.", "code": 400},
        {"message": "Input length (400) exceeds what the model takes (300)."},
        {"message": "Your request exceeded model token limit: 300"},
        {"message": "Range of input length should be [1, 300]", "code": "invalid_parameter_error"},
        {"message": "The input token count (400) is over the 300 allowed.", "status": "INVALID_ARGUMENT"},
        {"message": "prompt is too long: 400 tokens > 300 maximum"},
        {"message": "输入长度超过模型上限"},
        {"message": "length of prompt_tokens (400) must be less than max_seq_len (300)."},
        {"message": "the max input token is 300"},
        {"message": "An error", "metadata": {"raw": '{"error": {"message": "The PROMPT TOO LONG, by 100"}}'}},
    ],
)
def test_too_long_prompt_is_detected_in_all_wordings(error: dict[str, object]) -> None:
    told = [fail(400, json.dumps(body).encode()) for body in ({"error": error}, [{"error": error}], error)]
    told += [fail(500, json.dumps({"error": error}).encode(), {"x-should-retry": "true"}), from_payload(error)]
    assert [(type(one), one.should_retry) for one in told] == [(ContextTooLong, False)] * 5
    assert str(error["message"]) in told[0].detail


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (429, "Too many tokens, please wait: your prompt is too long for this minute."),
        (401, "No key, so no context window."),
        (400, "max_tokens is too large: 9000. This model takes 4096 completion tokens."),
        (400, "The content was flagged."),
    ],
)
def test_other_errors_are_not_too_long_prompts(status: int, message: str) -> None:
    assert type(fail(status, json.dumps({"error": {"message": message}}).encode())) is not ContextTooLong


def test_errors_are_classified_in_linear_time() -> None:
    """The largest error that is read, with a level of nesting for each character."""
    assert type(fail(400, b"[" * 9 + b'"prompt is too long"' + b"]" * 9)) is ProviderRefused
    assert type(fail(400, json.dumps(["context " * 8000]).encode())) is ProviderRefused
