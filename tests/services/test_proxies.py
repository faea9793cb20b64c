"""A server behind each proxy of the handbook, as it is set up there: late answers, silent streams, many streams.

What the long form waits for is longer than proxies wait by themselves: `CHATKEEP_PROXIES=long`, some minutes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

if os.name == "nt":
    pytest.skip("proxies are not started on Windows", allow_module_level=True)

from tests import client
from tests.faults.crowd import Crowd
from tests.servers import Server, thrown_away
from tests.services.proxies import PROXIES, Running
from tests.upstream import Upstream, reply_to

IS_LONG = os.environ.get("CHATKEEP_PROXIES") == "long"
LATE_S, SILENT_S = (85, 95) if IS_LONG else (2, 6)
STREAMS = 64


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    """A server that waits for its provider longer than any test makes it."""
    env = {"OPENAI_BASE_URL": upstream.url, "WEB_CONCURRENCY": "1", "CHATKEEP_GAP_TIMEOUT": "5m"}
    env["CHATKEEP_FIRST_TOKEN_TIMEOUT"] = "5m"
    with thrown_away(Server("gunicorn", tmp_path_factory.mktemp("proxied"), env)) as running:
        yield running


@pytest.fixture(scope="module")
def proxies(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Running]]:
    """Every proxy of the handbook before one server; what is tried is tried behind all of them at once."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(PROXIES[name](tmp_path_factory.mktemp(name), server.port))
            for name in ("nginx", "caddy", "haproxy", "apache")
        }


def test_the_page_comes_through(proxies: dict[str, Running]) -> None:
    for name, proxy in proxies.items():
        page = client.request("GET", f"{proxy.url}/")
        assert (page.status, "<title>" in page.text) == (200, True), name


def take_late(proxy: Running) -> bool:
    """Return whether an answer that is silent until it is whole comes through."""
    late = f"late #n=2,r={1 / LATE_S:.4f}#"
    answer = client.request("POST", f"{proxy.url}/api/chat", json={"message": late, "stream": False}, timeout=250)
    return answer.status == 200 and answer.json["reply"] == reply_to(late)


def take_silent(proxy: Running) -> bool:
    """Return whether a silent stream is kept by its comments, and its pieces come when they are sent."""
    silent = f"silent #n=2,r={1 / SILENT_S:.4f}#"
    with client.stream(f"{proxy.url}/api/chat", {"message": silent, "stream": True}, timeout=60) as stream:
        events = [(event.event, event.at) for event in stream]
    first, second = (at for name, at in events if name == "delta")
    return events[-1][0] == "done" and bool(stream.comments) and second - first > SILENT_S / 2


@pytest.mark.timeout(300)
@pytest.mark.parametrize("take", [take_late, take_silent])
def test_what_is_silent_passes(proxies: dict[str, Running], take: Callable[[Running], bool]) -> None:
    """Waits for a provider: two seconds, and six, after five of which a comment comes through."""
    with ThreadPoolExecutor(len(proxies)) as pool:
        found = dict(zip(proxies, pool.map(take, proxies.values()), strict=True))
    assert found == dict.fromkeys(proxies, True)


def test_many_streams_are_whole(proxies: dict[str, Running]) -> None:
    """Streams for three seconds."""
    with ExitStack() as stack:
        crowds = {name: stack.enter_context(Crowd(proxy.port, stays=True)) for name, proxy in proxies.items()}
        for name, crowd in crowds.items():
            for number in range(STREAMS):
                crowd.ask(f"{name} {number} #n=30,r=10,seed={number}#")
        for name, crowd in crowds.items():
            assert crowd.wait_for_end(100), f"a stream through {name} has no end"
            for listener in crowd.listeners:
                assert listener.parsed()[0].text == reply_to(listener.message), name
