"""A database that is killed or hangs while clients take turns."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import pytest

from tests import client
from tests.faults import rows
from tests.faults.checker import compare
from tests.faults.conftest import Record, Serve
from tests.faults.crowd import Crowd
from tests.faults.log import Seen
from tests.faults.scale import Scale
from tests.faults.test_kills import talking
from tests.servers import Server
from tests.services.database_server import DatabaseServer
from tests.upstream import reply_to

pytestmark = pytest.mark.promise(1, 2, 3)


@pytest.fixture
def database_url(own_server: DatabaseServer) -> str:
    return own_server.create_database()


def test_killed_database_loses_no_acknowledged_turn(
    serve: Serve, own_server: DatabaseServer, database_url: str, scale: Scale, figures: Record
) -> None:
    """Kills and starts a database server, some seconds each."""
    server, dice, log, kills = serve(), scale.random("database"), list[Seen](), scale.of(2, 55)
    heals, inline = 0.0, list[Seen]()
    # Brief turns, so that some are amid their commit.
    with talking(server, scale, 8, log), talking(server, scale, 12, inline, "n=1"):
        for _ in range(kills):
            time.sleep(dice.uniform(1, 3))
            own_server.kill()
            check_refused(Probes(server).ask("/api/chat"), Probes(server).ask("/api/conversations"))
            time.sleep(dice.uniform(0, 2))
            own_server.start()
            heals = max(heals, until_taken(server))
    wait_for_no_lease(database_url)
    verdict = compare(rows.read(database_url), log + inline)
    told = verdict.figures() | verdict.refusals()
    figures("kill -9 of the database", kills=kills, **told, **{"s until it heals": heals})
    verdict.check()
    assert heals <= scale.of(15, 5)  # in the short form other tests may hold one up


def check_refused(*probes: Probe) -> None:
    """Fail unless each answer reports the outage and has Retry-After."""
    assert {(probe.status, probe.code) for probe in probes} == {(503, "database_unavailable")}
    assert all(probe.retry_after and 1 <= int(probe.retry_after) <= 10 for probe in probes), probes


def until_taken(server: Server) -> float:
    """Return the seconds until a turn succeeds again."""
    begun = time.monotonic()
    while time.monotonic() < begun + 30:
        if (
            client.request("POST", f"{server.url}/api/chat", json={"message": "Are you back?"}, timeout=30).status
            == 200
        ):
            break
        time.sleep(0.05)
    return time.monotonic() - begun


def wait_for_no_lease(url: str) -> None:
    deadline = time.monotonic() + 15
    while rows.generating(url) and time.monotonic() < deadline:
        time.sleep(0.1)


@dataclass(frozen=True, slots=True)
class Probe:
    """What one request got, ``begun`` and ``took`` in seconds."""

    path: str
    begun: float
    took: float
    status: int
    code: str | None
    retry_after: str | None


class Probes:
    """Requests that are sent once a second, each in a thread of its own."""

    def __init__(self, server: Server) -> None:
        self.found: list[Probe] = []
        self._server = server
        self._threads: list[threading.Thread] = []

    def send(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for path in ("/health", "/health/live", "/api/chat", "/api/conversations"):
                self._threads.append(threading.Thread(target=self.ask, args=(path,)))
                self._threads[-1].start()
            time.sleep(1)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def ask(self, path: str) -> Probe:
        begun = time.monotonic()
        method, body = ("POST", {"message": "Are you there?"}) if path == "/api/chat" else ("GET", None)
        answer = client.request(method, self._server.url + path, json=body, timeout=120)
        took = time.monotonic() - begun
        self.found.append(
            Probe(path, begun, took, answer.status, answer.json.get("code"), answer.headers["Retry-After"])
        )
        return self.found[-1]


def test_hanging_database_is_reported_and_open_streams_survive(
    serve: Serve, own_server: DatabaseServer, database_url: str, scale: Scale, figures: Record
) -> None:
    """Lets a database server hang, for longer than requests may: who notices nothing waits until it is back."""
    seconds, bound = scale.of(26.0, 60.0), scale.of(20, 12)  # it is ten; in the short form other tests hold one up
    server = serve()
    probes = Probes(server)
    with Crowd(server.port) as crowd:
        for number in range(6):
            crowd.ask(f"hang {number} #n={int(seconds * 10)},r=8,seed={number}#")
        assert crowd.wait_for_start()
        own_server.pause()
        probes.send(seconds)
        own_server.resume()
        back = time.monotonic()
        heals = until_taken(server)
        probes.join()
        assert crowd.wait_for_end(120)
        log = [listener.parsed()[0] for listener in crowd.listeners]
    verdict = compare(rows.read(database_url), log)
    early = [probe for probe in probes.found if probe.begun < back - bound]
    longest = {path: max(p.took for p in early if p.path == path) for path in sorted({p.path for p in early})}
    answered = {f"s until `{path}` answers": seconds for path, seconds in longest.items()}
    figures("the database hangs", seconds=seconds, **verdict.figures(), **{"s until it heals": heals}, **answered)
    verdict.check()
    assert [seen for seen in log if seen.text != reply_to(seen.message)] == []
    assert heals <= scale.of(15, 5)
    assert max(longest.values()) < bound, early
    assert {(p.path, p.status) for p in early} == {
        ("/health", 503), ("/health/live", 200), ("/api/chat", 503), ("/api/conversations", 503)
    }  # fmt: skip
    check_refused(*(probe for probe in early if probe.path.startswith("/api")))
