"""Deploys behind nginx, Caddy, HAProxy and Apache affect no stream and no turn, and end quickly.

The long form, 100 deploys with 200 streams: `./dev faults --long -k proxied_deploys`.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection
from json import dumps, loads
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.faults.conftest import ON_SQLITE, Record
from tests.faults.crowd import Crowd, Listener
from tests.faults.log import BROKEN
from tests.faults.processes import allow_files
from tests.faults.scale import Scale
from tests.faults.test_deploys import LATE_S, check_calm
from tests.http.api import eventually
from tests.servers import Server
from tests.services.proxies import PROXIES, Running
from tests.upstream import Upstream, reply_to

pytestmark = [pytest.mark.promise(4), ON_SQLITE, pytest.mark.posix("proxies and gunicorn are not started on Windows")]
AS_SYSTEMD = Path(__file__).parent / "as_systemd.py"
HUNG_S = 30.0
RATE = 5  # tokens a second


class Activated(Server):
    """A gunicorn on a socket that outlives it, like one of a systemd socket unit."""

    def __init__(self, folder: Path, env: dict[str, str], listener: socket.socket) -> None:
        super().__init__("gunicorn", folder, env)
        self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._listener = listener

    def start(self) -> None:
        """Start the server without waiting. Connections wait at the socket."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number = self._listener.fileno()
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(AS_SYSTEMD), str(number), *self._arguments()],
                cwd=self.folder, env=self.environment(), pass_fds=[number], start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip


class Client(threading.Thread):
    """A client that takes turns through a proxy without pauses, on one connection."""

    def __init__(self, proxy: Running, name: str, dice: random.Random) -> None:
        super().__init__(name=name, daemon=True)
        self.turns = 0
        self.longest = 0.0
        self.failures: list[str] = []
        self.stopped = threading.Event()
        self._dice = dice
        self._connection = HTTPConnection("127.0.0.1", proxy.port, timeout=HUNG_S)

    def run(self) -> None:
        while not self.stopped.is_set():
            begun = time.monotonic()
            try:
                failure = self._take_turn()
            except BROKEN as error:
                failure = repr(error)
                self._connection.close()
            took = time.monotonic() - begun
            self.turns += 1
            self.longest = max(self.longest, took)
            if failure:
                self.failures.append(f"{self.name}, turn {self.turns} after {took:.2f} s: {failure}")
        self._connection.close()

    def _take_turn(self) -> str:
        """Return the error in the answer to a turn."""
        message = f"{self.name} {self.turns} #n={self._dice.randint(1, 10)},r=50,seed={self.turns}#"
        body = dumps({"message": message, "stream": False})
        self._connection.request("POST", "/api/chat", body, {"Host": "localhost", "Content-Type": "application/json"})
        answer = self._connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            return f"{answer.status} {said[:200]!r}"
        return "" if loads(said)["reply"] == reply_to(message) else "another reply"


