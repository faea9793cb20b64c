"""chatkeep on a real Windows Python: servers are used over HTTP, and commands run there.

`./dev windows` walks through every server and database; the short form, one of each, is part of all tests.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests import client
from tests.client import Response, Stream
from tests.conftest import empty_database
from tests.http.api import Api, Running, eventually, unique
from tests.servers import ROOT, Server
from tests.services.wine import Unavailable, Windows, path_of
from tests.upstream import Upstream, reply_to

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

IS_LONG = os.environ.get("CHATKEEP_WINDOWS") == "long"
EACH = [(command, database) for command in ("waitress", "serve", "flask") for database in ("sqlite", "mariadb")]
UNPACK: dict[str, Callable[[bytes], bytes]] = {"none": bytes, "gzip": gzip.decompress, "zstd": zstd.decompress}
SAID = "你好 ✓ 😀"
PATIENCE = 600.0  # seconds
STREAMS = 64 if IS_LONG else 16
# On an idle machine, creating the Windows Python takes half a minute, and a start five seconds.
pytestmark = [pytest.mark.posix("it runs a Windows Python under Wine"), pytest.mark.timeout(1800)]


class WindowsServer(Server):
    """A server on the Windows Python, in a folder with a space and Chinese characters in its name."""

    patience = PATIENCE

    def __init__(self, windows: Windows, command: str, folder: Path, env: Mapping[str, str]) -> None:
        self.windows = windows
        super().__init__(command, folder, env)
        self.env |= {"CHATKEEP_DATA_DIR": path_of(folder / "data"), "PYTHONPATH": path_of(ROOT)}

    def environment(self) -> dict[str, str]:
        return super().environment() | self.windows.environment()

    def start(self) -> None:
        """Start it with its output in a pipe."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = {"serve": ["-m", "chatkeep", "serve"]}.get(self.command) or super()._arguments()
        process = self.process = subprocess.Popen(
            self.windows.command(*command),
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        threading.Thread(target=self._keep_log, args=(process,), daemon=True).start()
        self._wait_until_up()

    def kill(self) -> None:
        """End it as `taskkill /F` does."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def _keep_log(self, process: subprocess.Popen[bytes]) -> None:
        said: Any = process.stdout
        with said, self._log.open("ab") as log:
            while chunk := said.read1(65536):
                log.write(chunk)
                log.flush()


class PatientApi(Api):
    """The API of a server that is slow if other processes use the CPU."""

    def request(self, method: str, path: str, **options: Any) -> Response:
        return super().request(method, path, timeout=PATIENCE, **options)

    def stream(self, message: str, *, headers: Mapping[str, str] | None = None, **fields: Any) -> Stream:
        body = {"message": message, "stream": True, **fields}
        return client.stream(f"{self.server.url}/api/chat", body, headers=headers, timeout=PATIENCE)


@pytest.fixture(scope="session")
def windows() -> Windows:
    """The Windows Python."""
    made = Windows()
    try:
        made.ensure_made()
    except Unavailable as reason:
        pytest.skip(f"Windows: {reason}")
    return made


@pytest.fixture(scope="module", params=EACH if IS_LONG else EACH[:1], ids="-".join)
def api(
    request: pytest.FixtureRequest, windows: Windows, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """A server on Windows and its database."""
    command, database = request.param
    folder = tmp_path_factory.mktemp("windows") / "文件 夹"
    folder.mkdir()
    (folder / "密钥.txt").write_text("test-key\r\n", encoding="utf-8")
    env = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY_FILE": "密钥.txt"}
    if database != "sqlite":
        env["DATABASE_URL"] = empty_database(request, database, tmp_path_factory)
    server = WindowsServer(windows, command, folder, env)
    try:
        server.start()
        yield PatientApi(server)
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"), ("/docs", "text/html"), ("/admin", "text/html"), ("/static/chat.js", "text/javascript"),
        ("/openapi.json", "application/json"), ("/health/ready", "application/json"), ("/metrics", "text/plain"),
    ],
)  # fmt: skip
def test_pages_and_files_are_served(api: Api, path: str, kind: str) -> None:
    response = api.request("GET", path)
    assert (response.status, response.headers.get_content_type()) == (200, kind)


def test_turn_is_streamed_and_stored(api: Api) -> None:
    whole = api.chat(SAID)
    assert whole["reply"] == reply_to(SAID)
    message = unique("#n=40,r=40,seed=3#")
    stream = api.streamed(message, conversation_id=whole["conversation_id"])
    at = [event.at for event in stream.events if event.event == "delta"]
    assert len(at) > 5, "the reply came at once"
    messages = api.read(whole["conversation_id"])["messages"]["data"]
    assert [one["content"] for one in messages] == [SAID, reply_to(SAID), message, reply_to(message)]


def test_reply_can_be_stopped_and_another_resumed(api: Api) -> None:
    with api.running(unique("#n=2000,r=20#")) as reply:
        assert api.post("x", conversation_id=reply.id).status == 409
        assert api.stop(reply.id)["stopped"]
        assert reply.rest().data["status"] == "stopped"
    message = unique("#n=60,r=30,seed=5#")
    with api.running(message) as reply:
        reply.until(20)
        start, shown = reply.start, reply.text
    followed = api.followed(start, after=len(shown))
    assert shown + followed.text == reply_to(message)


def test_conversations_are_exported_imported_and_listed(api: Api) -> None:
    """An imported conversation may have times after the year 3000."""
    conversation = api.chat(SAID)["conversation_id"]
    for form in ("json", "csv", "ndjson", "md", "openai"):
        response = api.request("GET", f"/api/conversations/{conversation}/export?format={form}")
        assert (response.status, SAID in response.text) == (200, True), form
    exported = api.request("GET", f"/api/conversations/{conversation}/export?format=json").text
    assert api.delete(conversation).status == 200
    body = re.sub(r'"20\d\d-', '"8999-', exported).encode()
    done = api.request("POST", "/api/conversations/import", body=body, headers={"Content-Type": "application/json"})
    assert (done.status, done.json["conversations"]["added"]) == (200, 1)
    assert api.read(conversation)["messages"]["data"][0]["timestamp"].startswith("8999-")
    assert conversation in [one["id"] for one in api.list()["data"]]


@pytest.mark.parametrize("compression", UNPACK)
def test_export_job_makes_a_file(api: Api, compression: str) -> None:
    api.chat(SAID)
    made = api.request("POST", "/api/exports", json={"format": "json", "compression": compression}).json
    where = f"/api/exports/{made['id']}"
    assert eventually(lambda: api.request("GET", where).json["status"] not in {"queued", "running"}, PATIENCE)
    assert api.request("GET", where).json["status"] == "completed"
    content = api.request("GET", f"{where}/content").body
    assert SAID in UNPACK[compression](content).decode()
    assert api.request("GET", f"{where}/content", headers={"Range": "bytes=10-"}).body == content[10:]
    assert api.request("DELETE", where).status == 200
    assert api.request("GET", f"{where}/content").status == 404


def test_concurrent_streams_are_complete(api: Api) -> None:
    messages = [unique(f"#n=60,r=20,seed={number}#") for number in range(STREAMS)]
    with ThreadPoolExecutor(STREAMS) as pool:
        assert [stream.text for stream in pool.map(api.streamed, messages)] == [*map(reply_to, messages)]


def test_shown_text_survives_a_kill(api: Api) -> None:
    """Waits until the next process considers the killed one dead: some seconds."""
    messages = [unique(f"#n=2000,r=20,seed={number}#") for number in range(8)]
    with ThreadPoolExecutor(len(messages)) as pool:
        replies = list(pool.map(api.running, messages))
        reading = [pool.submit(read_on, reply) for reply in replies]
        assert eventually(lambda: all(len(reply.text) > 40 for reply in replies), PATIENCE)
        api.server.kill()
        for read in reading:
            read.result()
    api.server.start()
    for reply in replies:
        last = api.ended(reply.id, PATIENCE)
        assert (last["status"], last["content"].startswith(reply.text)) == ("interrupted", True)


def read_on(reply: Running) -> None:
    """Read until the connection breaks."""
    with contextlib.suppress(OSError, HTTPException):
        reply.rest()


@pytest.fixture(scope="module")
def told(windows: Windows, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The output of commands on a Chinese Windows by name, and the files that they left."""
    folder = tmp_path_factory.mktemp("commands")
    with socket.create_server(("127.0.0.1", 0)) as other:
        server = WindowsServer(windows, "serve", folder, {"LC_ALL": "zh_CN.UTF-8"})
        done = subprocess.run(
            windows.command("-m", "tests.windows.commands", path_of(folder), str(other.getsockname()[1])),
            cwd=folder, env=server.environment(), stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return {one["name"]: one for one in map(json.loads, done.stdout.splitlines())} | {
        "left": [path.name for path in folder.iterdir()]
    }


def test_redirected_output_accepts_every_character(told: dict[str, Any]) -> None:
    assert (told["create"]["status"], told["list"]["status"]) == (0, 0)
    assert "ü 密钥 😀" in told["list"]["out"]


def test_commands_use_the_language_of_windows(told: dict[str, Any]) -> None:
    assert "密钥" in told["chinese"]["out"]


def test_file_open_in_another_program_is_reported(told: dict[str, Any]) -> None:
    assert told["export"]["status"] == 1
    assert "held.json 不可写" in told["export"]["err"]
    assert "如果其他程序打开了它" in told["export"]["err"]
    assert "Traceback" not in told["export"]["err"]
    assert [name for name in told["left"] if name.endswith(".part")] == []


def test_unix_socket_is_refused(told: dict[str, Any]) -> None:
    assert told["socket"]["status"] == 2
    assert "此系统上的 Python 不支持 Unix 套接字" in told["socket"]["err"]


@pytest.mark.parametrize("server", ["port", "waitress"])
def test_taken_port_is_reported(told: dict[str, Any], server: str) -> None:
    assert told[server]["status"] == 2
    assert "PORT=" in told[server]["err"]
    assert "Traceback" not in told[server]["err"]


def test_port_is_not_shared_with_another_program(told: dict[str, Any]) -> None:
    assert told["alone"]["out"] == ["refused", "refused"]


def test_doctor_reports_folder_permissions_without_a_warning(told: dict[str, Any]) -> None:
    (line,) = [line for line in told["doctor"]["out"].splitlines() if "icacls" in line]
    assert line.startswith("正常"), line
