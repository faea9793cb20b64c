"""Write a stream's deltas directly to its socket on a server with an event loop.

Waking a greenlet for every token costs more than sending the token: about 10 % in `./dev bench stream`. So while a
stream's greenlet waits for the next event, the producer of a delta writes it to the socket. The greenlet wakes up for
slow or disconnected clients, for pings, and for the end.
"""

from __future__ import annotations

import os
import queue
import time
from typing import Any, Protocol

from flask import request

from chatkeep.domain.conversation import Delta
from chatkeep.runtime.concurrency import event as new_event
from chatkeep.turns.live import End, Events
from chatkeep.web.sse import SSEEncoder


def events(encoder: SSEEncoder) -> Events | None:
    """Return an event queue that writes directly to this request's socket, or None if the server doesn't support it."""
    sock: Any = request.environ.get("gunicorn.socket")
    # HTTP/1.0 has no chunked coding (RFC 9112 §7.1).
    if not getattr(sock, "is_plain", False) or request.environ["SERVER_PROTOCOL"] != "HTTP/1.1":
        return None
    return DirectEvents(sock, encoder)


class CorkedSocket(Protocol):
    """The socket that `chatkeep.server.gunicorn_exchange` gives a request."""

    def fileno(self) -> int:
        """Return the non-blocking file descriptor."""

    def sendall(self, data: bytes) -> None:
        """Send the data; block until it is sent."""

    def cork(self) -> None:
        """Buffer all data until the response ends."""


class DirectEvents:
    """The event queue of one stream; it is not thread-safe, because it serves one event loop.

    A delta bypasses the greenlet only while the greenlet sleeps in `get` after the stream has begun: then all data
    before it has been sent, and the file descriptor is open.
    """

    __slots__ = ("_awake", "_encoder", "_fd", "_is_sleeping", "_sent_at", "_socket", "_unsent", "_waiting")

    def __init__(self, sock: CorkedSocket, encoder: SSEEncoder) -> None:
        self._socket = sock
        self._fd = sock.fileno()
        self._encoder = encoder
        self._waiting: list[Delta | End] = []
        self._awake = new_event()  # gevent's queue takes 2 KiB
        self._is_sleeping = False
        self._unsent = b""
        self._sent_at = 0.0

    def put(self, event: Delta | End) -> None:
        """Write a delta to the socket if possible; otherwise queue the event and wake the stream's greenlet."""
        if self._is_sleeping and isinstance(event, Delta):
            self._write(event)
        else:
            self._waiting.append(event)
            self._wake()

    def get(self, *, timeout: float) -> Delta | End:
        """Return the next event that was not written directly.

        Raises `queue.Empty` if nothing was sent for ``timeout`` seconds, and `OSError` if the client is gone or too
        slow for the socket's timeout.
        """
        self._sent_at = time.monotonic()
        while True:
            unsent, self._unsent = self._unsent, b""
            if unsent:
                self._socket.sendall(unsent)
            if self._waiting:
                break
            self._sleep(self._sent_at + timeout - time.monotonic())
        event = self._waiting.pop(0)
        if isinstance(event, End):
            self._socket.cork()
        return event

    def _sleep(self, seconds: float) -> None:
        if seconds <= 0:
            raise queue.Empty
        self._awake.clear()
        self._is_sleeping = self._encoder.is_begun
        try:
            self._awake.wait(seconds)
        finally:
            self._is_sleeping = False

    def _wake(self) -> None:
        self._is_sleeping = False
        self._awake.set()

    def _write(self, delta: Delta) -> None:
        frame = self._encoder.of(delta)
        chunk = b"%x\r\n%b\r\n" % (len(frame), frame)
        try:
            sent = os.write(self._fd, chunk)
        except OSError:
            sent = 0  # the greenlet's own sendall raises it again
        self._sent_at = time.monotonic()
        if sent < len(chunk):
            self._unsent = chunk[sent:]
            self._wake()
