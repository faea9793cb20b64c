"""A TCP proxy before a MySQL server that can break a connection at a COMMIT.

The client never learns whether it happened: the answer is lost, or the COMMIT itself.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self

COMMIT = b"\x03COMMIT"


class Proxy:
    """Forwards connections to a loopback ``port``. Use it as a context."""

    def __init__(self, port: int) -> None:
        self.losses = 0
        self._target = port
        self._armed = threading.Event()
        self._after, self._arrives = b"", True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def lose_a_commit(self, after: str = "", *, arrives: bool = True) -> None:
        """Drop the next COMMIT of a transaction that has these words, or only its answer if it ``arrives``."""
        self._after, self._arrives = after.encode(), arrives
        self._armed.set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            answers = threading.Thread(target=_pump, args=(server, client), daemon=True)
            answers.start()
            with contextlib.suppress(OSError):
                said = b""
                while chunk := client.recv(65536):
                    said += chunk
                    if chunk.endswith(COMMIT):
                        if self._armed.is_set() and self._after in said:
                            self._lose(client)
                            chunk = chunk if self._arrives else b""
                        said = b""
                    server.sendall(chunk)
            # Wait for the server's answer before closing, so that the COMMIT is executed.
            server.shutdown(socket.SHUT_WR)
            answers.join(5)

    def _lose(self, client: socket.socket) -> None:
        self._armed.clear()
        self.losses += 1
        client.shutdown(socket.SHUT_RDWR)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            with contextlib.suppress(OSError):
                target.sendall(chunk)
        target.shutdown(socket.SHUT_RDWR)
