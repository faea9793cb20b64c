"""Reloads, rolling restarts and stops while streams are open: nothing is missing, repeated or generated twice."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from http.client import HTTPConnection

import pytest

from tests.faults import rows
from tests.faults.checker import Verdict, compare
from tests.faults.conftest import ON_SQLITE, Record, Serve
from tests.faults.crowd import Crowd
from tests.faults.processes import allow_files
from tests.faults.scale import Scale
from tests.servers import Server
from tests.upstream import Upstream, reply_to

pytestmark = pytest.mark.promise(4)


def ask(crowd: Crowd, count: int, spec: str) -> None:
    """Open streams and wait until each has begun."""
    for number in range(count):
        crowd.ask(f"deploy {number} #{spec},seed={number}#")
    assert crowd.wait_for_start(60), "not every stream began"


def check_whole(crowd: Crowd, database_url: str, provider: Upstream) -> tuple[Verdict, dict[str, int]]:
    """Return what the rows say, and count what is missing, repeated or was asked for twice."""
    log = [listener.parsed()[0] for listener in crowd.listeners]
    verdict = compare(rows.read(database_url), log)
    wrong = [seen for seen in log if seen.text != reply_to(seen.message) or seen.status != "completed"]
    calls = Counter(request.message for request in provider.requests)
    extra = sum(calls.values()) - len(log)
    return verdict, {"streams": len(log), "streams with text missing or repeated": len(wrong), "extra calls": extra}


def reload(server: Server) -> None:
    """Let gunicorn start new workers and retire the old ones."""
    before = set(server.worker_pids())
    os.kill(server.pid, signal.SIGHUP)
    deadline = time.monotonic() + 30
    while not set(server.worker_pids()) - before and time.monotonic() < deadline:
        time.sleep(0.05)


def replace(server: Server) -> None:
    """Let a second gunicorn take over from the first, as an upgrade of the program does."""
    before = set(server.worker_pids())
    os.kill(server.pid, signal.SIGUSR2)
    deadline = time.monotonic() + 30
    while not set(server.worker_pids()) - before and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(3)  # its workers have no place where they could be asked for by themselves
    os.kill(server.pid, signal.SIGTERM)


@pytest.mark.parametrize("deploy", [reload, replace])
def test_a_deploy_drops_no_stream(
    deploy: Callable[[Server], None],
    serve: Serve,
    provider: Upstream,
    database_url: str,
    scale: Scale,
    figures: Record,
) -> None:
    """Streams for eight seconds, and in the long form for half a minute."""
    allow_files()
    server, streams, tokens = serve(), scale.of(60, 500), scale.of(50, 120)
    with Crowd(server.port) as crowd:
        ask(crowd, streams, f"n={tokens},r={scale.of(10, 4)}")
        deploy(server)
        assert crowd.wait_for_end(120), "a stream has no end"
        verdict, found = check_whole(crowd, database_url, provider)
    figures(f"{deploy.__name__} with open streams", **found, **verdict.figures())
    verdict.check()
    assert found == {"streams": streams, "streams with text missing or repeated": 0, "extra calls": 0}


def test_past_the_drains_deadline_each_follower_is_told_once(
    serve: Serve, database_url: str, scale: Scale, figures: Record
) -> None:
    """Waits for a drain of two seconds."""
    server, streams = serve(CHATKEEP_DRAIN_TIMEOUT="2s"), scale.of(20, 200)
    with Crowd(server.port) as crowd:
        ask(crowd, streams, "n=600,r=10")
        begun = time.monotonic()
        status = server.stop()
        took = time.monotonic() - begun
        assert crowd.wait_for_end(5), "a stream has no end"
        parsed = [listener.parsed() for listener in crowd.listeners]
    verdict = compare(rows.read(database_url), [seen for seen, _ in parsed])
    figures("SIGTERM past the drain's deadline", streams=streams, **verdict.figures(), **{"s to the end": took})
    verdict.check()
    for seen, stream in parsed:
        assert [event.event for event in stream.events if event.event != "delta"] == ["start", "error"]
        assert seen.code == "reply_interrupted"
        assert seen.text
    assert (
        status,
        {message.status for message in rows.read(database_url).messages if message.role == "assistant"},
    ) == (
        0,
        {"interrupted"},
    )
    assert took < 8


def test_idle_connections_hold_no_drain_up(serve: Serve, database_url: str, provider: Upstream) -> None:
    """Waits for a stream of two seconds; browsers and proxies keep many connections that nothing is asked on."""
    server = serve()
    with Crowd(server.port) as crowd, ExitStack() as stack:
        idle = [stack.enter_context(closing(HTTPConnection("127.0.0.1", server.port))) for _ in range(20)]
        for connection in idle:
            connection.request("GET", "/health/live")
            assert connection.getresponse().read()
        ask(crowd, 5, "n=20,r=10")
        begun = time.monotonic()
        server.stop()
        took = time.monotonic() - begun
        assert crowd.wait_for_end(5), "a stream has no end"
        verdict, found = check_whole(crowd, database_url, provider)
    verdict.check()
    assert found == {"streams": 5, "streams with text missing or repeated": 0, "extra calls": 0}
    assert took < 8
    assert "killed" not in server.log(), "it did not end by itself"
    assert "Traceback" not in server.log()


@ON_SQLITE
@pytest.mark.parametrize("command", ["waitress", "flask"])
def test_servers_of_threads_drain_too(
    command: str, serve: Serve, provider: Upstream, database_url: str, figures: Record
) -> None:
    """Streams for four seconds."""
    server = serve(command)
    with Crowd(server.port) as crowd:
        ask(crowd, 20, "n=30,r=10")
        server.stop()
        assert crowd.wait_for_end(5), "a stream has no end"
        verdict, found = check_whole(crowd, database_url, provider)
    figures(f"SIGTERM of {command} with open streams", **found, **verdict.figures())
    verdict.check()
    assert found == {"streams": 20, "streams with text missing or repeated": 0, "extra calls": 0}
