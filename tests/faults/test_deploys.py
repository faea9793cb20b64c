"""Reloads, rolling restarts and stops neither lose, repeat nor regenerate text of open streams."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from json import dumps

import pytest

from tests import client
from tests.client import request
from tests.faults import rows
from tests.faults.checker import Verdict, compare
from tests.faults.conftest import ON_SQLITE, Record, Serve
from tests.faults.crowd import Crowd
from tests.faults.processes import allow_files, listens
from tests.faults.scale import Scale
from tests.http.api import eventually
from tests.ports import is_listening
from tests.servers import COMMANDS, Server
from tests.upstream import Upstream, reply_to

pytestmark = pytest.mark.promise(4)
# A server is over within a second of its last stream; two more are for a busy machine.
LATE_S = 3.0


def ask(crowd: Crowd, count: int, spec: str) -> None:
    """Open streams and wait until all have begun."""
    for number in range(count):
        crowd.ask(f"deploy {number} #{spec},seed={number}#")
    assert crowd.wait_for_start(60), "not every stream began"


def check_whole(crowd: Crowd, database_url: str, provider: Upstream) -> tuple[Verdict, dict[str, int]]:
    """Compare with the rows, and count missing and repeated text and repeated calls."""
    log = [listener.parsed()[0] for listener in crowd.listeners]
    verdict = compare(rows.read(database_url), log)
    wrong = [seen for seen in log if seen.text != reply_to(seen.message) or seen.status != "completed"]
    calls = Counter(request.message for request in provider.requests)
    extra = sum(calls.values()) - len(log)
    return verdict, {"streams": len(log), "streams with text missing or repeated": len(wrong), "extra calls": extra}


def check_calm(server: Server) -> None:
    """Fail if a server's log has an error. Errors of the watchdog come from a busy machine."""
    found = re.findall(r"(?m)^.*(?:ERROR|CRITICAL|Traceback|WORKER TIMEOUT).*$", server.log())
    assert [line for line in found if "chatkeep.runtime.loop_monitor" not in line] == []


def serving(server: Server) -> set[int]:
    """Return the ids of gunicorn's workers that accept connections, or soon will."""
    return {pid for pid in server.worker_pids() if listens(pid, server.port)}


def reload(server: Server) -> None:
    """Reload gunicorn's workers."""
    before = set(server.worker_pids())
    os.kill(server.pid, signal.SIGHUP)
    assert eventually(lambda: set(server.worker_pids()) - before, 30), "no new worker comes"


def replace(server: Server) -> None:
    """Replace gunicorn's master by a new one, as an upgrade of the program does."""
    os.kill(server.pid, signal.SIGUSR2)
    assert eventually(lambda: server.log().count("Booting worker") == 4, 30), "the second gunicorn has no workers"
    os.kill(server.pid, signal.SIGTERM)


