"""gunicorn's master when new workers fail to start: running workers continue, and without any the server exits."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.client import request
from tests.http.api import eventually
from tests.ports import is_listening
from tests.servers import Server, thrown_away

pytestmark = pytest.mark.posix("there is no gunicorn on Windows")
FAILURE = "A worker failed to start"


class Own(Server):
    """gunicorn with two workers and an application that a test can break."""

    def __init__(self, folder: Path) -> None:
        super().__init__("gunicorn", folder, {"WEB_CONCURRENCY": "2"})
        self.mend()

    def mend(self) -> None:
        self.folder.joinpath("own.py").write_text("from chatkeep.server import serving\napp = serving.wsgi()\n")
        self.folder.joinpath(".env").write_text("")

    def refuse(self) -> None:
        """Make new workers reject their settings, with a status of chatkeep."""
        self.folder.joinpath(".env").write_text("CHATKEEP_MAX_BODY=enormous\n")

    def crash(self) -> None:
        """Make new workers fail to import the application, with a status of gunicorn."""
        self.folder.joinpath("own.py").write_text("raise RuntimeError('broken')\n")

    def kill_one(self) -> None:
        """Kill one worker, if there is any."""
        for pid in self.worker_pids()[:1]:
            os.kill(pid, signal.SIGKILL)

    def failures(self) -> int:
        return self.log().count(FAILURE)

    def _arguments(self) -> list[str]:
        return ["-m", "gunicorn", "-c", "python:chatkeep.server.gunicorn_conf", "own:app"]


def serve(server: Server, amount: int) -> bool:
    """Return whether two workers run, and ``amount`` workers have completed their start."""
    return len(server.worker_pids()) == 2 and server.log().count("the offline demo model answers") == amount


def test_a_worker_that_fails_to_start_leaves_others_serving(tmp_path: Path) -> None:
    """Waits for two failed starts, a successful one, and the exit: ten seconds."""
    server = Own(tmp_path)
    with thrown_away(server):
        assert eventually(lambda: serve(server, 2), 15)
        time.sleep(0.5)  # now it listens
        assert server.log().count("serves on") == 1
        server.refuse()
        server.kill_one()
        assert eventually(lambda: server.failures() == 1, 15), "the failure is not logged"
        begun, booted = time.monotonic(), server.log().count("Booting worker")
        assert eventually(lambda: server.failures() == 2, 15)
        assert server.log().count("Booting worker") == booted + 1, "the master retries without a pause"
        assert time.monotonic() - begun > 0.9, "the master retries at once"
        assert request("GET", f"{server.url}/health/ready").status == 200
        server.mend()
        assert eventually(lambda: serve(server, 3), 15)
        assert server.failures() == 2
        assert request("GET", f"{server.url}/health/ready").status == 200
        server.crash()
        os.kill(server.pid, signal.SIGHUP)
        assert eventually(lambda: server.failures() > 2, 15)  # a reload starts two workers at once, and each can fail
        assert request("GET", f"{server.url}/health/ready").status == 200, "the reload ended running workers"
        while is_listening(server.port):
            server.kill_one()
            time.sleep(0.5)
        assert server.process
        assert server.process.wait(20) > 0
        assert "no worker can start" in server.log()
