"""Requests that arrive slowly, never, or are far too large, are refused."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time

import pytest

from tests.faults import processes
from tests.faults.conftest import ON_SQLITE, Record, Serve
from tests.faults.processes import allow_files
from tests.faults.pulse import Pulse
from tests.faults.scale import Scale

pytestmark = [pytest.mark.promise(6), pytest.mark.alone, ON_SQLITE]
HEAD = "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def connect(port: int, sent: str = "") -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(sent.encode())
    return sock


def test_slow_bodies_are_refused_and_idle_clients_delay_nothing(serve: Serve, scale: Scale, figures: Record) -> None:
    """Sends a byte a second until the body's deadline: four seconds, eleven in the long form."""
    allow_files()
    limit, count = scale.of(3, 10), scale.of(200, 1000)
    server = serve(WEB_CONCURRENCY="1", CHATKEEP_BODY_TIMEOUT=f"{limit}s")
    idle = [connect(server.port, "" if number % 2 else "POST /api/ch") for number in range(count)]
    with Pulse(server.url) as pulse:
        slow = {connect(server.port, f"{HEAD}Content-Length: 1000\r\n\r\n"): time.monotonic() for _ in range(count)}
        answers = drip(slow, limit + 10)
    for sock in [*idle, *slow]:
        sock.close()
    took = [at - slow[sock] for sock, (at, _) in answers.items()]
    p99 = pulse.percentile(99)
    counts = {"idle clients": count, "slow ones": count, "of them told 408": len(took)}
    figures("idle clients and slow bodies on one worker", **counts, **{"s until 408": max(took), "health p99 ms": p99})
    assert len(answers) == count
    assert {text[:12] for _, text in answers.values()} == {b"HTTP/1.1 408"}
    assert min(took) >= limit - 0.5
    assert set(pulse.statuses) == {200}
    assert not scale.is_long or (max(took) <= limit + 2.5 and p99 < 500)  # the short form shares the machine


def drip(slow: dict[socket.socket, float], seconds: float) -> dict[socket.socket, tuple[float, bytes]]:
    """Send each a byte a second; return when each was answered, and the answer's first bytes."""
    answers: dict[socket.socket, tuple[float, bytes]] = {}
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for sock in slow:
            selector.register(sock, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < deadline:
            for sock in slow.keys() - answers.keys():
                sock.send(b" ")
            pause = time.monotonic() + 1
            while selector.get_map() and (left := pause - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    answers[key.fileobj] = (time.monotonic(), key.fileobj.recv(4096))  # type: ignore[index,union-attr]
                    selector.unregister(key.fileobj)
    return answers


@pytest.mark.parametrize("kind", ["declared", "chunked"])
def test_body_far_over_the_limit_is_refused_immediately(serve: Serve, scale: Scale, figures: Record, kind: str) -> None:
    server, times = serve(WEB_CONCURRENCY="1"), scale.of(5, 100)
    (worker,) = server.worker_pids()
    send_gigabyte(server.port, kind)
    before = processes.forget_peak(worker)
    found = [send_gigabyte(server.port, kind) for _ in range(times)]
    grown, longest = (processes.peak(worker) - before) / 1024, max(took for _, took, _ in found)
    figures(f"a body of 1 GB, {kind}", times=times, **{"s until 413": longest, "MiB more at the peak": grown})
    assert {status for status, _, _ in found} == {b"HTTP/1.1 413"}
    assert max(sent for _, _, sent in found) < 64 << 20  # what the buffers of sockets hold, far from the whole body
    assert not scale.is_long or longest < 1  # the short form shares the machine
    assert grown < 8


def send_gigabyte(port: int, kind: str) -> tuple[bytes, float, int]:
    """Send until the server answers; return the beginning of the answer, the seconds, and the bytes sent."""
    length = f"Content-Length: {1 << 30}" if kind == "declared" else "Transfer-Encoding: chunked"
    piece = bytes(65536) if kind == "declared" else b"10000\r\n" + bytes(65536) + b"\r\n"
    begun, total = time.monotonic(), 0
    with connect(port, f"{HEAD}{length}\r\n\r\n") as sock, selectors.DefaultSelector() as selector:
        sock.settimeout(0)
        selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
        rest = b""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the answer is there all the same
            while not selector.select(5)[0][1] & selectors.EVENT_READ:
                rest = rest or piece
                sent = sock.send(rest)
                rest, total = rest[sent:], total + sent
        return sock.recv(12), time.monotonic() - begun, total
