"""Two ways to take what arrives at sockets: in a thread for each, or for all streams of an event loop at once.

A stream of tokens is many small reads. Where a greenlet waits for each of them, waking it costs more than reading; so
under gevent one look at a kernel's own list (epoll) finds all sockets that something has arrived at, and reads them in
a row. Whoever stores what arrives decides when to look, so that one transaction takes all that there is.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from chatkeep.runtime.concurrency import background, event, on_event_loop

READ_SIZE = 16 * 1024
PATIENCE_S = 0.5
Take = Callable[[bytes], bool]
"""Takes what has arrived, nothing at the connection's end; returns whether that was all that was wanted."""


class Reader(Protocol):
    """How what arrives at a socket is taken."""

    def pull(self, sock: socket.socket, take: Take) -> None:
        """Hand to ``take`` whatever arrives, until it has all; raise what it raises, and `OSError`."""


class BlockingReader:
    """Every socket is waited for by the thread that pulls."""

    def pull(self, sock: socket.socket, take: Take) -> None:
        """Hand to ``take`` whatever arrives, until it has all; raise what it raises, and `OSError`."""
        while not take(sock.recv(READ_SIZE)):
            pass


class EpollReader:
    """All sockets are read in a row, when `collect` is called: soon after ``wake`` was.

    Where nobody collects for `PATIENCE_S`, because the database is away, it is done all the same: a provider that
    sends is not silent.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        gevent: Any = sys.modules["gevent"]
        self._wake = wake
        self._epoll = gevent.monkey.get_original("select", "epoll")()
        self._pulls: dict[int, _Pull] = {}
        self._watcher = gevent.get_hub().loop.io(self._epoll.fileno(), 1)
        self._watcher.start(self._notice)
        self._collected = False
        background(self._collect_late, name="late arrivals")

    @staticmethod
    def is_possible() -> bool:
        """Return whether this process serves from an event loop on a system with epoll."""
        return on_event_loop() and sys.platform == "linux"

    def pull(self, sock: socket.socket, take: Take) -> None:
        """Hand to ``take`` whatever arrives, until it has all; raise what it raises, and `OSError`."""
        pull = _Pull(sock, take)
        if not pull.read():
            fd = sock.fileno()
            self._pulls[fd] = pull
            self._epoll.register(fd, 1)
            try:
                pull.over.wait()
            finally:
                self._forget(fd)
        pull.check()

    def collect(self) -> bool:
        """Read all sockets that something has arrived at; where there are none, call ``wake`` when there are.

        Returns whether there were any.
        """
        self._collected = True
        ready = self._epoll.poll(0)
        for fd, _ in ready:
            if self._pulls[fd].read():
                self._forget(fd)
        # Being told costs more than looking again, which whoever stores what was read does anyway.
        if not ready:
            self._watcher.start(self._notice)
        return bool(ready)

    def _notice(self) -> None:
        """Ask for a look, once for all that arrives until then."""
        self._watcher.stop()
        self._wake()

    def _collect_late(self) -> None:
        while True:
            time.sleep(PATIENCE_S)
            if not self._collected:
                self.collect()
            self._collected = False

    def _forget(self, fd: int) -> None:
        if self._pulls.pop(fd, None):
            self._epoll.unregister(fd)


class _Pull:
    """One socket that is being read; its owner sleeps meanwhile."""

    __slots__ = ("_error", "_fd", "_sock", "_take", "over")

    def __init__(self, sock: socket.socket, take: Take) -> None:
        self.over = event()
        self._sock = sock if isinstance(sock, ssl.SSLSocket) else None
        self._fd = sock.fileno()
        self._take = take
        self._error: Exception | None = None

    def read(self) -> bool:
        """Hand on what is there without waiting; return whether that was all that was wanted."""
        try:
            over = self._read_tls(self._sock) if self._sock else self._take(os.read(self._fd, READ_SIZE))
        except BlockingIOError:
            return False
        except Exception as error:  # noqa: BLE001 - raised where the socket is waited for
            self._error = error
            over = True
        if over:
            self.over.set()
        return over

    def check(self) -> None:
        """Raise what reading or taking has raised."""
        if self._error is not None:
            raise self._error

    def _read_tls(self, sock: ssl.SSLSocket) -> bool:
        """Read until nothing is left: what TLS has decrypted already, epoll does not see."""
        return any(map(self._take, _decrypted(sock)))


def _decrypted(sock: ssl.SSLSocket) -> Iterator[bytes]:
    sock.settimeout(0)
    try:
        with contextlib.suppress(ssl.SSLWantReadError):
            while data := sock.recv(READ_SIZE):
                yield data
            yield b""
    finally:
        sock.settimeout(None)
