"""Stops through another process, and at the moment when the reply ends."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from tests import client
from tests.faults import rows
from tests.faults.checker import compare
from tests.faults.conftest import Record, Serve
from tests.faults.crowd import Crowd, Listener
from tests.faults.log import Seen
from tests.faults.scale import Scale
from tests.servers import Server
from tests.upstream import Upstream

pytestmark = pytest.mark.promise(2, 3)


def conversation_of(listener: Listener) -> str:
    """Return the conversation's id from the start event."""
    seen: Seen = listener.parsed()[0]
    return seen.conversation_id


def stop(server: Server, conversation: str) -> bool:
    """Request a stop. Return whether a reply was stopped."""
    answer = client.request("POST", f"{server.url}/api/conversations/{conversation}/stop")
    assert answer.status == 200, answer.text
    return bool(answer.json["stopped"])


def test_stop_through_another_process_closes_the_provider_connection(
    serve: Serve, database_url: str, provider: Upstream, scale: Scale, figures: Record
) -> None:
    """Starts two servers on one database, and stops several replies."""
    server, other = serve("gunicorn", WEB_CONCURRENCY="1"), serve("flask")
    took = []
    with Crowd(server.port) as crowd:
        for number in range(scale.of(8, 50)):
            listener = crowd.ask(f"stop {number} #n=900,r=20#")
            assert crowd.wait_for_start()
            time.sleep(0.2)
            asked = time.monotonic()
            assert stop(other, conversation_of(listener))
            assert provider.wait_for(lambda provider: not provider.active), "it was not closed"
            assert len(provider.aborted) == number + 1
            took.append(provider.aborted[-1] - asked)
        assert crowd.wait_for_end(10)
        log = [listener.parsed()[0] for listener in crowd.listeners]
    verdict = compare(rows.read(database_url), log)
    longest = {"s until the provider's connection is closed": max(took)}
    figures("stop asked of another process", stops=len(took), **verdict.figures(), **longest)
    verdict.check()
    assert {(seen.status, bool(seen.text)) for seen in log} == {("stopped", True)}
    assert not scale.is_long or max(took) <= 1  # the short form shares the machine


@pytest.mark.parametrize("from_outside", [False, True], ids=["same", "other"])
def test_concurrent_stop_and_finish_have_one_winner(
    serve: Serve, database_url: str, scale: Scale, figures: Record, *, from_outside: bool
) -> None:
    """Streams of a second each, with more rounds if one side wins all of them."""
    server = serve("gunicorn", WEB_CONCURRENCY="1")
    asked_of = serve("flask") if from_outside else server
    dice, count = scale.random("stops", from_outside), scale.of(30, 150)
    log: list[Seen] = []
    for first in range(0, 4 * count, 30):
        if first >= count and {seen.status for seen in log} == {"completed", "stopped"}:
            break
        with Crowd(server.port) as crowd:
            for number in range(first, first + 30):
                crowd.ask(f"race {number} #n=20,r=20,seed={number}#")
            assert crowd.wait_for_start()
            delays = [dice.uniform(0.2, 1.1) for _ in crowd.listeners]
            stopping = [
                threading.Timer(delay, stop, (asked_of, conversation_of(listener)))
                for delay, listener in zip(delays, crowd.listeners, strict=True)
            ]
            for timer in stopping:
                timer.start()
            assert crowd.wait_for_end(20)
            for timer in stopping:
                timer.join()
            log += [listener.parsed()[0] for listener in crowd.listeners]
    verdict = compare(rows.read(database_url), log)
    ended = Counter(seen.status or "" for seen in log)
    figures(f"stop against finish, {'another' if from_outside else 'the same'} process", **verdict.figures(), **ended)
    verdict.check()
    assert set(ended) == {"completed", "stopped"}
