"""gunicorn's gevent worker with a drain that loses nothing; imported by gunicorn alone.

On SIGTERM (a restart, a reload's old workers, a deploy) a worker takes no new connections, closes idle ones, and stays
until its replies are whole. At the drain's deadline it stores what there is and tells the followers.
"""

from __future__ import annotations

import gc
import math
import resource
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import gevent
from gunicorn.workers.ggevent import GeventWorker

from chatkeep.settings import Settings
from chatkeep.web.parts import Parts, parts_of

LOOK_S = 0.2
# How many objects more there are before Python looks for cycles among the young, the middle-aged and the old. There are
# hardly any cycles here, and a stream is a hundred objects that are looked through in vain.
GARBAGE = (20_000, 20, 50)


class Corked:
    """The socket of one request: the head of its response leaves together with the first piece of the body.

    Each of them alone is a packet, and a system call that costs more than making the response's bytes. Whatever else
    is asked of the socket lets go first what is held.
    """

    __slots__ = ("_held", "_socket", "_to_hold")

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._held = b""
        self._to_hold = 1.0  # pieces

    def sendall(self, data: bytes) -> None:
        """Hold the first piece, which is the head; send others together with what is held."""
        self._held = self._held + data if self._held else data
        if self._to_hold:
            self._to_hold -= 1
        else:
            self.uncork()

    def cork(self) -> None:
        """Hold all that comes: it is the end of the response."""
        self._to_hold = math.inf

    def uncork(self) -> None:
        """Send what is held."""
        held, self._held = self._held, b""
        if held:
            # gevent's own sendall asks the kernel for the size of its buffer every time.
            sent = self._socket.send(held)
            if sent < len(held):
                self._socket.sendall(held[sent:])

    def __getattr__(self, name: str) -> Any:
        self.uncork()
        return getattr(self._socket, name)


class DrainingWorker(GeventWorker):  # type: ignore[misc]  # gunicorn ships no types
    """A gevent worker that drains."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._idle: dict[gevent.Greenlet, gevent.Timeout] = {}
        self._patience = Settings.from_env().drain_timeout

    def run(self) -> None:
        """Serve until told to stop, then until nothing is open."""
        parts = parts_of(self.wsgi)
        # What is there now stays: looking through it again and again would stop all streams for that long.
        gc.freeze()
        gc.set_threshold(*GARBAGE)
        gevent.spawn(self._drain, parts)
        super().run()
        # What is left has no client any more, and is finished and stored for those who come back.
        deadline = time.monotonic() + self._patience
        while parts.turns.live and time.monotonic() < deadline:
            self.notify()
            gevent.sleep(LOOK_S)
        parts.close()

    def init_process(self) -> None:
        """Hear SIGTERM from the first moment on, and take as many open files as there may be: a stream needs two."""
        # gunicorn itself begins to listen only when it has patched everything, some tenths of a second later. A SIGTERM
        # of before is lost in what the fork left of the master's handler, and the master waits for the whole drain.
        signal.signal(signal.SIGTERM, self.handle_exit)
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        super().init_process()

    @contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """Wait for a connection's next request, and remember that the connection is idle meanwhile."""
        waiting, current = gevent.Timeout(self.cfg.keepalive, False), gevent.getcurrent()  # noqa: FBT003 - gevent's
        self._idle[current] = waiting
        try:
            with waiting:
                yield
        finally:
            self._idle.pop(current, None)

    def handle_request(self, listener_name: Any, req: Any, sock: socket.socket, addr: Any) -> None:
        """Answer one request."""
        if self.cfg.is_ssl:
            super().handle_request(listener_name, req, sock, addr)
            return
        corked = Corked(sock)
        try:
            super().handle_request(listener_name, req, corked, addr)
        finally:
            corked.uncork()

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - gunicorn's signature
        """Stop at once, with what there is of the replies stored."""
        self._patience = 0
        self.alive = False

    def _drain(self, parts: Parts) -> None:
        """Wait for the end of service; then let others make exports, close what is idle, and at last end what runs."""
        while self.alive:
            gevent.sleep(LOOK_S)
        gevent.spawn(parts.maker.close)
        begun = time.monotonic()
        while True:
            for greenlet, waiting in list(self._idle.items()):
                greenlet.throw(waiting)
            if time.monotonic() - begun >= self._patience:
                parts.turns.interrupt_all()
            gevent.sleep(LOOK_S)
