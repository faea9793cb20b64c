"""Many long streams on one worker."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from tests import client
from tests.faults import processes, rows
from tests.faults.checker import compare
from tests.faults.conftest import Record, Serve
from tests.faults.crowd import Crowd
from tests.faults.processes import allow_files
from tests.faults.pulse import Pulse
from tests.faults.scale import Scale
from tests.ports import free_port
from tests.servers import ROOT
from tests.upstream import reply_to

pytestmark = [pytest.mark.promise(6), pytest.mark.alone]


@contextmanager
def far_provider() -> Iterator[str]:
    """A scripted provider in another process, so that its threads do not slow the clients."""
    command = [sys.executable, "-m", "tests.upstream", str(free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def connections(url: str, worker: int) -> int:
    """Return the number of the worker's database connections."""
    place = make_url(url)
    if place.get_backend_name() == "sqlite":
        return processes.open_files(worker).count(place.database or "")
    return rows.connections(url)


def test_open_streams_use_little_memory_and_no_database_connection(
    serve: Serve, database_url: str, scale: Scale, figures: Record
) -> None:
    """Holds streams with a word every two seconds, for a dozen seconds, or a minute in the long form."""
    allow_files()
    count, tokens = scale.of(200, 1000), scale.of(8, 25)
    with far_provider() as provider:
        server = serve(OPENAI_BASE_URL=provider, WEB_CONCURRENCY="1")
        (worker,) = server.worker_pids()
        with Crowd(server.port) as crowd:
            for number in range(20):
                crowd.ask(f"warm {number} #n=5,r=20#")
            assert crowd.wait_for_end()
            before = processes.pss(worker)
            for number in range(count):
                crowd.ask(f"hold {number} #n={tokens},r=0.5,seed={number}#")
            assert crowd.wait_for_start(60)
            with Pulse(server.url) as pulse:
                begun, found = time.monotonic(), list[tuple[int, int]]()
                while stats(provider)["active"] == count and time.monotonic() < begun + 2 * tokens - 4:
                    found.append((processes.pss(worker), connections(database_url, worker)))
                    time.sleep(0.5)
            assert crowd.wait_for_end(2 * tokens + 30)
            log = [listener.parsed()[0] for listener in crowd.listeners]
    (first, _), (last, _) = found[0], found[-1]
    counts = {"streams": count, "s": time.monotonic() - begun, "KiB a stream": (first - before) / count}
    counts |= {"a stream at the end": (last - before) / count, "connections to the database": max(n for _, n in found)}
    verdict = compare(rows.read(database_url), log)
    p99 = pulse.percentile(99)
    figures("slow streams on one worker", **counts, **{"health p99 ms": p99}, **verdict.figures())
    verdict.check()
    assert [seen for seen in log if (seen.text, seen.status) != (reply_to(seen.message), "completed")] == []
    assert (last - before) / count <= 64
    assert last - first <= 0.1 * first
    assert max(n for _, n in found) <= 33  # of the pool and the journal, independent of the streams
    assert set(pulse.statuses) == {200}
    assert p99 < 500  # for a busy machine; the long form has the published figure


def stats(provider: str) -> Any:
    """Return the provider's counters."""
    return client.request("GET", provider.removesuffix("/v1") + "/stats").json
