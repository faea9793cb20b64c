"""Provider failures are an HTTP status before the first delta, and one ``error`` event after it."""

from __future__ import annotations

import time

import pytest

from tests.client import Stream
from tests.http.api import Api, asked, soon, unique
from tests.upstream import Upstream, reply_to

BEFORE = {
    "status=400,should_retry=false": (502, "provider_refused"),
    "status=401,should_retry=false": (502, "provider_refused"),
    "status=403,should_retry=false": (502, "provider_refused"),
    "status=404,should_retry=false": (502, "provider_refused"),
    "status=408,should_retry=false": (504, "provider_timeout"),
    "status=422,should_retry=false": (502, "provider_refused"),
    "status=429,should_retry=false": (503, "provider_busy"),
    "status=500,should_retry=false": (502, "provider_broke"),
    "status=503,should_retry=false": (503, "provider_busy"),
    "status=504,should_retry=false": (504, "provider_timeout"),
    "fault=drop": (502, "provider_broke"),
    "fault=reset_after": (502, "provider_broke"),
    "fault=cut_after:0": (502, "provider_broke"),
    "fault=end_after:0": (502, "provider_broke"),
    "fault=no_reason:0": (502, "empty_reply"),
    "fault=finish_error:0": (502, "provider_broke"),
    "fault=bad_utf8:0": (502, "provider_broke"),
    "fault=malformed:0": (502, "provider_broke"),
    "fault=nested:0": (502, "provider_broke"),
    "fault=long_line:0": (502, "provider_broke"),
    "fault=html": (502, "provider_broke"),
    "fault=gzip_bomb": (502, "provider_broke"),
    "fault=long_json": (502, "provider_broke"),
    "fault=json_error": (502, "provider_refused"),
    "fault=not_http": (502, "provider_broke"),
    "fault=bad_chunk:0": (502, "provider_broke"),
    "fault=error_after:0": (502, "provider_broke"),
    "fault=error_after:0:429": (503, "provider_busy"),
    "fault=error_event:0": (502, "provider_refused"),
    "fault=detail_after:0": (502, "provider_refused"),
}
REASONS = {"fault=no_reason": "stop", "fault=finish_error": "error"}
AMID = {
    name: BEFORE[name.replace(":3", ":0")]
    for name in (
        "fault=cut_after:3", "fault=end_after:3", "fault=finish_error:3", "fault=bad_utf8:3",
        "fault=malformed:3", "fault=nested:3", "fault=long_line:3", "fault=bad_chunk:3", "fault=error_after:3",
        "fault=error_after:3:429",
    )
}  # fmt: skip
AMID |= dict.fromkeys(["fault=reset_after:3", "fault=error_event:3", "fault=detail_after:3"], (502, "provider_broke"))


