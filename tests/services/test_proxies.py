"""A server behind each proxy of the handbook, as it is set up there: late answers, silent streams, many streams.

What the long form waits for is longer than proxies wait by themselves: `CHATKEEP_PROXIES=long`, some minutes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

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


@pytest.fixture(scope="module", params=["nginx", "caddy", "haproxy", "apache"])
def proxy(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp(request.param)
    with PROXIES[request.param](folder, server.port) as running:
        yield running


@pytest.mark.timeout(300)
def test_an_answer_that_comes_late_and_a_stream_that_is_silent_pass(proxy: Running) -> None:
    """Waits for a provider; a comment comes through the proxy after five seconds of silence."""
    page = client.request("GET", f"{proxy.url}/")
    assert (page.status, "<title>" in page.text) == (200, True)
    late, silent = (f"{name} #n=2,r={1 / seconds:.4f}#" for name, seconds in (("late", LATE_S), ("silent", SILENT_S)))
    answer = client.request("POST", f"{proxy.url}/api/chat", json={"message": late, "stream": False}, timeout=250)
    assert (answer.status, answer.json["reply"]) == (200, reply_to(late))
    with client.stream(f"{proxy.url}/api/chat", {"message": silent, "stream": True}, timeout=60) as stream:
        events = [(event.event, event.at) for event in stream]
    assert events[-1][0] == "done"
    assert stream.comments, "no comment came through"
    first, second = (at for name, at in events if name == "delta")
    assert second - first > SILENT_S / 2, "the stream was held back"


def test_many_streams_are_whole(proxy: Running) -> None:
    """Streams for three seconds."""
    with Crowd(proxy.port, stays=True) as crowd:
        for number in range(STREAMS):
            crowd.ask(f"stream {number} #n=30,r=10,seed={number}#")
        assert crowd.wait_for_start(60), "not every stream began"
        assert crowd.wait_for_end(60), "a stream has no end"
        for listener in crowd.listeners:
            assert listener.parsed()[0].text == reply_to(listener.message)