class Site:
    """A server that is deployed repeatedly on one socket, and its proxies."""

    def __init__(self, folder: Path, env: dict[str, str], proxies: Sequence[str]) -> None:
        self.proxies: list[Running] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self._folder = folder
        self._env = env
        self._names = proxies
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.server = self._start()
        for name in self._names:
            (self._folder / name).mkdir()
            make = PROXIES[name]
            self.proxies.append(self._stack.enter_context(make(self._folder / name, self.server.port)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()
        self._listener.close()

    def reload(self) -> Callable[[], bool]:
        """Reload gunicorn's workers. Return a check whether the old ones have ended."""
        server, old = self.server, set(self.server.worker_pids())
        os.kill(server.pid, signal.SIGHUP)
        return lambda: not old & set(server.worker_pids())

    def restart(self) -> Callable[[], bool]:
        """Stop the server and start a new one. Return a check whether the old one has ended."""
        old = self.server
        os.kill(old.pid, signal.SIGTERM)
        self.server = self._start()

        def has_ended() -> bool:
            assert old.process
            status = old.process.poll()
            assert status in {None, 0}, f"a server ended with {status}"
            return status is not None

        return has_ended

    def _start(self) -> Activated:
        server = Activated(self._folder / "server", self._env, self._listener)
        server.start()
        self._stack.callback(server.kill)
        return server


@dataclass(slots=True)
class Outcome:
    """The outcome of all deploys."""

    streams: int = 0
    wrong: list[str] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    """Seconds from the last stream of a deploy to the end of the old processes."""


def deploy(site: Site, begin: Callable[[], Callable[[], bool]], outcome: Outcome, lasting: Sequence[float]) -> None:
    """Deploy during streams of this many seconds, and wait until the old processes have ended."""
    with ExitStack() as stack:
        crowds = [stack.enter_context(Crowd(proxy.port, stays=True)) for proxy in site.proxies]
        for number, seconds in enumerate(lasting):
            spec = f"n={int(seconds * RATE)},r={RATE},seed={number}"
            crowds[number % len(crowds)].ask(f"deploy {len(outcome.late)}, stream {number} #{spec}#")
        assert all(crowd.wait_for_start(60) for crowd in crowds), "not every stream began"
        has_ended = begin()
        assert eventually(has_ended, max(lasting) + 30), f"what was replaced has no end:\n{site.server.log()[-5000:]}"
        ended = time.monotonic()
        assert all(crowd.wait_for_end(10) for crowd in crowds), "a stream has no end"
        outcome.late.append(ended - max(crowd.heard for crowd in crowds))
        for crowd in crowds:
            outcome.streams += len(crowd.listeners)
            outcome.wrong += [listener.message for listener in crowd.listeners if not is_whole(listener)]


def is_whole(listener: Listener) -> bool:
    try:
        seen, _ = listener.parsed()
    except BROKEN:
        return False
    return (seen.text, seen.status) == (reply_to(listener.message), "completed")


def test_deploys_behind_proxies_lose_nothing(
    database_url: str, provider: Upstream, tmp_path: Path, scale: Scale, figures: Record
) -> None:
    """Streams for six seconds, twice."""
    allow_files()
    env = {"DATABASE_URL": database_url, "OPENAI_BASE_URL": provider.url, "WEB_CONCURRENCY": "2"}
    deploys, streams, longest = scale.of(2, 100), scale.of(16, 200), scale.of(6, 20)
    dice, outcome = scale.random("deploys"), Outcome()
    proxies = scale.of(("nginx", "haproxy"), ("nginx", "caddy", "haproxy", "apache"))
    with Site(tmp_path, env, proxies) as site:
        clients = [Client(site.proxies[n % len(site.proxies)], f"client {n}", scale.random(n)) for n in range(8)]
        for client in clients:
            client.start()
        for number in range(deploys):
            lasting = [dice.uniform(1, longest) for _ in range(streams - 1)]
            deploy(site, (site.reload, site.restart)[number % 2], outcome, [*lasting, longest])
        for client in clients:
            client.stopped.set()
        for client in clients:
            client.join(HUNG_S)
        status = site.server.stop()
        check_calm(site.server)
    turns, failures = sum(client.turns for client in clients), [text for client in clients for text in client.failures]
    figures(
        f"deploys behind {', '.join(proxies)}",
        deploys=deploys,
        streams=outcome.streams,
        **{"streams lost or repeated": len(outcome.wrong), "turns meanwhile": turns, "failed or hung": len(failures)},
        **{"longest turn, s": max(client.longest for client in clients)},
        **{"extra calls": len(provider.requests) - outcome.streams - turns},
        **{"s to the end after the last stream": max(outcome.late)},
    )
    assert (outcome.wrong, failures, status) == ([], [], 0)
    assert len(provider.requests) == outcome.streams + turns
    # In the short form the time for idle connections may exceed the streams.
    assert max(outcome.late) < scale.of(LATE_S + 3, LATE_S)
