"""All kinds of good and faulty replies, read by both providers with a network."""

from __future__ import annotations

import time

import pytest

from chatkeep.domain.conversation import Usage
from chatkeep.errors import ProviderBroke, ProviderBusy, ProviderError, ProviderRefused, ProviderTimeout
from chatkeep.provider import Provider
from tests.provider.asking import ask, prompt
from tests.provider.conftest import KEY
from tests.upstream import Upstream, generate, reply_to

GOOD = [
    "",
    "n=80",
    "n=80,split",
    "n=80,split,seed=3,crlf",
    "n=30,cr,comments",
    "n=30,bom,split,comments",
    "n=80,halves",
    "n=80,halves,split,seed=5",
    "n=30,odd,comments,crlf",
    "n=30,length",
    "n=30,json",
    "n=30,close",
    "n=30,fault=no_done",
    "fault=no_reason:99",
]
FAULTS: list[tuple[str, int, type[ProviderError]]] = [
    ("fault=drop", 0, ProviderBroke),
    ("fault=not_http", 0, ProviderBroke),
    ("fault=html", 0, ProviderBroke),
    ("fault=gzip_bomb", 0, ProviderBroke),
    ("fault=json_error", 0, ProviderRefused),
    ("fault=long_json", 0, ProviderBroke),
    ("fault=reset_after:3", 3, ProviderBroke),
    ("fault=cut_after:3", 3, ProviderBroke),
    ("fault=end_after:3", 3, ProviderBroke),
    ("fault=end_after", 0, ProviderBroke),
    ("fault=finish_error:3", 3, ProviderBroke),
    ("fault=bad_utf8:3", 3, ProviderBroke),
    ("fault=malformed:3", 3, ProviderBroke),
    ("fault=nested:3", 3, ProviderBroke),
    ("fault=long_line:3", 3, ProviderBroke),
    ("fault=bad_chunk:3", 3, ProviderBroke),
    ("fault=error_after:3", 3, ProviderBroke),
    ("fault=error_after:3:rate_limit_exceeded", 3, ProviderBusy),
    ("fault=error_after:0:429", 0, ProviderBusy),
    ("fault=error_after:0:invalid_api_key", 0, ProviderRefused),
    ("fault=error_event:3", 3, ProviderBroke),
    ("fault=detail_after:3", 3, ProviderBroke),
    ("fault=bad_utf8:3,split,crlf", 3, ProviderBroke),
    *((f"status={status}", 0, ProviderRefused) for status in (400, 401, 403, 404, 422)),
    *((f"status={status}", 0, ProviderBusy) for status in (429, 503)),
    *((f"status={status}", 0, ProviderBroke) for status in (500, 502)),
    ("status=504", 0, ProviderTimeout),
]


@pytest.mark.parametrize("script", GOOD)
def test_good_reply_arrives_byte_for_byte(script: str, provider: Provider, upstream: Upstream) -> None:
    message = f"Grüße, 世界 😀 #{script}#"
    outcome = ask(provider, message)
    assert outcome.error is None
    assert outcome.text == reply_to(message)
    assert outcome.finish is not None
    assert outcome.finish.reason == "stop"
    assert upstream.requests[0].message == message


@pytest.mark.parametrize(("script", "count", "kind"), FAULTS)
def test_each_fault_raises_its_error_at_once(
    script: str, count: int, kind: type[ProviderError], provider: Provider, upstream: Upstream
) -> None:
    """The client does not wait for a provider that sends nothing more but keeps the connection open."""
    outcome = ask(provider, f"#n=5,{script}#")
    assert type(outcome.error) is kind
    assert outcome.text == "".join(generate(5)[:count])
    assert outcome.finish is None
    assert upstream.wait_for(lambda it: it.active == 0), "the connection was left open"
    assert len(upstream.requests) == 1, "a provider never retries what reached the other side"


def test_call_after_fault_succeeds(provider: Provider, upstream: Upstream) -> None:
    upstream.script(*(script for script, _, _ in FAULTS))
    assert all(ask(provider, "x").error for _ in FAULTS)
    assert ask(provider, "x").text == reply_to("x")


def test_finish_has_providers_usage_model_and_reason(provider: Provider) -> None:
    finish = ask(provider, "earlier", "#n=7,finish=length#").finish
    assert finish is not None
    assert (finish.reason, finish.usage, finish.model) == ("length", Usage(2, 7), "m-2026")


@pytest.mark.parametrize("script", ["no_usage", "fault=no_done"])
def test_reply_without_usage_is_whole(script: str, provider: Provider) -> None:
    finish = ask(provider, f"#{script}#").finish
    assert finish is not None
    assert finish.usage is None


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_is_separate_from_text(name: str, provider: Provider) -> None:
    outcome = ask(provider, f"#n=2,think=2,think_as={name}#")
    assert outcome.reasoning == "thought 0 thought 1 "
    assert outcome.text == "".join(generate(2))


def test_lone_surrogates_become_replacement_characters(provider: Provider) -> None:
    assert ask(provider, "#fault=lone_half#").text == "�x��"


def test_retry_after_of_busy_provider_is_kept(provider: Provider) -> None:
    error = ask(provider, "#status=429,retry_after=3,should_retry=false#").error
    assert error is not None
    assert error.retry_after == 3
    assert getattr(error, "should_retry", None) is False


def test_key_is_sent_but_never_in_errors(provider: Provider, upstream: Upstream) -> None:
    error = ask(provider, "#status=401,leak#").error
    assert upstream.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert "The request had" in str(error)
    assert KEY not in str(error)


def test_deltas_arrive_when_they_are_sent(provider: Provider) -> None:
    times: list[float] = []
    provider.stream_reply(prompt("#n=5,r=20#")).deliver(lambda _piece: times.append(time.monotonic()))
    del times[-1]  # the Finish
    # Buffered deltas would arrive together; a busy machine delays one or the other.
    assert times[-1] - times[0] > 0.1, times


def test_body_may_hang_after_done(provider: Provider, upstream: Upstream) -> None:
    outcome = ask(provider, "#n=3,fault=hang_done#")
    assert outcome.finish is not None
    assert upstream.wait_for(lambda it: it.active == 0, 1)
