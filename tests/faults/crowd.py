"""Many concurrent streams, read by one thread that keeps every byte."""

from __future__ import annotations

import http.client
import io
import json
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from tests.client import Stream
from tests.faults.log import Seen

HEAD = "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@dataclass(slots=True, eq=False)
class Listener:
    """One stream; ``seen`` is its parsed content."""

    message: str
    sock: socket.socket
    raw: bytearray = field(default_factory=bytearray)
    is_closed: bool = False
    heard: float = 0.0
    """The time of its last bytes (`time.monotonic`)."""

    @property
    def has_started(self) -> bool:
        return b"event: start" in self.raw

    @property
    def has_ended(self) -> bool:
        return self.is_closed or self.raw.endswith(b"\r\n0\r\n\r\n")

    def makefile(self, _mode: str) -> io.BytesIO:
        """Act as the socket of an `http.client.HTTPResponse`."""
        return io.BytesIO(self.raw)

    def parsed(self) -> tuple[Seen, Stream]:
        """Return the parsed content and the stream."""
        response = http.client.HTTPResponse(self)  # type: ignore[arg-type]
        response.begin()
        stream, seen = Stream(http.client.HTTPConnection("recorded.invalid"), response), Seen(self.message)
        seen.read(stream)
        return seen, stream


class Crowd:
    """Clients of one server; use it as a context manager. ``stays`` keeps their connections open."""

    def __init__(self, port: int, *, stays: bool = False, headers: str = "") -> None:
        self.listeners: list[Listener] = []
        self._address = ("127.0.0.1", port)
        self._selector = selectors.DefaultSelector()
        self._headers = headers if stays else f"{headers}Connection: close\r\n"
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closed = True
        self._thread.join()
        for listener in self.listeners:
            listener.sock.close()
        self._selector.close()

    def ask(self, message: str, **fields: Any) -> Listener:
        """Take a turn whose answer is streamed."""
        body = json.dumps({"message": message, "stream": True, **fields}).encode()
        head = f"{HEAD}Content-Length: {len(body)}"
        sock = socket.create_connection(self._address)
        sock.sendall(f"{head}\r\n{self._headers}\r\n".encode() + body)
        listener = Listener(message, sock)
        self.listeners.append(listener)
        self._selector.register(sock, selectors.EVENT_READ, listener)
        return listener

    def forget(self, listener: Listener) -> None:
        """Stop reading a stream. The caller closes it."""
        with self._lock:
            if not listener.is_closed:
                self._selector.unregister(listener.sock)
            listener.is_closed = True

    def wait(self, condition: Callable[[Listener], bool], seconds: float) -> bool:
        """Return whether the condition becomes true for every stream within ``seconds``."""
        deadline = time.monotonic() + seconds
        while not all(condition(listener) for listener in self.listeners):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def wait_for_start(self, seconds: float = 30) -> bool:
        return self.wait(lambda listener: listener.has_started, seconds)

    def wait_for_end(self, seconds: float = 60) -> bool:
        return self.wait(lambda listener: listener.has_ended, seconds)

    @property
    def heard(self) -> float:
        """The time of the last bytes of all streams (`time.monotonic`)."""
        return max(listener.heard for listener in self.listeners)

    def _read(self) -> None:
        while not self._closed:
            for key, _ in self._selector.select(0.1):
                with self._lock:
                    self._take(key.data)

    def _take(self, listener: Listener) -> None:
        if listener.is_closed:
            return
        try:
            piece = listener.sock.recv(65536)
        except OSError:
            piece = b""
        listener.raw += piece
        if piece:
            listener.heard = time.monotonic()
        else:
            self._selector.unregister(listener.sock)
            listener.is_closed = True
