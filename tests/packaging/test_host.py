"""nginx with the shipped site in front of the server of the systemd unit. `./dev hosts` boots both."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatkeep.config.settings import Settings
from tests import client
from tests.auth.keys import bearer, make_key
from tests.faults.crowd import Crowd
from tests.http.api import eventually
from tests.servers import ROOT
from tests.upstream import Upstream, reply_to

if os.name == "nt":
    pytest.skip("nginx and systemd are not tested on Windows", allow_module_level=True)

from tests.packaging.test_deploy import SocketServer, unit
from tests.services import nginx

DEPLOY = ROOT / "deploy"


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[tuple[SocketServer, nginx.Nginx]]:
    """A server with one worker on a socket, behind nginx with the shipped site."""
    folder = tmp_path_factory.mktemp("host")
    with (
        SocketServer(folder, {"OPENAI_BASE_URL": upstream.url, "WEB_CONCURRENCY": "1"}) as server,
        nginx.site(folder, f"unix:{folder / 'chatkeep.sock'}") as proxy,
    ):
        yield server, proxy


@pytest.fixture(scope="module")
def key(behind: tuple[SocketServer, nginx.Nginx]) -> str:
    return make_key(f"sqlite:///{(behind[0].folder / 'data' / 'chatkeep.sqlite3').as_posix()}").text


def test_no_request_hangs_after_a_reload_during_streams(behind: tuple[SocketServer, nginx.Nginx], key: str) -> None:
    """The streams outlast the start of the new worker. nginx keeps connections to the old one. Seconds."""
    server, proxy = behind
    old = server.worker_pids()
    with Crowd(proxy.port, stays=True, headers=f"Authorization: Bearer {key}\r\n") as crowd:
        for number in range(20):
            crowd.ask(f"stream {number} #n=60,r=10,seed={number}#")
        assert crowd.wait_for_start(60), "not every stream began"
        os.kill(server.pid, signal.SIGHUP)
        assert crowd.wait_for_end(60), "a stream did not end"
        assert eventually(lambda: not set(old) & set(server.worker_pids()), 60), "the old worker did not end"
        for listener in crowd.listeners:
            assert listener.parsed()[0].text == reply_to(listener.message)
    for _ in range(40):
        answer = client.request("GET", f"{proxy.url}/api/conversations", headers=bearer(key), timeout=60)
        assert answer.status == 200


def test_errors_of_nginx_are_problem_documents(behind: tuple[SocketServer, nginx.Nginx]) -> None:
    big = {"message": "x" * 2_000_000}
    for answer, status in [
        (client.request("POST", f"{behind[1].url}/api/chat", json=big), 413),
        (client.request("GET", f"{behind[1].url}/{'x' * 10_000}"), 414),
    ]:
        assert (answer.status, answer.json["status"]) == (status, status)
        assert answer.headers.get_content_type() == "application/problem+json"
        assert answer.json["request_id"] == answer.headers["X-Request-Id"]


def test_nginx_logs_no_queries(behind: tuple[SocketServer, nginx.Nginx]) -> None:
    asked = client.request("GET", f"{behind[1].url}/health/live?q=canary")
    log = behind[0].folder / "access.log"
    assert eventually(lambda: asked.headers["X-Request-Id"] in log.read_text(), 30)  # nginx logs after it responds
    assert "canary" not in log.read_text()


def test_nginx_returns_503_for_a_stopped_server(tmp_path: Path) -> None:
    with nginx.site(tmp_path, f"unix:{tmp_path / 'chatkeep.sock'}") as alone:
        answer = client.request("GET", f"{alone.url}/api/conversations")
    assert (answer.status, answer.json["code"], answer.headers["Retry-After"]) == (503, "server_stopping", "2")


def test_the_timeout_of_nginx_exceeds_the_reply_timeout() -> None:
    found = re.search(r"proxy_read_timeout (\d+)m;", (DEPLOY / "nginx-site.conf").read_text(encoding="utf-8"))
    assert found
    assert int(found[1]) * 60 > Settings().reply_timeout


def test_the_unit_and_nginx_use_the_same_socket() -> None:
    text = (DEPLOY / "chatkeep.service").read_text(encoding="utf-8")
    (place,) = re.findall(r"(?m)^Environment=HOST=(\S+)$", text)
    assert f"server {place} " in (DEPLOY / "nginx-site.conf").read_text(encoding="utf-8")


def test_systemd_gives_up_on_a_server_that_cannot_start() -> None:
    """All starts, ten seconds each, must fit into the interval. Otherwise systemd retries for ever."""
    text = (DEPLOY / "chatkeep.service").read_text(encoding="utf-8").partition("[Service]")[0]
    (minutes,), (starts,) = (
        re.findall(rf"(?m)^{name}=(\d+)", text) for name in ("StartLimitIntervalSec", "StartLimitBurst")
    )
    (pause,) = re.findall(r"(\d+)s", unit()["RestartSec"])
    assert int(starts) * (int(pause) + 10) < int(minutes) * 60


def test_the_wrapper_reads_user_folder_and_settings_from_the_unit() -> None:
    subprocess.run(["/bin/bash", "-n", DEPLOY / "chatkeep-admin"], check=True)
    text = (DEPLOY / "chatkeep-admin").read_text(encoding="utf-8")
    (names,) = re.findall(r"'\^\((.+)\)='", text)
    needed = {"DynamicUser", "User", "Group", "StateDirectory", "WorkingDirectory", "Environment", "EnvironmentFile"}
    assert needed <= set(names.split("|")) <= set(unit())
    # systemd would remove the runtime folder of the running service when the command ends.
    assert "RuntimeDirectory" not in names
