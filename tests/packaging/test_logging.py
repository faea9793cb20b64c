"""The log of a running server: JSON lines, a line for each request, and rotation by logrotate."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if os.name == "nt":
    pytest.skip("logrotate and gunicorn do not run on Windows", allow_module_level=True)

from tests.client import request, stream
from tests.http.api import eventually
from tests.servers import ROOT, Server, thrown_away
from tests.services import debian
from tests.upstream import Upstream

SBIN = "/usr/sbin:/usr/bin"


class Logging(Server):
    """gunicorn with one worker that logs JSON to a file."""

    def __init__(self, folder: Path, provider: Upstream) -> None:
        self.file = folder / "chatkeep.log"
        env = {"CHATKEEP_LOG_FILE": str(self.file), "CHATKEEP_LOG_FORMAT": "json", "CHATKEEP_ACCESS_LOG": "true"}
        super().__init__("gunicorn", folder, {"WEB_CONCURRENCY": "1", "OPENAI_BASE_URL": provider.url, **env})

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text(encoding="utf-8").splitlines()]

    def of(self, request_id: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line.get("request_id") == request_id]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Logging]:
    made = Logging(tmp_path_factory.mktemp("logging"), upstream)
    with thrown_away(made):
        yield made


@pytest.fixture(scope="module")
def logrotate() -> str:
    """The path of logrotate, which is installed if it is missing."""
    with debian.lock():
        told = "" if shutil.which("logrotate", path=SBIN) else debian.install("logrotate")
    found = shutil.which("logrotate", path=SBIN)
    if not found:
        pytest.skip(f"logrotate: {told}")
    return found


def test_a_request_is_logged_when_its_response_ends(server: Logging) -> None:
    """Streams for a second."""
    headers = {"X-Request-Id": "streamed"}
    with stream(f"{server.url}/api/chat", {"message": "Hello #n=10,r=10#", "stream": True}, headers=headers) as events:
        assert [event.event for event in events][-1] == "done"
    request("GET", f"{server.url}/api/shared/secret-token", headers={"X-Request-Id": "refused"})
    request("GET", f"{server.url}/health/live?q=canary")
    assert eventually(lambda: bool(server.of("streamed") and server.of("refused")), 30)
    [line] = server.of("streamed")
    assert (line["method"], line["route"], line["status"]) == ("POST", "/api/chat", 200)
    assert line["seconds"] > 0.8
    assert (server.of("refused")[0]["route"], server.of("refused")[0]["status"]) == ("/api/shared/{token}", 404)
    assert not any(word in server.file.read_text() for word in ("secret-token", "canary"))


def test_a_failure_is_logged_with_the_request_id(server: Logging) -> None:
    headers = {"X-Request-Id": "failing"}
    answer = request("POST", f"{server.url}/api/chat", json={"message": "Hello #status=400#"}, headers=headers)
    assert answer.status == 502
    # The reply's thread, the response and the access log write a line each.
    assert eventually(lambda: len(server.of("failing")) >= 3, 30)
    told = " ".join(line["message"] for line in server.of("failing"))
    assert "failed at the provider: ProviderRefused 400" in told
    assert "provider_refused" in told


def test_gunicorn_and_chatkeep_log_to_the_same_private_file(server: Logging) -> None:
    loggers = {line["logger"] for line in server.lines()}
    assert {"gunicorn.error", "chatkeep.server.serving"} <= loggers
    assert server.log() == ""
    assert server.file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("told", [False, True], ids=["no signal", "USR1"])
def test_lines_after_a_rotation_go_to_a_new_file(server: Logging, logrotate: str, *, told: bool) -> None:
    text = (ROOT / "deploy" / "chatkeep.logrotate").read_text(encoding="utf-8")
    configuration = server.folder / "logrotate.conf"
    configuration.write_text(text.replace("/var/log/chatkeep/*.log", str(server.file)))
    configuration.chmod(0o600)
    state = server.folder / "logrotate.state"
    state.unlink(missing_ok=True)
    request("GET", f"{server.url}/health/live", headers={"X-Request-Id": f"before-{told}"})
    subprocess.run([logrotate, "--force", "--state", state, configuration], check=True)
    if told:
        os.kill(server.pid, signal.SIGUSR1)
        assert eventually(server.file.exists, 30)
    request("GET", f"{server.url}/health/live", headers={"X-Request-Id": f"after-{told}"})
    assert eventually(lambda: server.file.exists() and bool(server.of(f"after-{told}")), 30)
    moved = server.file.with_name("chatkeep.log.1").read_text(encoding="utf-8")
    assert (f"before-{told}" in moved, f"after-{told}" in moved, server.of(f"before-{told}")) == (True, False, [])


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"CHATKEEP_LOG_FILE": "/nowhere/chatkeep.log"}, "CHATKEEP_LOG_FILE: /nowhere/chatkeep.log cannot be written"),
        ({"CHATKEEP_MAX_BODY": "enormous"}, "CHATKEEP_MAX_BODY: 'enormous' is invalid"),
    ],
)
def test_a_failed_start_logs_one_line_of_json(env: dict[str, str], said: str, tmp_path: Path) -> None:
    """Starts a process: a second."""
    refused = Server("gunicorn", tmp_path, {"CHATKEEP_LOG_FORMAT": "json", **env})
    done = subprocess.run(
        [sys.executable, *refused._arguments()],  # noqa: SLF001 - the tests' own
        cwd=tmp_path, env=refused.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    [line] = map(json.loads, done.stderr.splitlines())
    assert (line["level"], said in line["message"]) == ("CRITICAL", True)
