"""Calls to a provider that is busy, failing or down are bounded."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from tests import client
from tests.client import Response
from tests.faults.conftest import ON_SQLITE, Record, Serve
from tests.faults.scale import Scale
from tests.servers import Server
from tests.upstream import Upstream

pytestmark = [pytest.mark.promise(7), ON_SQLITE]


@pytest.fixture
def server(serve: Serve) -> Server:
    """A server of one process, because each process has its own breaker."""
    return serve(WEB_CONCURRENCY="1", CHATKEEP_FIRST_TOKEN_TIMEOUT="20s")


def earn(server: Server, retries: int) -> None:
    """Let calls succeed until the budget allows this many retries, at most three."""
    for _ in range(12 * retries):
        post(server, "Hello.")


def post(server: Server, message: str) -> Response:
    return client.request("POST", f"{server.url}/api/chat", json={"message": message}, timeout=60)


CASES = {
    # (specification) -> (calls, status, least and most seconds)
    "status=429,retry_after=3,first=1": (2, 200, 3, 5),
    "status=429,retry_after=date,first=1": (2, 200, 2.5, 6),
    "status=429,retry_after=-1,first=1": (2, 200, 0.1, 2),
    "status=429,retry_after=nan,first=1": (2, 200, 0.1, 2),
    "status=429,retry_after=1e9": (1, 503, 0, 2.5),
    "status=429,retry_after=60": (1, 503, 0, 2.5),
    "status=429": (3, 503, 0.3, 3),
    "status=500": (3, 502, 0.3, 3),
    "status=500,should_retry=false": (1, 502, 0, 2.5),
    "status=400": (1, 502, 0, 2.5),
    "status=400,should_retry=true,first=1": (2, 200, 0.1, 2),
    "fault=drop": (3, 502, 0.2, 3),  # the resend on a dead kept connection comes without a pause
    "fault=cut_after:3": (1, 502, 0, 2.5),
    "fault=error_after:3:429": (1, 503, 0, 2.5),
}


def test_retries_follow_retry_after(server: Server, provider: Upstream) -> None:
    """Waits for Retry-After: about seven seconds."""
    found: dict[str, tuple[Response, float]] = {}

    def ask(spec: str) -> None:
        begun = time.monotonic()
        found[spec] = post(server, f"one two three four five #{spec}#"), time.monotonic() - begun

    for spec, (wanted, *_) in CASES.items():
        earn(server, wanted - 1)
        ask(spec)
    calls = Counter(request.message.partition("#")[2].rstrip("#") for request in provider.requests)
    assert {spec: (calls[spec], found[spec][0].status) for spec in CASES} == {
        spec: case[:2] for spec, case in CASES.items()
    }
    slow = {spec: found[spec][1] for spec, (_, _, least, most) in CASES.items() if not least <= found[spec][1] <= most}
    assert not slow


def flood(server: Server, spec: str, seconds: float, rate: float = 100) -> Counter[int]:
    """Send turns at a rate a second and return how often each status came back."""
    statuses: Counter[int] = Counter()
    lock = threading.Lock()

    def ask(number: int) -> None:
        status = post(server, f"{number} {time.monotonic_ns()} #{spec}#").status
        with lock:
            statuses[status] += 1

    threads = []
    begun = time.monotonic()
    for number in range(int(seconds * rate)):
        time.sleep(max(0, begun + number / rate - time.monotonic()))
        threads.append(threading.Thread(target=ask, args=(number,)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return statuses


def test_retries_to_a_failing_provider_are_bounded(
    server: Server, provider: Upstream, scale: Scale, figures: Record
) -> None:
    """Sends a hundred turns a second, for some seconds."""
    earn(server, 3)
    before = len(provider.requests)
    statuses = flood(server, "status=500,p=0.5", scale.of(3.0, 30.0))
    turns, calls = statuses.total(), len(provider.requests) - before
    figures("half of calls 5xx", turns=turns, calls=calls, statuses=dict(statuses), **{"calls a turn": calls / turns})
    assert calls <= 1.1 * turns + 3  # the retries saved before


@pytest.mark.parametrize("spec", ["status=500", "status=503", "fault=hang_first"])
def test_open_breaker_limits_calls(serve: Serve, provider: Upstream, scale: Scale, figures: Record, spec: str) -> None:
    """Sends a hundred turns a second while the breaker opens; the long form also while it probes."""
    server, seconds = serve(WEB_CONCURRENCY="1", CHATKEEP_FIRST_TOKEN_TIMEOUT="1s"), scale.of(3.0, 16.0)
    statuses = flood(server, spec, seconds)
    turns, calls = statuses.total(), len(provider.requests)
    figures(f"all calls `{spec}`", turns=turns, calls=calls, statuses=dict(statuses))
    # Until it opens, which takes one deadline where the provider hangs; then a probe each five seconds. In the short
    # form other tests may slow the server, so that more calls are under way when it opens.
    assert calls <= (150 if "hang" in spec else scale.of(100, 30)) + seconds / 5


def test_breaker_probes_with_one_call_at_a_time(serve: Serve, provider: Upstream) -> None:
    """Waits twice until the breaker probes."""
    server = serve(WEB_CONCURRENCY="1", CHATKEEP_FIRST_TOKEN_TIMEOUT="3s")
    flood(server, "status=500", 0.5)
    time.sleep(5.5)
    before = len(provider.requests)
    begun = time.monotonic()
    statuses = flood(server, "fault=hang_first", 1, rate=30)
    assert len(provider.requests) - before == 1, statuses
    assert statuses == {503: 29, 504: 1}
    assert time.monotonic() - begun < 6
    assert post(server, "Hello.").status == 503, "a probe that hangs closed the breaker"
    time.sleep(5.5)
    assert [post(server, "Hello.").status for _ in range(3)] == [200] * 3


def test_earlier_call_is_no_probe(serve: Serve, provider: Upstream) -> None:
    """A call from before the breaker opened ends during its probe. Waits for both."""
    server = serve(WEB_CONCURRENCY="1", CHATKEEP_FIRST_TOKEN_TIMEOUT="8s")
    late = ask_later(server, "late #fault=hang_first#")
    flood(server, "status=500", 0.5)
    time.sleep(5.5)
    before = len(provider.requests)
    probe = ask_later(server, "probe #fault=hang_first#")
    late.join()
    time.sleep(0.2)
    statuses = flood(server, "fault=hang_first", 0.5, rate=20)
    assert len(provider.requests) - before == 1, f"two probes at a time: {statuses}"
    probe.join()


def ask_later(server: Server, message: str) -> threading.Thread:
    """Take a turn in the background."""
    thread = threading.Thread(target=post, args=(server, message))
    thread.start()
    return thread
