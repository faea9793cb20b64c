"""nginx on a host with the shipped site, in front of what the systemd unit starts; `./dev hosts` boots both."""

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
    """A server with one worker on a socket, and nginx with the shipped site before it."""
    folder = tmp_path_factory.mktemp("host")
    with (
        SocketServer(folder, {"OPENAI_BASE_URL": upstream.url, "WEB_CONCURRENCY": "1"}) as server,
        nginx.site(folder, f"unix:{folder / 'chatkeep.sock'}") as proxy,
    ):
        yield server, proxy


@pytest.fixture(scope="module")
def key(behind: tuple[SocketServer, nginx.Nginx]) -> str:
    return make_key(f"sqlite:///{(behind[0].folder / 'data' / 'chatkeep.sqlite3').as_posix()}").text


def test_after_a_reload_amid_streams_no_request_hangs(behind: tuple[SocketServer, nginx.Nginx], key: str) -> None:
    """The streams outlast the start of the new worker, some seconds; nginx keeps connections to the old one."""
    server, proxy = behind
    old = server.worker_pids()
    with Crowd(proxy.port, stays=True, headers=f"Authorization: Bearer {key}\r\n") as crowd:
        for number in range(20):
            crowd.ask(f"stream {number} #n=60,r=10,seed={number}#")
        assert crowd.wait_for_start(60), "not every stream began"
        os.kill(server.pid, signal.SIGHUP)
        assert crowd.wait_for_end(60), "a stream has no end"
        assert eventually(lambda: not set(old) & set(server.worker_pids()), 60), "the old worker stays"
        for listener in crowd.listeners:
            assert listener.parsed()[0].text == reply_to(listener.message)
    for _ in range(40):
        answer = client.request("GET", f"{proxy.url}/api/conversations", headers=bearer(key), timeout=60)
        assert answer.status == 200


def test_what_nginx_itself_refuses_is_a_problem_document(behind: tuple[SocketServer, nginx.Nginx]) -> None:
    big = {"message": "x" * 2_000_000}
    for answer, status in [
        (client.request("POST", f"{behind[1].url}/api/chat", json=big), 413),
        (client.request("GET", f"{behind[1].url}/{'x' * 10_000}"), 414),
    ]:
        assert (answer.status, answer.json["status"]) == (status, status)
        assert answer.headers.get_content_type() == "application/problem+json"
        assert answer.json["request_id"] == answer.headers["X-Request-Id"]


def test_the_log_of_nginx_has_no_queries(behind: tuple[SocketServer, nginx.Nginx]) -> None:
    asked = client.request("GET", f"{behind[1].url}/health/live?q=canary")
    told = (behind[0].folder / "access.log").read_text()
    assert asked.headers["X-Request-Id"] in told
    assert "canary" not in told


def test_nginx_answers_for_a_server_that_is_away(tmp_path: Path) -> None:
    with nginx.site(tmp_path, f"unix:{tmp_path / 'chatkeep.sock'}") as alone:
        answer = client.request("GET", f"{alone.url}/api/conversations")
    assert (answer.status, answer.json["code"], answer.headers["Retry-After"]) == (503, "server_stopping", "2")


def test_nginx_waits_longer_than_a_reply_may_take() -> None:
    found = re.search(r"proxy_read_timeout (\d+)m;", (DEPLOY / "nginx-site.conf").read_text(encoding="utf-8"))
    assert found
    assert int(found[1]) * 60 > Settings().reply_timeout


def test_the_unit_listens_where_nginx_asks() -> None:
    text = (DEPLOY / "chatkeep.service").read_text(encoding="utf-8")
    (place,) = re.findall(r"(?m)^Environment=HOST=(\S+)$", text)
    assert f"server {place} " in (DEPLOY / "nginx-site.conf").read_text(encoding="utf-8")


def test_systemd_gives_up_on_a_server_that_cannot_start() -> None:
    """All starts have to fit into the interval, ten seconds each, or it goes on for ever."""
    text = (DEPLOY / "chatkeep.service").read_text(encoding="utf-8").partition("[Service]")[0]
    (minutes,), (starts,) = (
        re.findall(rf"(?m)^{name}=(\d+)", text) for name in ("StartLimitIntervalSec", "StartLimitBurst")
    )
    (pause,) = re.findall(r"(\d+)s", unit()["RestartSec"])
    assert int(starts) * (int(pause) + 10) < int(minutes) * 60


def test_the_wrapper_takes_who_where_and_with_what_from_the_unit() -> None:
    subprocess.run(["/bin/bash", "-n", DEPLOY / "chatkeep-admin"], check=True)
    text = (DEPLOY / "chatkeep-admin").read_text(encoding="utf-8")
    (names,) = re.findall(r"'\^\((.+)\)='", text)
    needed = {"DynamicUser", "User", "Group", "StateDirectory", "WorkingDirectory", "Environment", "EnvironmentFile"}
    assert needed <= set(names.split("|")) <= set(unit())
    # A folder of the running service would be removed with the command's end.
    assert "RuntimeDirectory" not in names
