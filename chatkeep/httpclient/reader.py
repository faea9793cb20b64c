"""Read from sockets in two ways: one thread for each, or all streams of an event loop in one pass.

A stream of tokens is many small reads. Waking a greenlet for each costs more than the read itself, so under gevent one
epoll call finds all readable sockets, which are then read in a row. The journal decides when, so that one transaction
stores everything that has arrived.
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
"""Takes received data, which is empty at the end of the connection. Returns whether no more is wanted."""


class Reader(Protocol):
    """Reads sockets."""

    def pull(self, sock: socket.socket, take: Take) -> None:
        """Pass received data to ``take`` until it returns True. Raises `OSError`, and what ``take`` raises."""


class BlockingReader:
    """Waits for each socket in the calling thread."""

    def pull(self, sock: socket.socket, take: Take) -> None:
        """Pass received data to ``take`` until it returns True. Raises `OSError`, and what ``take`` raises."""
        while not take(sock.recv(READ_SIZE)):
            pass


class EpollReader:
    """Reads all readable sockets in a row when `collect` is called, which ``wake`` asks for.

    If nothing calls it for `PATIENCE_S`, because the database is down, a thread does: a provider that sends must not
    be taken for silent.
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
        """Return whether this process serves from an event loop, on Linux."""
        return on_event_loop() and sys.platform == "linux"

    def pull(self, sock: socket.socket, take: Take) -> None:
        """Pass received data to ``take`` until it returns True. Raises `OSError`, and what ``take`` raises."""
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
        """Read all readable sockets. Return whether there were any; if not, call ``wake`` when there are."""
        self._collected = True
        ready = self._epoll.poll(0)
        for fd, _ in ready:
            if self._pulls[fd].read():
                self._forget(fd)
        # A notification costs more than another poll, which follows anyway once this data is stored.
        if not ready:
            self._watcher.start(self._notice)
        return bool(ready)

    def _notice(self) -> None:
        """Call ``wake``, once for everything that arrives until `collect`."""
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
    """One socket that is being read while its owner sleeps."""

    __slots__ = ("_error", "_fd", "_sock", "_take", "over")

    def __init__(self, sock: socket.socket, take: Take) -> None:
        self.over = event()
        self._sock = sock if isinstance(sock, ssl.SSLSocket) else None
        self._fd = sock.fileno()
        self._take = take
        self._error: Exception | None = None

    def read(self) -> bool:
        """Pass on available data without blocking. Return whether no more is wanted."""
        try:
            over = self._read_tls(self._sock) if self._sock else self._take(os.read(self._fd, READ_SIZE))
        except BlockingIOError:
            return False
        except Exception as error:  # noqa: BLE001 - `check` raises it in the owner
            self._error = error
            over = True
        if over:
            self.over.set()
        return over

    def check(self) -> None:
        """Raise the error of the read or of ``take``, if there was one."""
        if self._error is not None:
            raise self._error

    def _read_tls(self, sock: ssl.SSLSocket) -> bool:
        """Read until nothing is left: epoll does not see data that TLS has already decrypted."""
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
