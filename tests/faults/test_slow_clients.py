"""Clients that send slowly or read nothing are disconnected by every server."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests import client
from tests.faults import processes
from tests.faults.processes import allow_files
from tests.servers import COMMANDS, Server, thrown_away

pytestmark = pytest.mark.promise(6)
POST = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
MANY = 600


@pytest.fixture(scope="module", params=COMMANDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of one process with a second for each request to arrive."""
    env = {"CHATKEEP_BODY_TIMEOUT": "1s", "WEB_CONCURRENCY": "1"}
    with thrown_away(Server(request.param, tmp_path_factory.mktemp("slow"), env)) as running:
        yield running


def connect(server: Server, sent: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    sock.sendall(sent)
    return sock


def drip(sock: socket.socket, seconds: float) -> bytes:
    """Send a byte five times a second until the server disconnects, and return its answer."""
    sock.settimeout(0.2)
    received, deadline = b"", time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            sock.send(b"x")
            piece = sock.recv(65536)
        except TimeoutError:
            continue
        except OSError:
            return received
        received += piece
        if not piece or b"HTTP/1.1 408" in received:
            return received
    raise AssertionError(f"it was not ended in {seconds} s")


def test_many_endless_heads_do_not_block_other_clients(server: Server) -> None:
    """Opens 600 connections, twice."""
    allow_files()
    with ExitStack() as held:
        for _ in range(2):
            for number in range(MANY):
                held.enter_context(closing(connect(server, b"GET /health/live HT" if number % 2 else b"")))
            for _ in range(3):
                assert client.request("GET", f"{server.url}/health/live", timeout=5).status == 200


@pytest.mark.parametrize("framing", [b"Content-Length: 1000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n"])
def test_dripping_body_is_408(server: Server, framing: bytes) -> None:
    """Waits for a second."""
    with connect(server, POST + framing) as sock:
        assert drip(sock, 5).startswith(b"HTTP/1.1 408 ")


def test_missing_body_is_408(server: Server) -> None:
    """Waits for a second."""
    with connect(server, POST + b"Content-Length: 1000\r\n\r\n{") as sock:
        sock.settimeout(6)
        assert sock.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_dripping_head_is_disconnected(server: Server) -> None:
    """Waits for a second. gunicorn alone would wait 75 s for a head, as for the next request."""
    if server.command == "gunicorn":
        return
    with connect(server, b"GET /health/live HTTP/1.1\r\nX-Drip: ") as sock:
        drip(sock, 5)


@pytest.mark.posix("Windows has no /proc")
def test_bodies_are_not_written_to_files(server: Server) -> None:
    with connect(server, POST + b"Content-Length: 1000000\r\n\r\n" + b" " * 999_000) as sock:
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            assert temporary_files(server) == []
        sock.close()


def temporary_files(server: Server) -> list[str]:
    """Return the open unnamed files of the server."""
    found = []
    for pid in server.worker_pids():
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(link.readlink())
            except FileNotFoundError:
                continue
            if target.endswith("(deleted)") and "wgunicorn" not in target:  # gunicorn's heartbeat is such a file
                found.append(target)
    return found


@pytest.mark.timeout(180)
def test_clients_that_read_nothing_are_disconnected(tmp_path: Path) -> None:
    """Waits for the write deadline of ten seconds, for all servers and kinds of answers at once."""
    with ExitStack() as running:
        servers = [running.enter_context(thrown_away(Server(name, tmp_path / name))) for name in COMMANDS]
        held = {server.command: held_by(server) for server in servers}
        begun = time.monotonic()
        left = {server.command: processes.clients(server.port) for server in servers}
        assert min(left.values()) >= 4, left  # if the buffers hold everything, the test proves nothing
        while any(left.values()) and time.monotonic() < begun + 30:  # alone it takes eleven seconds
            time.sleep(0.2)
            left = {server.command: processes.clients(server.port) for server in servers}
        logs = {server.command: server.log() for server in servers}
        ends = {command: {end_of(sock) for sock in socks} for command, socks in held.items()}
    assert left == dict.fromkeys(COMMANDS, 0)
    # A reset frees what the kernel holds for them; only the development server leaves that to the kernel's timeout.
    assert ends == {"gunicorn": {errno.ECONNRESET}, "waitress": {errno.ECONNRESET}, "flask": {0}}
    assert [name for name, log in logs.items() if "Traceback" in log] == []


def end_of(sock: socket.socket) -> int:
    """Close a connection; return the error with which the server ended it, or 0."""
    with sock:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def held_by(server: Server) -> list[socket.socket]:
    """Request large answers of each kind on connections that read nothing."""
    message = "x" * 300_000
    turn = client.request("POST", f"{server.url}/api/chat", json={"message": message}).json
    path = f"/api/conversations/{turn['conversation_id']}"
    gets = [path, "/docs/assets/swagger-ui-bundle.js"]
    if server.command != "gunicorn":  # which allows a minute for exports
        gets += [f"{path}/export?format=json", "/api/conversations/export-all?format=ndjson"]
    requests = [f"GET {get} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 20 for get in gets]
    return [ask_and_take_nothing(server.port, many) for many in requests for _ in range(2)]


def ask_and_take_nothing(port: int, sent: bytes) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    sock.connect(("127.0.0.1", port))
    sock.sendall(sent)
    return sock
