"""Direct writes to a socket. test_direct.py runs it in a process of its own, because gevent patches everything."""

# ruff: noqa: E402 - gevent patches modules before anything imports them
from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import contextlib
import queue
import socket
import time
import uuid

import gevent

from chatkeep.domain.conversation import Delta
from chatkeep.server.gunicorn_exchange import CorkedSocket
from chatkeep.turns.live import End
from chatkeep.web.direct import DirectEvents
from chatkeep.web.schemas import chat
from chatkeep.web.sse import SSEEncoder


def encoder() -> SSEEncoder:
    return SSEEncoder(chat.Start(uuid.uuid4(), uuid.uuid4(), "m", cached=False), request_id="r")


def begun_stream(sock: socket.socket) -> tuple[DirectEvents, CorkedSocket, SSEEncoder]:
    """Return a stream's events after its head was sent."""
    corked, frames = CorkedSocket(sock), encoder()
    frames.is_begun = True
    corked.sendall(b"head")
    return DirectEvents(corked, frames), corked, frames


def chunk(frame: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(frame), frame)


def slow_client_gets_everything_in_order() -> None:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    # Each 20th is larger than the socket's buffer and comes to a sleeping greenlet: a part of it is written directly.
    deltas = [Delta(f"{number} 你好" * (4000 if number % 20 == 1 else 40)) for number in range(400)]
    events, corked, frames = begun_stream(ours)
    by_greenlet = 0

    def stream() -> None:
        nonlocal by_greenlet
        while not isinstance(event := events.get(timeout=5), End):
            by_greenlet += 1
            corked.sendall(chunk(frames.of(event)))
        corked.sendall(b"0\r\n\r\n")
        corked.uncork()
        ours.shutdown(socket.SHUT_WR)

    def produce() -> None:
        for number, delta in enumerate(deltas):
            events.put(delta)
            if number % 10 == 0:
                gevent.sleep(0.001)
        events.put(End(None))

    greenlets = [gevent.spawn(stream), gevent.spawn(produce)]
    received = b""
    while piece := theirs.recv(16_384):
        received += piece
        gevent.sleep(0.0005)  # slower than the producer
    gevent.joinall(greenlets, raise_error=True)
    expected = encoder()
    assert received == b"head" + b"".join(chunk(expected.of(delta)) for delta in deltas) + b"0\r\n\r\n"
    assert 0 < by_greenlet < len(deltas), by_greenlet  # both ways were used


def silence_raises_empty() -> None:
    ours, _theirs = socket.socketpair()
    events, _, _ = begun_stream(ours)
    try:
        events.get(timeout=0.05)
    except queue.Empty:
        return
    raise AssertionError("get returned an event that was not sent")


def direct_write_postpones_empty() -> None:
    """Otherwise the stream would send pings beside its deltas."""
    ours, _theirs = socket.socketpair()
    events, corked, _ = begun_stream(ours)
    corked.uncork()
    raised_at = 0.0

    def get() -> None:
        nonlocal raised_at
        with contextlib.suppress(queue.Empty):
            events.get(timeout=0.2)
        raised_at = time.monotonic()

    getting = gevent.spawn(get)
    gevent.sleep(0.01)
    written_at = 0.0
    for _ in range(8):
        if getting.ready():
            break
        written_at = time.monotonic()
        events.put(Delta("written"))
        gevent.sleep(0.05)
    getting.get(timeout=5)
    assert raised_at - written_at >= 0.2


def disconnected_client_raises_in_greenlet() -> None:
    ours, theirs = socket.socketpair()
    events, corked, _ = begun_stream(ours)
    corked.uncork()
    getting = gevent.spawn(events.get, timeout=5)
    gevent.sleep(0.01)
    theirs.close()
    events.put(Delta("into the void"))
    getting.join(5)
    assert isinstance(getting.exception, OSError), getting


slow_client_gets_everything_in_order()
silence_raises_empty()
direct_write_postpones_empty()
disconnected_client_raises_in_greenlet()
