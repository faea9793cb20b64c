"""The files in deploy/. Tests run nginx, the unit's commands and the linters, and check the rest against schemas."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatkeep import __version__
from chatkeep.auth.access import Scope
from chatkeep.config.settings import Settings
from tests import client
from tests.auth.keys import bearer, make_key
from tests.http.api import eventually
from tests.servers import ROOT, Server, thrown_away
from tests.services.nginx import Nginx, shipped

if sys.platform != "win32":
    import grp
    import pwd

pytestmark = pytest.mark.posix("nginx, systemd and containers are not tested on Windows")
DEPLOY = ROOT / "deploy"
# Seconds. The machine may be busy.
LONG = 100
NGINX = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
VERSIONED = f"chatkeep:{__version__}"
# The settings of the files in deploy/.
SETTINGS = {"CHATKEEP_ENV": "production", "CHATKEEP_REQUIRE_KEYS": "true"}


class SocketServer(Server):
    """chatkeep on a Unix socket, as in the deployment files."""

    def __init__(self, folder: Path, env: dict[str, str], *, group: int | None = None) -> None:
        self.socket = folder / "chatkeep.sock"
        super().__init__("gunicorn", folder, {"HOST": f"unix:{self.socket}", **SETTINGS, **env}, group=group)

    def _is_up(self) -> bool:
        return self.socket.exists() and health(self, "--live").returncode == 0


def health(server: Server, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "chatkeep", "health", *options]
    return subprocess.run(
        command, env=server.environment(), cwd=server.folder, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SocketServer, Nginx]]:
    """A server on a socket, behind nginx."""
    folder = tmp_path_factory.mktemp("deploy")
    with SocketServer(folder, {}) as server, shipped(folder, f"unix:{folder / 'chatkeep.sock'}") as proxy:
        yield server, proxy


@pytest.fixture(scope="module")
def allowed(behind: tuple[SocketServer, Nginx]) -> dict[str, str]:
    """The headers of a caller with a key."""
    return bearer(make_key(f"sqlite:///{(behind[0].folder / 'data' / 'chatkeep.sqlite3').as_posix()}").text)


def test_requests_get_401_before_the_first_key_is_made(tmp_path: Path) -> None:
    """Starts a server: a second or two."""
    with SocketServer(tmp_path, {}), shipped(tmp_path, f"unix:{tmp_path / 'chatkeep.sock'}") as proxy:
        refused = client.request("GET", f"{proxy.url}/api/conversations")
    assert (refused.status, "chatkeep keys create NAME" in refused.json["detail"]) == (401, True)


def test_only_health_is_served_without_a_key(behind: tuple[SocketServer, Nginx], allowed: dict[str, str]) -> None:
    assert client.request("GET", f"{behind[1].url}/api/conversations").status == 401
    assert client.request("GET", f"{behind[1].url}/api/conversations", headers=allowed).status == 200
    assert client.request("GET", f"{behind[1].url}/health/live").status == 200


def test_nginx_does_not_buffer_streams(behind: tuple[SocketServer, Nginx], allowed: dict[str, str]) -> None:
    """The demo model writes 50 words a second: two seconds."""
    with client.stream(f"{behind[1].url}/api/chat", {"message": "Hello"}, headers=allowed) as stream:
        reader = [(event.event, time.monotonic()) for event in stream]
    assert reader[-1][0] == "done"
    assert reader[-1][1] - reader[1][1] > 0.5
    assert len(reader) > 20


def test_both_nginx_files_have_the_same_error_pages() -> None:
    """One is for a container, the other for a host whose nginx may serve other sites."""
    site = (DEPLOY / "nginx-site.conf").read_text(encoding="utf-8")
    problems = [re.findall(r"^ +(\S+) ('\"code\".*')", text, re.MULTILINE) for text in (NGINX, site)]
    assert len(problems[0]) == NGINX.count('"code"')
    assert problems[0] == problems[1]
    assert re.findall("error_page .*", NGINX) == re.findall("error_page .*", site)


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ("GET /health/live HTTP/1.1\r\n\r\n", 400, "bad_request"),
        ("GET /health/live HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "bad_request"),
        ("nonsense\r\n\r\n", 400, "bad_request"),
        ("GET /health/live HTTP/3.0\r\n\r\n", 505, "bad_request"),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method_not_allowed"),
        ("GET /proxy-problem HTTP/1.1\r\nHost: a\r\n\r\n", 404, "not_found"),
        (f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {10**8}\r\n\r\n", 413, "body_too_large"),
        (f"GET /{'x' * 40_000} HTTP/1.1\r\nHost: a\r\n\r\n", 414, "uri_too_long"),
        (f"GET / HTTP/1.1\r\nHost: a\r\nX-Long: {'x' * 40_000}\r\n\r\n", 431, "headers_too_large"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "unsupported_transfer_coding"),
    ],
    ids=["no Host", "two Hosts", "no HTTP", "version", "TRACE", "own path", "body", "address", "headers", "coding"],
)
def test_errors_of_nginx_are_problem_documents(
    sent: str, status: int, code: str, behind: tuple[SocketServer, Nginx]
) -> None:
    top, problem = raw(behind[1].port, sent)
    assert top.startswith(f"HTTP/1.1 {status} ")
    assert "Content-Type: application/problem+json" in top
    assert (problem["status"], problem["code"]) == (status, code)
    assert f"X-Request-Id: {problem['request_id']}" in top


def raw(port: int, sent: str) -> tuple[str, Any]:
    """Send a malformed request. Return the head and the JSON of the response."""
    with socket.create_connection(("127.0.0.1", port), 60) as sock, sock.makefile("rb") as file:
        sock.sendall(sent.encode())
        head = b"".join(iter(file.readline, b"\r\n")).decode()
        length = re.search(r"Content-Length: (\d+)", head)
        assert length, head
        return head, json.loads(file.read(int(length[1])))


def test_nginx_forwards_the_host_that_is_compared_with_the_origin(
    behind: tuple[SocketServer, Nginx], allowed: dict[str, str]
) -> None:
    """On plain HTTP from another machine, only this distinguishes the server's own page from a foreign one."""
    url = behind[1].url
    for origin, status in [(url, 200), (url.rpartition(":")[0], 403), ("http://evil.example.com", 403)]:
        headers = allowed | {"Origin": origin}
        answer = client.request("POST", f"{url}/api/chat", json={"message": "Hello"}, headers=headers)
        assert answer.status == status, origin


