"""A stalled event loop logs its stack. Only gunicorn has an event loop."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.client import request
from tests.http.api import eventually
from tests.servers import ROOT, Server, thrown_away

pytestmark = pytest.mark.posix("gunicorn does not run on Windows")
SECRET = "moonstone"
STALL = re.compile(r"the event loop stands still for more than 1 s:\n((?:  .*:\d+ .*\n)+)")
KINDS = ["sleep_natively", "backtrack", "count_on"]


class Stalling(Server):
    """A gunicorn that some requests block."""

    def _arguments(self) -> list[str]:
        return ["-m", "gunicorn", "-c", str(ROOT / "gunicorn_conf.py"), "tests.faults.stalling:app"]


def test_stalled_loop_logs_its_stack_and_is_counted(tmp_path: Path) -> None:
    """Takes twenty seconds: three stalls of a second and a half, and a flush of counts every ten."""
    with thrown_away(Stalling("gunicorn", tmp_path, {"WEB_CONCURRENCY": "1"})) as server:
        for name in KINDS:
            assert request("GET", f"{server.url}/block/{name}?{SECRET}").status == 200
        assert eventually(lambda: server.log().count("the event loop goes on after") >= len(KINDS))
        assert eventually(lambda: stalls(server) == len(STALL.findall(server.log())), 15)
    places = "".join(STALL.findall(server.log()))  # a busy machine may stall the loop again
    for name in KINDS:
        assert re.search(rf"  \S*stalling\.py:\d+ {name}\n", places), places
    assert SECRET not in server.log()


def stalls(server: Server) -> int:
    """Return the number of stalls in the metrics."""
    text = request("GET", f"{server.url}/metrics").text
    return int(re.findall(r"(?m)^chatkeep_loop_stalls_total (\d+)$", text)[0])


def test_idle_loop_reports_no_stall(tmp_path: Path) -> None:
    """Takes two seconds, the time of a stall and its detection. A busy machine may stall any loop."""
    with thrown_away(Stalling("gunicorn", tmp_path, {"WEB_CONCURRENCY": "1"})) as server:
        assert any(not has_stalled(server, 2) for _ in range(5)), server.log()


def has_stalled(server: Server, seconds: float) -> bool:
    before = server.log().count("the event loop")
    return eventually(lambda: server.log().count("the event loop") > before, seconds)
