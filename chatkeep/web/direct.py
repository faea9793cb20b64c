"""A stream's deltas straight to its socket, where the server has an event loop.

A greenlet that wakes up for every token costs more than sending the token. So while a stream's greenlet waits for the
next event, whoever brings a delta renders and sends it; the greenlet wakes up for what takes waiting: a client that is
slow or gone, silence, and the end.
"""

from __future__ import annotations

import os
import queue
import time
from typing import Any, Protocol

from flask import request

from chatkeep.domain.conversation import Delta
from chatkeep.runtime.concurrency import event as new_event
from chatkeep.turns.live import PING_S, End, Events
from chatkeep.web.sse import SSEEncoder

# A stream that lasts this long is left by its greenlet: that costs 0.1 ms once, and saves 12 KiB as long as it goes on.
LASTS_S = 0.5


def events(frames: SSEEncoder) -> Events | None:
    """Return where this request's stream takes its events; None where its server has another way."""
    sock: Any = request.environ.get("gunicorn.socket")
    # HTTP/1.0 knows no chunks (RFC 9112 §7.1).
    if not getattr(sock, "is_plain", False) or request.environ["SERVER_PROTOCOL"] != "HTTP/1.1":
        return None
    return DirectEvents(sock, frames)


class Corked(Protocol):
    """The socket that our gunicorn worker gives a request."""

    heard: float
    """When something was sent straight to the file descriptor (`time.monotonic`); long silences end in `resume`."""

    def fileno(self) -> int:
        """Return the file descriptor, which does not block."""

    def sendall(self, data: bytes) -> None:
        """Send, however long that takes."""

    def cork(self) -> None:
        """Hold all that comes until the response ends."""

    def leave(self) -> bool:
        """Let the stream's greenlet end with its next piece, which is empty; return False where it cannot."""

    def resume(self) -> None:
        """Have the stream gone on with in another greenlet, if it was left."""


class DirectEvents:
    """The events of one stream; it runs on one event loop, so nothing comes between two of its lines.

    Deltas are sent only while the stream's greenlet sleeps in `get`, and the beginning of the stream has been sent:
    then so has all that came before.
    """

    __slots__ = ("_awake", "_begun", "_fd", "_frames", "_sleeps", "_socket", "_unsent", "_waiting")

    def __init__(self, sock: Corked, frames: SSEEncoder) -> None:
        self._socket = sock
        self._fd = sock.fileno()  # not closed while the stream's greenlet sleeps
        self._frames = frames
        self._waiting: list[Delta | End] = []
        self._awake = new_event()  # a queue of gevent's takes two KiB
        self._sleeps = False
        self._unsent = b""
        self._begun = time.monotonic()

    def put(self, event: Delta | End) -> None:
        """Send a delta if that can be done now; otherwise wake the stream's greenlet."""
        if self._sleeps and isinstance(event, Delta):
            self._send(event)
        else:
            self._waiting.append(event)
            self._wake()

    def get(self, *, timeout: float) -> Delta | End:
        """Return the next event that was not sent; raise `queue.Empty` after ``timeout`` seconds without any.

        Where the greenlet may leave the stream meanwhile it is raised at once, and the stream's frames are told.
        Raises `OSError` where the client is gone, or reads nothing for as long as its socket's timeout.
        """
        self._sleeps = False
        was_left, self._frames.is_left = self._frames.is_left, False
        if not was_left:
            self._socket.heard = time.monotonic()
        while True:
            unsent, self._unsent = self._unsent, b""
            if unsent:
                self._socket.sendall(unsent)
            if self._waiting:
                break
            self._rest(self._socket.heard + timeout - time.monotonic(), may_leave=timeout >= PING_S)
        event = self._waiting.pop(0)
        if isinstance(event, End):
            self._socket.cork()
        return event

    def _rest(self, seconds: float, *, may_leave: bool) -> None:
        """Wait until something comes, or leave the stream; raise `queue.Empty` then and where no time is left."""
        if seconds <= 0:
            raise queue.Empty
        stays = self._begun + LASTS_S - time.monotonic()
        if may_leave and self._frames.is_begun and stays <= 0 and self._socket.leave():
            self._sleeps = self._frames.is_left = True
            raise queue.Empty
        self._awake.clear()
        self._sleeps = self._frames.is_begun
        try:
            self._awake.wait(min(seconds, stays) if stays > 0 else seconds)
        finally:
            self._sleeps = False

    def _wake(self) -> None:
        self._sleeps = False
        self._awake.set()
        self._socket.resume()

    def _send(self, delta: Delta) -> None:
        frame = self._frames.of(delta)
        chunk = b"%x\r\n%b\r\n" % (len(frame), frame)
        try:
            sent = os.write(self._fd, chunk)
        except OSError:
            sent = 0  # whatever it is, the stream's greenlet meets it again
        self._socket.heard = time.monotonic()
        if sent < len(chunk):
            self._unsent = chunk[sent:]
            self._wake()
