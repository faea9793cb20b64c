"""A wall clock that jumps a day during streams affects no deadline."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests import client
from tests.faults import rows
from tests.faults.checker import compare
from tests.faults.conftest import Record, Serve
from tests.faults.crowd import Crowd
from tests.faults.log import Seen
from tests.faults.scale import Scale
from tests.servers import ROOT
from tests.upstream import reply_to

pytestmark = pytest.mark.promise(2, 3)


def test_clock_jump_ends_no_stream(
    serve: Serve, database_url: str, tmp_path: Path, scale: Scale, figures: Record
) -> None:
    """Streams for six seconds amid which the clock jumps three times."""
    clock, streams = tmp_path / "clock", scale.of(20, 200)
    set_clock(clock, 0)
    shifted = {"WALL_CLOCK": str(clock), "PYTHONPATH": f"{ROOT}/tests/faults/clock:{ROOT}"}
    server = serve(CHATKEEP_CONVERSATION_TTL="7d", **shifted)
    started = client.request("POST", f"{server.url}/api/chat", json={"message": "before"}).json
    with Crowd(server.port) as crowd:
        for number in range(streams):
            crowd.ask(f"clock {number} #n=60,r=10,seed={number}#")
        assert crowd.wait_for_start()
        times = [started["created_at"]]
        for shift in (1, -1, 0):
            time.sleep(1)
            set_clock(clock, shift * 86_400)
            time.sleep(1)
            body = {"message": f"{shift} days on", "conversation_id": started["conversation_id"]}
            answer = client.request("POST", f"{server.url}/api/chat", json=body)
            assert answer.status == 200, answer.text
            times.append(answer.json["created_at"])
        assert crowd.wait_for_end(30)
        log: list[Seen] = [listener.parsed()[0] for listener in crowd.listeners]
    verdict = compare(rows.read(database_url), log)
    figures("the clock jumps a day on, two back, and one on", streams=streams, **verdict.figures())
    verdict.check()
    assert times == sorted(times)
    assert times[1][:10] > times[0][:10], "the clock did not jump: nothing was tried"
    assert [seen for seen in log if (seen.text, seen.status) != (reply_to(seen.message), "completed")] == []


def set_clock(clock: Path, seconds: int) -> None:
    """Shift the servers' wall clock by this many seconds."""
    new = clock.with_suffix(".new")
    new.write_text(str(seconds), encoding="ascii")
    new.replace(clock)
