"""Many concurrent turns on one conversation, and many concurrent requests with one Idempotency-Key."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import pytest

from tests import client
from tests.faults import rows
from tests.faults.checker import compare
from tests.faults.conftest import ON_SQLITE, Record, Serve
from tests.faults.log import Seen
from tests.faults.scale import Scale
from tests.faults.test_kills import until_final
from tests.servers import ROOT, Server
from tests.upstream import Upstream, reply_to

T = TypeVar("T")
pytestmark = pytest.mark.promise(1)


def test_concurrent_turns_on_a_conversation_stay_in_order(
    serve: Serve, database_url: str, scale: Scale, figures: Record
) -> None:
    """Starts processes that throw turns for some seconds, or minutes in the long form."""
    server, processes, each = serve(WEB_CONCURRENCY="3"), scale.of(4, 16), scale.of(60, 625)
    first = client.request("POST", f"{server.url}/api/chat", json={"message": "first"}).json
    begun = time.monotonic()
    results = throw(server, first["conversation_id"], processes, each)
    took = time.monotonic() - begun
    statuses = sum((Counter(result["statuses"]) for result in results), Counter())
    log = [Seen("first", reply_id=first["message_id"], text=first["reply"], status="completed", is_whole=True)]
    log += [
        Seen(message, reply_id=reply, text=reply_to(message), status="completed", is_whole=True)
        for result in results
        for reply, message in result["taken"].items()
    ]
    found = rows.read(database_url)
    verdict = compare(found, log)
    figures(
        "turns thrown at one conversation", processes=processes, statuses=dict(statuses), s=took, **verdict.figures()
    )
    verdict.check()
    assert statuses.keys() <= {"200", "409"}
    assert len(found.messages) == 2 * (statuses["200"] + 1)


def throw(server: Server, conversation: str, processes: int, each: int) -> list[dict[str, Any]]:
    """Return what each of the processes counted."""
    command = [sys.executable, "-m", "tests.faults.thrower", str(server.port), conversation, str(each)]
    running = [
        subprocess.Popen([*command, f"p{number}"], stdout=subprocess.PIPE, cwd=ROOT, text=True)
        for number in range(processes)
    ]
    return [json.loads(process.communicate(timeout=1800)[0]) for process in running]


def ask(server: Server, message: str, key: str, number: int = 0) -> Seen:
    """Take a turn under a key, with an answer that is streamed for even numbers: the body is always the same."""
    seen = Seen(message, key)
    headers = {"Idempotency-Key": key, "Accept": "application/json" if number % 2 else "text/event-stream"}
    stream = client.stream(f"{server.url}/api/chat", {"message": message}, headers=headers)
    if stream.headers.get_content_type() == "text/event-stream":
        seen.read(stream)
    elif stream.status == 200:
        seen.answer(json.loads(stream.read()))
    else:
        seen.problem(told := json.loads(stream.read()))
        seen.code = told["code"]
    return seen


def concurrency(count: int, work: Callable[[int], T]) -> list[T]:
    """Call ``work`` this many times at the same moment and return the results."""
    gate = threading.Barrier(count)

    def run(number: int) -> T:
        gate.wait()
        return work(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


def test_a_hundred_concurrent_requests_with_one_key_are_one_turn(
    serve: Serve, database_url: str, provider: Upstream, scale: Scale, figures: Record
) -> None:
    """Some seconds of streams on three workers."""
    server, log, rounds = serve(WEB_CONCURRENCY="3"), list[Seen](), scale.of(3, 20)
    for turn in range(rounds):
        message, key = f"once {turn} #n=20,r=20,seed={turn}#", f"key-{turn}"
        log += concurrency(100, partial(ask, server, message, key))
    found = rows.read(database_url)
    verdict = compare(found, log)
    calls = len(provider.requests)
    figures("one key 100 times at once", keys=rounds, **verdict.figures(), **{"extra calls": calls - rounds})
    verdict.check()
    assert len(log) == 100 * rounds
    assert [seen for seen in log if (seen.text, seen.status) != (reply_to(seen.message), "completed")] == []
    assert (calls, len(found.messages)) == (rounds, 2 * rounds)


def test_key_of_a_crashed_turn_replays_the_stored_text(serve: Serve, database_url: str, provider: Upstream) -> None:
    """Waits until the crash is detected: about eight seconds."""
    server, message = serve(WEB_CONCURRENCY="2"), "crash #n=200,r=20#"
    headers = {"Idempotency-Key": "crash"}
    stream = client.stream(f"{server.url}/api/chat", {"message": message}, headers=headers)
    cut = Seen(message, "crash")
    for event in stream:
        cut.note(event)
        if len(cut.text) > 20:
            break
    for pid in server.worker_pids():
        os.kill(pid, signal.SIGKILL)
    wait_until_up(server)
    repeats: list[Seen] = []
    following = threading.Thread(target=lambda: repeats.append(ask(server, message, "crash")), daemon=True)
    following.start()
    assert until_final(database_url, {cut.reply_id}) <= 15
    following.join(5)
    (streamed,), whole = repeats, ask(server, message, "crash", 1)
    other = ask(server, "other", "crash", 1)
    compare(rows.read(database_url), [cut, streamed, whole]).check()
    assert cut.reply_id == streamed.reply_id == whole.reply_id
    assert (streamed.code, whole.code, other.code) == (
        "reply_interrupted",
        "reply_interrupted",
        "idempotency_key_reused",
    )
    assert streamed.text.startswith(cut.text)
    assert len(provider.requests) == 1


def wait_until_up(server: Server) -> None:
    """Wait until new workers answer."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if client.request("GET", f"{server.url}/health/live", timeout=2).status == 200:
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("no worker came back")


@ON_SQLITE
def test_another_writer_delays_only_turns(serve: Serve, database_url: str) -> None:
    """Holds the write lock for a second."""
    server = serve(WEB_CONCURRENCY="1")
    with ThreadPoolExecutor(1) as pool:
        with rows.locked(database_url):
            turn = pool.submit(client.request, "POST", f"{server.url}/api/chat", json={"message": "hello"})
            time.sleep(0.5)
            lives = [client.request("GET", f"{server.url}/health/live").status for _ in range(5)]
            assert not turn.done()  # the lock is still held, so the answers did not wait for it
        assert turn.result(20).status == 200
    assert lives == [200] * 5