@pytest.mark.parametrize("deploy", [reload, replace])
def test_deploy_drops_no_stream(
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
        assert request("GET", f"{server.url}/health/live").status == 200
        verdict, found = check_whole(crowd, database_url, provider)
    figures(f"{deploy.__name__} with open streams", **found, **verdict.figures())
    verdict.check()
    assert found == {"streams": streams, "streams with text missing or repeated": 0, "extra calls": 0}


def test_each_follower_gets_one_error_at_the_drain_timeout(
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


def test_idle_connections_do_not_delay_a_drain(serve: Serve) -> None:
    """Waits while idle clients may still send a request. Proxies keep many idle connections."""
    server = serve()
    with ExitStack() as stack:
        idle = [stack.enter_context(closing(HTTPConnection("127.0.0.1", server.port))) for _ in range(20)]
        for connection in idle:
            connection.request("GET", "/health/live")
            assert connection.getresponse().read()
        begun = time.monotonic()
        assert server.stop() == 0
        took = time.monotonic() - begun
    assert took < 3 + LATE_S
    check_calm(server)


@ON_SQLITE
def test_request_on_an_idle_connection_during_a_drain_is_answered(serve: Serve) -> None:
    """Streams for five seconds. A proxy may send a request when the drain begins."""
    server = serve(WEB_CONCURRENCY="1")
    with Crowd(server.port) as crowd, ExitStack() as stack:
        idle = [stack.enter_context(closing(HTTPConnection("127.0.0.1", server.port))) for _ in range(4)]
        for connection in idle:
            connection.request("GET", "/health/live")
            assert connection.getresponse().read()
        ask(crowd, 1, "n=50,r=10")
        os.kill(server.pid, signal.SIGTERM)
        assert eventually(lambda: not is_listening(server.port), 5)
        answers = []
        for connection in idle[:3]:
            connection.request("GET", "/health/live")
            answer = connection.getresponse()
            answers.append((answer.status, answer.headers["Connection"], answer.read() != b""))
        assert answers == [(200, "close", True)] * 3
        idle[3].sock.settimeout(5)
        assert idle[3].sock.recv(1) == b"", "it is not closed"
        assert not crowd.listeners[0].has_ended, "the idle connection outlived the stream"
        assert crowd.wait_for_end(20)
        assert server.wait() == 0
    check_calm(server)


@ON_SQLITE
def test_request_after_a_stream_that_ended_during_a_drain_is_answered(serve: Serve) -> None:
    """Streams for five seconds. Proxies send the next request as soon as a connection is free."""
    server = serve(WEB_CONCURRENCY="1")
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=15)) as connection:
        body = dumps({"message": "#n=50,r=10#", "stream": True})
        connection.request("POST", "/api/chat", body, {"Content-Type": "application/json"})
        stream = connection.getresponse()
        assert stream.readline()
        os.kill(server.pid, signal.SIGTERM)
        assert b"event: done" in stream.read()
        connection.request("GET", "/health/live")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Connection"], answer.read() != b"") == (200, "close", True)
    assert server.wait() == 0
    check_calm(server)


@pytest.mark.parametrize("command", COMMANDS)
def test_drain_ends_with_its_last_stream(
    command: str, serve: Serve, provider: Upstream, database_url: str, figures: Record
) -> None:
    """Streams for four seconds, on connections that clients keep open."""
    server = serve(command)
    with Crowd(server.port, stays=True) as crowd:
        ask(crowd, 20, "n=40,r=10")
        status = server.stop()
        late = time.monotonic() - crowd.heard
        assert crowd.wait_for_end(1), "a stream has no end"
        verdict, found = check_whole(crowd, database_url, provider)
    figures(f"SIGTERM of {command} with open streams", **found, **verdict.figures(), **{"s after the last": late})
    verdict.check()
    assert found == {"streams": 20, "streams with text missing or repeated": 0, "extra calls": 0}
    assert (status, late < LATE_S) == (0, True), late
    check_calm(server)


@ON_SQLITE
@pytest.mark.parametrize("command", COMMANDS)
def test_disconnected_clients_do_not_delay_a_drain(command: str, serve: Serve) -> None:
    """Streams for longer than a request may take to arrive: two seconds."""
    server = serve(command, CHATKEEP_BODY_TIMEOUT="1s")
    with client.stream(f"{server.url}/api/chat", {"message": "#n=15,r=10#"}) as stream:
        assert [event.event for event in stream][-1] == "done"
    with client.stream(f"{server.url}/api/chat", {"message": "#n=20,r=10#"}) as stream:
        events = iter(stream)
        for _ in range(15):
            next(events)
    assert server.stop() == 0
    check_calm(server)


@ON_SQLITE
def test_drain_waits_for_streams_of_another_process_s_replies(serve: Serve) -> None:
    """Starts two servers, and streams for four seconds."""
    generating, server = serve("waitress"), serve("flask")
    with client.stream(f"{generating.url}/api/chat", {"message": "#n=40,r=10#"}) as stream:
        start = next(iter(stream)).data
        path = f"/api/conversations/{start['conversation_id']}/messages/{start['message_id']}/stream"
        with client.stream(f"{server.url}{path}") as followed:
            events = iter(followed)
            next(events)
            os.kill(server.pid, signal.SIGTERM)
            assert [event.event for event in events][-1] == "done"
    assert server.wait() == 0