def test_an_unreachable_server_is_a_problem_document(tmp_path: Path) -> None:
    with shipped(tmp_path, f"unix:{tmp_path / 'chatkeep.sock'}") as alone:
        answer = client.request("GET", f"{alone.url}/api/conversations")
    assert (answer.status, answer.json["status"], answer.headers["Retry-After"]) == (503, 503, "2")


def test_a_timeout_of_nginx_says_that_the_reply_continues(tmp_path: Path) -> None:
    """Uses a timeout of a second instead of minutes."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "chatkeep.sock"))
        silent.listen()
        proxy = shipped(tmp_path, f"unix:{tmp_path / 'chatkeep.sock'}")
        made = tmp_path / "nginx.conf"
        made.write_text(made.read_text(encoding="utf-8").replace("proxy_read_timeout 11m", "proxy_read_timeout 1s"))
        with proxy:
            answer = client.request("POST", f"{proxy.url}/api/chat", json={"message": "Hello"})
    assert (answer.status, answer.json["code"]) == (504, "proxy_timeout")
    assert "It goes on" in answer.json["detail"]


def test_the_timeout_of_nginx_exceeds_the_reply_timeout() -> None:
    (minutes,) = re.findall(r"proxy_read_timeout (\d+)m;", NGINX)
    settings = Settings()
    assert int(minutes) * 60 >= settings.reply_timeout + settings.first_token_timeout


def test_the_file_limit_of_nginx_covers_its_connections() -> None:
    (files,), (connections,) = (re.findall(rf"{name} (\d+);", NGINX) for name in ("nofile", "worker_connections"))
    assert int(files) > int(connections)


def test_the_second_server_serves_while_the_first_is_down(
    behind: tuple[SocketServer, Nginx], allowed: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "second.sock").symlink_to(behind[0].socket)
    with shipped(tmp_path, f"unix:{tmp_path / 'absent.sock'}") as proxy:
        for _ in range(3):
            answer = client.request("POST", f"{proxy.url}/api/chat", json={"message": "Hello"}, headers=allowed)
            assert answer.status == 200


def test_metrics_and_the_summary_require_the_admin_scope(
    behind: tuple[SocketServer, Nginx], allowed: dict[str, str]
) -> None:
    database = f"sqlite:///{(behind[0].folder / 'data' / 'chatkeep.sqlite3').as_posix()}"
    user = bearer(make_key(database, "local", Scope.CHAT, Scope.READ).text)
    for path in ("/metrics", "/api/admin/summary"):
        statuses = [client.request("GET", f"{behind[1].url}{path}", headers=one).status for one in (allowed, user)]
        assert statuses == [200, 403], path


def test_health_sets_its_exit_status(behind: tuple[SocketServer, Nginx], tmp_path: Path) -> None:
    """Starts two processes: a second."""
    assert health(behind[0]).stdout == "ok\n"
    stopped = SocketServer(tmp_path, {})
    assert (health(stopped).returncode, "no server answers" in health(stopped).stderr) == (1, True)


@pytest.mark.parametrize("command", ["gunicorn", "waitress"])
def test_serve_listens_on_a_socket(command: str, tmp_path: Path) -> None:
    """Starts a process: a second or two."""
    server = SocketServer(tmp_path, {})
    arguments = [sys.executable, "-m", "chatkeep", "serve", "--server", command]
    process = subprocess.Popen(arguments, cwd=tmp_path, env=server.environment(), stderr=subprocess.DEVNULL)
    try:
        assert eventually(lambda: health(server).returncode == 0, LONG)
    finally:
        process.terminate()
        assert process.wait(LONG) is not None


@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="only root can run nginx as another user")
def test_only_the_group_of_the_socket_can_connect() -> None:
    """Starts a server and nginx three times: some seconds."""
    inside, outside = grp.getgrgid(1).gr_name, grp.getgrgid(pwd.getpwnam("nobody").pw_gid).gr_name
    with tempfile.TemporaryDirectory() as name, SocketServer(Path(name), {}, group=1):
        folder = Path(name)
        folder.chmod(0o755)  # so that only the mode of the socket decides
        for user, status in [(f"nobody {outside}", 503), (f"nobody {inside}", 200), (f"nobody {outside}", 503)]:
            with shipped(folder, f"unix:{folder / 'chatkeep.sock'}", user) as proxy:
                assert client.request("GET", f"{proxy.url}/health/live").status == status, user


def unit() -> dict[str, str]:
    """Return the settings of the systemd unit."""
    return dict(re.findall(r"(?m)^(\w+)=(.*)$", (DEPLOY / "chatkeep.service").read_text(encoding="utf-8")))


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if not program:
        pytest.skip("systemd-analyze is not installed")
    made = tmp_path / "chatkeep.service"
    text = (DEPLOY / "chatkeep.service").read_text(encoding="utf-8")
    made.write_text(text.replace("/opt/chatkeep/bin/chatkeep", "/bin/true").replace("file:///opt", "file:///"))
    done = subprocess.run([program, "verify", "--man=no", made], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "chatkeep.service" in line] == []


def test_the_commands_of_the_unit_start_reload_and_stop(tmp_path: Path) -> None:
    """Runs the commands and sends the signals of systemd. Starts a server and its workers twice: seconds."""
    server = SocketServer(tmp_path, {"WEB_CONCURRENCY": "1"})
    words = unit()["ExecStart"].replace("/opt/chatkeep/bin/chatkeep", f"{sys.executable} -m chatkeep").split()
    process = subprocess.Popen(words, cwd=tmp_path, env=server.environment(), stderr=subprocess.DEVNULL)
    server.process = process
    try:
        assert eventually(lambda: health(server).returncode == 0, LONG)
        (before,) = server.worker_pids()
        subprocess.run(shlex.split(unit()["ExecReload"].replace("$MAINPID", str(process.pid))), check=True)
        assert eventually(lambda: before not in server.worker_pids() and health(server).returncode == 0, LONG)
        process.terminate()
        assert process.wait(LONG) == 0
    finally:
        process.kill()
        process.wait()


def test_an_upgrade_notifies_systemd_of_the_new_main_process(tmp_path: Path) -> None:
    """Starts a server, and a second one from it: seconds."""
    told = tmp_path / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(told))
        systemd.settimeout(20)

        def main_pid() -> int:
            while True:
                name, _, value = systemd.recv(1024).decode().partition("=")
                if name == "MAINPID":
                    return int(value)

        server = Server("gunicorn", tmp_path, {"WEB_CONCURRENCY": "1", "NOTIFY_SOCKET": str(told)})
        with thrown_away(server):
            assert main_pid() == server.pid
            os.kill(server.pid, signal.SIGUSR2)
            successor = main_pid()
            assert successor != server.pid
            os.kill(server.pid, signal.SIGTERM)
            assert eventually(lambda: server.process and server.process.poll() == 0, LONG)
            assert client.request("GET", f"{server.url}/health/live").status == 200
            os.kill(successor, 0)
    assert unit()["NotifyAccess"] == "all"


@pytest.mark.parametrize("name", ["chatkeep.service", "compose.yaml", "kubernetes/chatkeep.yaml"])
def test_stop_timeouts_exceed_the_drain_timeout(name: str) -> None:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    found = re.search(r"(?:TimeoutStopSec=|stop_grace_period: |terminationGracePeriodSeconds: )(\d+)(m?)", text)
    assert found
    assert int(found[1]) * (60 if found[2] else 1) > Settings().drain_timeout + 15


def test_the_compose_file_matches_its_schema() -> None:
    import check_jsonschema  # noqa: PLC0415 - used for its files only
    from jsonschema import Draft7Validator  # noqa: PLC0415 - comes with it

    place = importlib.resources.files(check_jsonschema) / "builtin_schemas/vendor/compose-spec.json"
    schema = json.loads(place.read_text(encoding="utf-8"))
    (file,) = written("compose.yaml")
    assert [error.message for error in Draft7Validator(schema).iter_errors(file)] == []


def test_compose_builds_one_image_and_has_health_checks() -> None:
    services = written("compose.yaml")[0]["services"]
    ours = {name: one for name, one in services.items() if one["image"] == VERSIONED}
    assert set(ours) == {"migrate", "chatkeep", "second"}
    assert [name for name, one in services.items() if "build" in one] == ["migrate"]
    assert all(ours[name]["healthcheck"]["test"] == ["CMD", "chatkeep", "health"] for name in ("chatkeep", "second"))
    assert {name: one["stop_grace_period"] for name, one in services.items() if "stop_grace_period" in one} == {
        "mariadb": "1m", "chatkeep": "11m", "second": "11m", "nginx": "11m",
    }  # fmt: skip
    assert services["second"]["environment"]["HOST"].removeprefix("unix:") in NGINX


def written(name: str) -> list[Any]:
    """Return the documents of a YAML file in deploy/."""
    from ruamel.yaml import YAML  # noqa: PLC0415 - comes with check-jsonschema

    return list(YAML(typ="safe").load_all(DEPLOY / name))


def test_kubernetes_uses_one_version_and_recreates_the_pod() -> None:
    _, claim, deployment, _ = written("kubernetes/chatkeep.yaml")
    spec = deployment["spec"]["template"]["spec"]
    containers = [*spec["initContainers"], *spec["containers"]]
    assert {one["image"] for one in containers if "nginx" not in one["image"]} == {VERSIONED}
    assert {one["imagePullPolicy"] for one in containers} == {"IfNotPresent"}
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    waits = [int(one["lifecycle"]["preStop"]["exec"]["command"][1]) for one in spec["containers"]]
    assert max(waits) < 15


def test_kubernetes_accepts_the_manifests() -> None:
    from kubernetes_validate import latest_version, validate  # noqa: PLC0415

    documents = written("kubernetes/chatkeep.yaml")
    for document in documents:
        validate(document, latest_version(), strict=True)
    assert [document["kind"] for document in documents] == [
        "ConfigMap", "PersistentVolumeClaim", "Deployment", "Service",
    ]  # fmt: skip


def test_the_dockerfile_names_existing_files_and_safe_settings() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    for name in re.findall(r"requirements/\w+\.txt", text):
        assert (ROOT / name).exists()
    values = dict(re.findall(r"\b((?:CHATKEEP_\w+|HOST))=(\S+)", text))
    assert Settings.from_env(values).dangers() == []
    (user,) = re.findall(r"(?m)^USER (\d+)$", text)
    assert f"--uid {user} " in text


def test_hadolint_accepts_the_dockerfile() -> None:
    program = shutil.which("hadolint", path=Path(sys.executable).parent)
    assert program
    done = subprocess.run([program, "--no-color", DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", ["chatkeep.env.example", "Dockerfile", "kubernetes/chatkeep.yaml"])
def test_deployments_require_keys(name: str) -> None:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    assert re.search(r"CHATKEEP_REQUIRE_KEYS(?:=|: )\"?true", text)


def test_the_example_environment_is_valid() -> None:
    lines = (DEPLOY / "chatkeep.env.example").read_text(encoding="utf-8").splitlines()
    values = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert Settings.from_env(values).env == "production"