@pytest.mark.parametrize("streamed", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("spec", BEFORE)
def test_fault_before_the_first_delta_is_a_status(impatient: Api, spec: str, *, streamed: bool) -> None:
    """Takes nearly a second if chatkeep retries twice."""
    for _ in range(3):
        impatient.chat("A provider that fails at times leaves the breaker closed.")
    status, code = BEFORE[spec]
    response = impatient.post(f"Hello #{spec}#", stream=streamed)
    assert (response.status, response.json["code"], response.json["status"]) == (status, code, status)
    assert response.headers.get_content_type() == "application/problem+json"
    stored = impatient.last(response.json["conversation_id"])
    assert (stored["id"], stored["status"], stored["error"]) == (response.json["message_id"], "failed", code)
    assert (stored["content"], stored["finish_reason"]) == ("", REASONS.get(spec.removesuffix(":0")))


@pytest.mark.parametrize("spec", AMID)
def test_fault_during_a_stream_is_one_error_event(api: Api, upstream: Upstream, spec: str) -> None:
    message = unique(f"one two three four #{spec}#")
    stream = api.streamed(message)
    assert stream.status == 200
    assert [event.event for event in stream.events if event.event != "delta"] == ["start", "error"]
    start, problem = stream.events[0].data, stream.events[-1].data
    assert (problem["status"], problem["code"]) == AMID[spec]
    assert problem["request_id"] == stream.headers["X-Request-Id"]
    assert (problem["conversation_id"], problem["message_id"]) == (start["conversation_id"], start["message_id"])
    assert_truncated(api, stream, problem["code"])
    assert stream.text == "You said: one "
    assert len(asked(upstream, message)) == 1


@pytest.mark.parametrize("spec", AMID)
def test_fault_during_a_json_answer_is_a_status(api: Api, spec: str) -> None:
    response = api.post(f"one two three four #{spec}#")
    assert (response.status, response.json["code"]) == AMID[spec]
    stored = api.last(response.json["conversation_id"])
    assert (stored["status"], stored["content"]) == ("truncated", "You said: one ")


def assert_truncated(api: Api, stream: Stream, code: str) -> None:
    """Fail unless exactly the shown text is stored, and the conversation can continue."""
    conversation = stream.events[0].data["conversation_id"]
    stored = api.last(conversation)
    assert (stored["status"], stored["error"]) == ("truncated", code)
    assert stored["content"] == stream.text != ""
    assert api.chat("Go on", conversation_id=conversation)["status"] == "completed"


@pytest.mark.parametrize(("wished", "told"), [("3", "3"), ("0.2", "1"), ("-1", None), ("nan", None), ("x", None)])
def test_retry_after_of_a_busy_provider_is_forwarded(api: Api, wished: str, told: str | None) -> None:
    response = api.post(f"Hello #status=429,should_retry=false,retry_after={wished}#")
    assert (response.status, response.headers["Retry-After"]) == (503, told)


def test_provider_message_is_forwarded_without_keys(api: Api) -> None:
    detail = api.post("Hello #status=401,leak#").json["detail"]
    assert "Scripted failure 401." in detail
    assert "test-key" not in detail
    assert "test-key" not in api.server.log()


@pytest.mark.parametrize("streamed", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("spec", ["fault=hang_headers", "fault=hang_first", "fault=drip:0.2"])
def test_provider_without_a_first_token_times_out(impatient: Api, spec: str, *, streamed: bool) -> None:
    """Waits for a deadline: about a second."""
    begun = time.monotonic()
    response = impatient.post(f"Hello #{spec}#", stream=streamed)
    assert (response.status, response.json["code"]) == (504, "provider_timeout")
    assert "CHATKEEP_FIRST_TOKEN_TIMEOUT" in response.json["detail"]
    assert time.monotonic() - begun > 0.9
    assert impatient.last(response.json["conversation_id"])["status"] == "failed"


@pytest.mark.parametrize(
    ("spec", "setting", "seconds"),
    [("fault=hang_after:3", "CHATKEEP_GAP_TIMEOUT", 1), ("fault=endless,r=10", "CHATKEEP_REPLY_TIMEOUT", 3)],
)
def test_provider_that_stalls_or_never_ends_times_out(impatient: Api, spec: str, setting: str, seconds: int) -> None:
    """Waits for a deadline: one to three seconds."""
    begun = time.monotonic()
    stream = impatient.streamed(f"one two three four #{spec}#")
    assert (stream.events[-1].event, stream.events[-1].data["status"]) == ("error", 504)
    assert setting in stream.events[-1].data["detail"]
    assert time.monotonic() - begun > seconds - 0.1
    assert_truncated(impatient, stream, "provider_timeout")


def test_reply_without_an_end_is_not_completed(impatient: Api) -> None:
    """Waits for a deadline: about a second."""
    response = impatient.post("Hello #fault=hang_after:99#")
    assert response.status == 504
    stored = impatient.last(response.json["conversation_id"])
    assert (stored["status"], stored["content"]) == ("truncated", reply_to("Hello #fault=hang_after:99#"))


def test_body_that_stays_open_after_done_delays_nothing(impatient: Api) -> None:
    assert soon(0.9, lambda: impatient.chat("Hello #fault=hang_done#"))["status"] == "completed"


def test_reply_over_the_limit_is_truncated(impatient: Api) -> None:
    answer = impatient.chat("Hello #fault=endless#")
    assert (answer["status"], answer["finish_reason"]) == ("truncated", "length")
    assert 1000 < len(answer["reply"]) <= 2048
    assert impatient.last(answer["conversation_id"])["content"] == answer["reply"]
