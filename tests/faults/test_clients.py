"""Clients that disconnect, or read nothing."""

from __future__ import annotations

import json
import re
import socket
import struct
import time
from contextlib import closing

import pytest

from tests.faults import processes, rows
from tests.faults.checker import compare
from tests.faults.conftest import ON_SQLITE, Record, Serve
from tests.faults.crowd import HEAD, Crowd, Listener
from tests.faults.scale import Scale
from tests.upstream import Upstream, reply_to

pytestmark = pytest.mark.promise(2, 3, 6)
RESET = struct.pack("ii", 1, 0)


def leave(crowd: Crowd, listener: Listener, *, reset: bool = True) -> None:
    """Close the connection, with a reset or normally."""
    crowd.forget(listener)
    if reset:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    listener.sock.close()


def shown(listener: Listener) -> float:
    """Return the share of its reply that a client got. The number of deltas depends on the load."""
    ids = re.findall(rb"^id: (\d+)$", listener.raw, re.MULTILINE)
    return int(ids[-1]) / len(reply_to(listener.message)) if ids else 0


@pytest.mark.parametrize("policy", ["continue", "stop"])
def test_on_disconnect_decides_what_a_reset_does(
    serve: Serve, database_url: str, provider: Upstream, scale: Scale, figures: Record, policy: str
) -> None:
    """Streams for two seconds, or six; the clients leave after the start, the first delta, some deltas, most."""
    server, each = serve(), scale.of(5, 50)
    with Crowd(server.port) as crowd:
        for number in range(4 * each):
            crowd.ask(f"leave {number} #n={scale.of(40, 120)},r=20,seed={number}#", on_disconnect=policy)
        left = list(enumerate(crowd.listeners))
        while left:
            for number, listener in list(left):
                assert not listener.is_closed, "a client stayed to the end"
                if listener.has_started and shown(listener) >= (0, 0.001, 0.2, 0.6)[number % 4]:
                    leave(crowd, listener)
                    left.remove((number, listener))
            time.sleep(0.01)
        gone = time.monotonic()
        assert provider.wait_for(lambda provider: not provider.active, 10), "a reply goes on"
        assert not any(b"event: done" in listener.raw for listener in crowd.listeners), "a client stayed to the end"
        last, log = time.monotonic() - gone, [listener.parsed()[0] for listener in crowd.listeners]
    wait_for_final(database_url)
    found = rows.read(database_url)
    verdict, stored = compare(found, log), {message.id: message for message in found.messages}
    statuses = {stored[seen.reply_id].status for seen in log}
    counts = {"clients": len(log), "calls ended early": len(provider.aborted), "s until the last is over": last}
    figures(f"clients reset, on_disconnect={policy}", **counts, **verdict.figures())
    verdict.check()
    if policy == "stop":
        assert (statuses, len(provider.aborted)) == ({"stopped"}, len(log))
        assert last <= scale.of(5, 1)  # in the short form other tests may hold one up
    else:
        assert (statuses, provider.aborted) == ({"completed"}, [])
        assert all(stored[seen.reply_id].content == reply_to(seen.message) for seen in log)


@ON_SQLITE
def test_disconnects_are_detected_while_the_provider_is_silent(
    serve: Serve, provider: Upstream, scale: Scale, figures: Record
) -> None:
    """Waits for pings, which come after five seconds of silence: one finds a reset, two find a closed connection."""
    server = serve()
    with Crowd(server.port) as crowd:
        for number in range(10):
            crowd.ask(f"{number} one two three #fault=hang_after:3#", on_disconnect="stop")
        assert crowd.wait_for_start()
        gone = time.monotonic()
        for number, listener in enumerate(crowd.listeners):
            leave(crowd, listener, reset=number % 2 == 0)
        assert provider.wait_for(lambda provider: not provider.active, 20), "a reply goes on"
    took = [at - gone for at in sorted(provider.aborted)]
    found = {"s until a reset is noticed": took[4], "s until a closed connection is noticed": took[-1]}
    figures("clients go while the provider is silent", **found)
    assert took[4] < scale.of(10.0, 6.5)  # the second ping comes after ten; in the short form other tests hold one up
    assert took[-1] < scale.of(15.0, 12.0)  # the third


def wait_for_final(url: str, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while rows.generating(url) and time.monotonic() < deadline:
        time.sleep(0.05)


@ON_SQLITE
def test_client_that_never_reads_is_disconnected(
    serve: Serve, database_url: str, scale: Scale, figures: Record
) -> None:
    """Waits for the deadline of a write, which is ten seconds."""
    server, deaf = serve(WEB_CONCURRENCY="1"), scale.of(10, 100)
    text = " ".join(["x" * 2000] * 300)
    with Crowd(server.port) as crowd:
        held = [ask_and_read_nothing(server.port, f"{number} {text}") for number in range(deaf)]
        begun = time.monotonic()
        for number in range(20):
            crowd.ask(f"hearing {number} #n=40,r=20,seed={number}#")
        assert crowd.wait_for_end(15), "the others are held up"
        others, log = time.monotonic() - begun, [listener.parsed()[0] for listener in crowd.listeners]
        assert processes.clients(server.port) >= deaf, "everything was taken: nothing was tried"
        while processes.clients(server.port) and time.monotonic() < begun + 30:
            time.sleep(0.1)
        took, left = time.monotonic() - begun, processes.clients(server.port)
    for sock in held:
        sock.close()
    stored = {message.id: message.status for message in rows.read(database_url).messages if message.role == "assistant"}
    figures("clients that never read", clients=deaf, **{"s until they are let go": took, "s of the others": others})
    assert [seen for seen in log if (seen.text, seen.status) != (reply_to(seen.message), "completed")] == []
    assert set(stored.values()) == {"completed"}
    assert left == 0, "a client was not disconnected within 30 s"
    assert not scale.is_long or (others <= 8 and took <= 15)  # the short form shares the machine


def ask_and_read_nothing(port: int, message: str) -> socket.socket:
    """Take a turn on a connection whose buffers hold little, and leave the answer where it is."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    sock.connect(("127.0.0.1", port))
    body = json.dumps({"message": message, "stream": True}).encode()
    sock.sendall(f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return sock


@ON_SQLITE
def test_idle_connections_are_closed(serve: Serve) -> None:
    """Waits a second and a half, the limit in this test; the default is longer than a test may take."""
    server = serve(GUNICORN_CMD_ARGS="--keep-alive=1", WEB_CONCURRENCY="1")
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as sock:
        for _ in range(3):
            sock.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert sock.recv(65536).startswith(b"HTTP/1.1 200"), "it was closed while it was used"
            time.sleep(0.5)
        assert sock.recv(65536) == b""  # it times out after ten seconds
