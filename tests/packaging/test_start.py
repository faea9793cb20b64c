"""Every documented start command works, and a stopped server leaves nothing behind."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.client import request, stream
from tests.servers import COMMANDS, Server
from tests.upstream import Upstream


@pytest.mark.parametrize("command", COMMANDS)
def test_every_start_command_serves_on_every_database(
    command: str, blank_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    """Starts a server for each pair: a second or two."""
    env = {"DATABASE_URL": blank_url, "OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "test-key"}
    with Server(command, tmp_path, env) as server:
        assert request("GET", f"{server.url}/health/ready").status == 200
        reply = request("POST", f"{server.url}/api/chat", json={"message": "one two"}).json["reply"]
        with stream(f"{server.url}/api/chat", {"message": "one two"}) as events:
            assert [event.event for event in events][-1] == "done"
        assert events.text == reply


@pytest.mark.parametrize("command", COMMANDS)
def test_a_stopped_server_leaves_no_process(command: str, tmp_path: Path) -> None:
    """Starts and stops a server: a second or two."""
    with Server(command, tmp_path) as server:
        pids = [server.pid, *server.worker_pids()]
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert server.stop() in {0, -15}


class Booting(Server):
    """gunicorn that counts as started while its workers patch: after 50 ms of CPU time, under any load."""

    def _is_up(self) -> bool:
        workers = self.worker_pids()
        return len(workers) == 2 and all(ticks(pid) >= 5 for pid in workers)


def ticks(pid: int) -> int:
    """Return the CPU time of a process in hundredths of a second."""
    *_, user, system = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[:13]
    return int(user) + int(system)


@pytest.mark.posix("there is no gunicorn on Windows")
def test_a_server_stopped_during_its_start_exits(tmp_path: Path) -> None:
    """Starts and stops a server: a second or two."""
    with Booting("gunicorn", tmp_path, {"WEB_CONCURRENCY": "2"}) as server:
        assert server.stop() == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_a_killed_server_starts_again_on_its_port(command: str, tmp_path: Path) -> None:
    """Starts a server twice: some seconds."""
    with Server(command, tmp_path) as server:
        server.kill()
        with pytest.raises(ConnectionError):
            request("GET", f"{server.url}/health/live")
        server.start()
        assert request("GET", f"{server.url}/health/live").status == 200


@pytest.mark.posix("there is no gunicorn on Windows")
def test_gunicorn_starts_the_configured_number_of_workers(tmp_path: Path) -> None:
    """Starts a server, whose workers start one by one: a second or two."""
    with Server("gunicorn", tmp_path, {"WEB_CONCURRENCY": "3"}) as server:
        deadline = time.monotonic() + 10
        while len(server.worker_pids()) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(server.worker_pids()) == 3


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """Starts a process: about a second."""
    with pytest.raises(RuntimeError, match="CHATKEEP_LOG_LEVEL"):
        Server("waitress", tmp_path, {"CHATKEEP_LOG_LEVEL": "loud"}).start()
