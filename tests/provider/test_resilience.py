"""Retries and the breaker, over the real client and a scripted provider."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from chatkeep.errors import ProviderBroke, ProviderBusy, ProviderError
from chatkeep.provider import resilience
from chatkeep.provider.openai_http import OpenAIHttp
from chatkeep.provider.resilience import Breaker, BreakerOpen, Budget, ResilientProvider
from tests.provider.asking import Asking, ask
from tests.provider.conftest import KEY
from tests.upstream import Upstream, reply_to


@pytest.fixture
def resilient(upstream: Upstream) -> Iterator[ResilientProvider]:
    provider = ResilientProvider(OpenAIHttp(upstream.url, KEY, "m"), patience=30)
    provider.budget._left = 10.0  # the budget has tests of its own  # noqa: SLF001
    yield provider
    provider.close()


@pytest.mark.parametrize("fault", ["status=500", "status=502", "fault=drop", "fault=reset_after:0", "status=503"])
def test_failure_before_first_piece_is_retried(upstream: Upstream, resilient: ResilientProvider, fault: str) -> None:
    upstream.script(fault, fault)
    outcome = ask(resilient, "hi")
    assert (outcome.text, len(upstream.requests)) == (reply_to("hi"), 3)


def test_error_is_raised_after_two_retries(upstream: Upstream, resilient: ResilientProvider) -> None:
    upstream.script(*["status=500"] * 4)
    assert isinstance(ask(resilient, "hi").error, ProviderBroke)
    assert len(upstream.requests) == 3


@pytest.mark.parametrize("fault", ["status=401", "status=400", "fault=reset_after:3", "fault=cut_after:1"])
def test_refusals_and_broken_replies_are_not_retried(
    upstream: Upstream, resilient: ResilientProvider, fault: str
) -> None:
    upstream.script(f"{fault},n=10")
    assert isinstance(ask(resilient, "hi").error, ProviderError)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(("says", "calls"), [("false", 1), ("true", 2)])
def test_should_retry_header_is_obeyed(upstream: Upstream, resilient: ResilientProvider, says: str, calls: int) -> None:
    upstream.script(f"status={500 if says == 'false' else 400},should_retry={says}")
    ask(resilient, "hi")
    assert len(upstream.requests) == calls


def test_retry_waits_for_retry_after(upstream: Upstream, resilient: ResilientProvider) -> None:
    """Takes the second that the provider asks for."""
    upstream.script("status=429,retry_after=1")
    started = time.monotonic()
    assert ask(resilient, "hi").text == reply_to("hi")
    assert time.monotonic() - started >= 1


def test_long_retry_after_is_not_waited_for(upstream: Upstream, resilient: ResilientProvider) -> None:
    upstream.script("status=429,retry_after=60")
    error = ask(resilient, "hi").error
    assert isinstance(error, ProviderBusy)
    assert (error.retry_after, len(upstream.requests)) == (60, 1)


def test_no_retry_after_deadline(upstream: Upstream) -> None:
    upstream.script("status=429,retry_after=2")
    hurried = ResilientProvider(OpenAIHttp(upstream.url, KEY, "m"), patience=1)
    assert isinstance(ask(hurried, "hi").error, ProviderBusy)
    hurried.close()


def test_abort_ends_pause_before_retry(upstream: Upstream, resilient: ResilientProvider) -> None:
    upstream.script("status=429,retry_after=9")
    asking = Asking(resilient)
    assert upstream.wait_for(lambda it: bool(it.requests))
    assert asking.abort() < 1


def test_budget_allows_one_retry_in_eleven_calls() -> None:
    budget = Budget()
    retried = 0
    for _ in range(1000):
        budget.earn()
        retried += budget.spend() + budget.spend()
    assert 85 <= retried <= 100


def test_breaker_opens_at_half_failures_and_probes() -> None:
    clock = [100.0]
    breaker = Breaker(lambda: clock[0])
    for number in range(resilience.WINDOW_CALLS):
        breaker.record(ok=number % 2 == 0, probe=breaker.admit())
    with pytest.raises(BreakerOpen):
        breaker.admit()
    clock[0] += resilience.OPEN_S
    assert breaker.admit()
    with pytest.raises(BreakerOpen):
        breaker.admit()
    breaker.record(ok=True, probe=True)
    assert not breaker.admit()


def test_failed_probe_reopens_breaker() -> None:
    clock = [100.0]
    breaker = Breaker(lambda: clock[0])
    for _ in range(resilience.WINDOW_CALLS):
        breaker.record(ok=False, probe=breaker.admit())
    clock[0] += resilience.OPEN_S
    breaker.record(ok=False, probe=breaker.admit())
    with pytest.raises(BreakerOpen):
        breaker.admit()


def test_failing_provider_gets_few_calls(upstream: Upstream, resilient: ResilientProvider) -> None:
    upstream.script(*["status=500"] * 200)
    errors = [ask(resilient, "hi").error for _ in range(60)]
    assert isinstance(errors[-1], BreakerOpen)
    assert len(upstream.requests) <= resilience.WINDOW_CALLS + resilience.RETRIES


def test_refusals_do_not_open_the_breaker(upstream: Upstream, resilient: ResilientProvider) -> None:
    upstream.script(*["status=401"] * 40)
    assert not any(isinstance(ask(resilient, "hi").error, BreakerOpen) for _ in range(40))