@ON_SQLITE
@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_ends_immediately_and_notifies_followers(command: str, serve: Serve, database_url: str) -> None:
    """Starts a server: some seconds."""
    server = serve(command)
    with Crowd(server.port) as crowd:
        ask(crowd, 10, "n=600,r=10")
        os.kill(server.pid, signal.SIGINT)
        begun = time.monotonic()
        status = server.wait()
        took = time.monotonic() - begun
        assert crowd.wait_for_end(1), "a stream has no end"
        told = {(seen.code, seen.text != "") for seen, _ in (listener.parsed() for listener in crowd.listeners)}
    stored = {message.status for message in rows.read(database_url).messages if message.role == "assistant"}
    assert (status, told, stored) == (0, {("reply_interrupted", True)}, {"interrupted"})
    assert took < 4.5  # Waitress itself would wait for its threads for five seconds
    check_calm(server)


@ON_SQLITE
def test_workers_that_die_during_a_drain_are_replaced(serve: Serve) -> None:
    """Streams for half a minute in the old worker, which is killed in the end: only it keeps the master waiting."""
    server = serve(WEB_CONCURRENCY="1")
    with Crowd(server.port) as crowd:
        ask(crowd, 1, "n=300,r=10")
        old = set(server.worker_pids())
        os.kill(server.pid, signal.SIGHUP)
        for death in (signal.SIGKILL, signal.SIGABRT, signal.SIGTERM):
            assert eventually(lambda: len(serving(server)) == 1 and not serving(server) & old, 15), "old ones serve"
            (victim,) = serving(server)
            ask(crowd, 1, "n=300,r=10")  # so that it drains where it may
            os.kill(victim, death)
            old.add(victim)
            assert eventually(lambda: set(server.worker_pids()) - old, 2), f"no worker replaces that of {death!r}"
            assert request("GET", f"{server.url}/health/live", timeout=15).status == 200
        assert not crowd.listeners[0].has_ended
        assert "Fatal Python error: Aborted" in server.log(), "nothing says where an aborted worker was"


@ON_SQLITE
def test_master_handles_signals_during_a_reload(serve: Serve) -> None:
    """Streams for twelve seconds: longer than a busy machine takes to hear the signals."""
    server = serve(WEB_CONCURRENCY="1")
    with Crowd(server.port) as crowd:
        ask(crowd, 1, "n=120,r=10")
        for _ in range(10):
            os.kill(server.pid, signal.SIGHUP)
            time.sleep(0.1)
        assert eventually(lambda: server.log().count("Hang up: Master") == 10, 5), "it did not hear every reload"
        os.kill(server.pid, signal.SIGTERM)  # while the tenth reload forks
        assert eventually(lambda: not is_listening(server.port), 5), "it does not hear that it should end"
        assert not crowd.listeners[0].has_ended, "the stream was over before"
        status = server.wait(30)
        late = time.monotonic() - crowd.heard
        assert crowd.wait_for_end(1), "a stream has no end"
        assert crowd.listeners[0].parsed()[0].status == "completed"
    assert (status, late < LATE_S) == (0, True), late
    check_calm(server)


@ON_SQLITE
def test_reload_with_an_invalid_setting_keeps_the_old_workers(serve: Serve) -> None:
    """Waits until a new worker has failed to start: some seconds."""
    server = serve(WEB_CONCURRENCY="1")
    old = server.worker_pids()
    (server.folder / ".env").write_text("CHATKEEP_MAX_BODY=enormous\n")
    os.kill(server.pid, signal.SIGHUP)
    assert eventually(lambda: "exited with code" in server.log(), 15)
    assert "CHATKEEP_MAX_BODY" in server.log()
    assert server.worker_pids() == old
    assert request("GET", f"{server.url}/health/live").status == 200
