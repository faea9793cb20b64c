"""kill -9 of workers and of the whole server while clients take turns."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.faults import rows
from tests.faults.checker import compare
from tests.faults.conftest import Record, Serve
from tests.faults.crowd import Crowd
from tests.faults.log import PATIENCE, Seen, Talker
from tests.faults.scale import Scale
from tests.http.api import eventually
from tests.servers import Server

pytestmark = pytest.mark.promise(1, 2, 3)
REPLY = "n=30,r=30"  # a second


@contextmanager
def talking(server: Server, scale: Scale, clients: int, log: list[Seen], reply: str = REPLY) -> Iterator[list[Talker]]:
    """Take turns inside the context. At its end every turn is complete and in the log."""
    talkers = [
        Talker(server.url, f"c{n}-{len(log)}-{reply}", scale.random("talker", n, len(log)), reply)
        for n in range(clients)
    ]
    for talker in talkers:
        talker.start()
    try:
        yield talkers
    finally:
        for talker in talkers:
            talker.stop()
    deadline = time.monotonic() + PATIENCE
    for talker in talkers:
        talker.join(max(0, deadline - time.monotonic()))
        assert not talker.is_alive(), f"a reply has no end: {talker.log[-1]}"
        log += talker.log


class Finals:
    """The time from a kill to the final status of the replies that were running."""

    def __init__(self, url: str) -> None:
        self.longest = 0.0
        self._url = url
        self._since: dict[str, float] = {}

    def killed(self) -> None:
        """Watch the replies that are running now."""
        for reply in rows.generating(self._url):
            self._since.setdefault(reply, time.monotonic())

    def look(self, seconds: float) -> None:
        """Poll for this long, or until all watched replies are final."""
        deadline = time.monotonic() + seconds
        while self._since and time.monotonic() < deadline:
            time.sleep(0.1)
            still, now = rows.generating(self._url), time.monotonic()
            self.longest = max(self.longest, *(now - since for since in self._since.values()))
            self._since = {reply: since for reply, since in self._since.items() if reply in still}
        time.sleep(max(0, deadline - time.monotonic()) if self._since else 0)


def kill_worker(server: Server, dice: random.Random) -> None:
    """Kill a worker. The master starts another one."""
    workers = eventually(server.worker_pids, 15)
    assert workers, "the master starts no worker"
    with contextlib.suppress(ProcessLookupError):
        os.kill(dice.choice(workers), signal.SIGKILL)


def test_killed_workers_lose_no_acknowledged_turn(
    serve: Serve, database_url: str, scale: Scale, figures: Record
) -> None:
    """Kills at random moments, and waits until other workers detect it: about 25 s."""
    server, dice, finals = serve(WEB_CONCURRENCY="3"), scale.random("kills"), Finals(database_url)
    log: list[Seen] = []
    kills, enough = 0, scale.of(4, 110)
    with talking(server, scale, 10, log) as talkers:
        # The killed worker may be new and have no stream yet.
        while kills < enough or not any(seen.resumed for talker in talkers for seen in talker.log):
            pause = time.monotonic() + dice.uniform(0.4, 2)
            finals.look(pause - time.monotonic())
            time.sleep(max(0, pause - time.monotonic()))
            kill_worker(server, dice)
            kills += 1
            finals.killed()
    finals.look(20)
    verdict = compare(rows.read(database_url), log)
    figures("kill -9 of a worker", kills=kills, **verdict.figures(), **{"longest s to a final status": finals.longest})
    verdict.check()
    assert verdict.resumed > 0, "no stream was cut: nothing was tried"
    assert finals.longest <= 15


def test_new_workers_detect_a_killed_one(serve: Serve, database_url: str) -> None:
    """Kills every worker before it lived long enough to detect another dead one: some seconds."""
    server = serve(WEB_CONCURRENCY="1")
    with Crowd(server.port) as crowd:
        crowd.ask("cut #n=2000,r=20#")
        assert crowd.wait_for_start()
        for _ in range(10):
            os.kill(server.worker_pids()[0], signal.SIGKILL)
            assert eventually(server.worker_pids, 30), "the master starts no worker"
            if eventually(lambda: not rows.generating(database_url), 4):
                break
        assert not rows.generating(database_url)


def test_restarted_server_has_no_generating_reply(
    serve: Serve, database_url: str, scale: Scale, figures: Record
) -> None:
    """Kills and starts a whole server, which takes some seconds each time."""
    server, dice, log, longest = serve(), scale.random("power cuts"), list[Seen](), 0.0
    kills = scale.of(1, 12)
    with talking(server, scale, 8, log):
        for _ in range(kills):
            time.sleep(dice.uniform(1, 3))
            assert eventually(lambda: rows.generating(database_url), 30), "nothing is running"
            server.kill()
            left = rows.generating(database_url)
            assert left, "nothing was running: nothing was tried"
            server.start()
            longest = max(longest, until_final(database_url, left))
    verdict = compare(rows.read(database_url), log)
    figures("kill -9 of the server", kills=kills, **verdict.figures(), **{"longest s to a final status": longest})
    verdict.check()
    assert longest <= 15  # new workers wait seven seconds for heartbeats of the old ones


def test_text_is_shown_only_after_it_is_stored(serve: Serve, database_url: str) -> None:
    """Blocks writes for a second, then kills the server."""
    server = serve()
    with Crowd(server.port) as crowd:
        for number in range(8):
            crowd.ask(f"held {number} #n=200,r=20#")
        assert crowd.wait_for_start()
        with rows.locked(database_url):
            time.sleep(1)
            server.kill()
        assert crowd.wait_for_end(5)
        log = [listener.parsed()[0] for listener in crowd.listeners]
    compare(rows.read(database_url), log).check()
    assert all(seen.text for seen in log)


def until_final(url: str, replies: set[str]) -> float:
    """Return the seconds until these replies have a final status, at most 30."""
    begun = time.monotonic()
    while replies & rows.generating(url) and time.monotonic() < begun + 30:
        time.sleep(0.02)
    return time.monotonic() - begun
