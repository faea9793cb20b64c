"""A throwaway Redis on loopback that stores nothing on disk."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port
from tests.services import debian
from tests.services.program import Program

PACKAGE = "redis-server"
UNUSABLE = {
    "read-only": ("--replicaof", "127.0.0.1 1"),
    "full": ("--maxmemory", "1", "--maxmemory-policy", "noeviction"),
    # By itself the port of a cluster's nodes is 10,000 higher, which may be none.
    "a cluster": ("--cluster-enabled", "yes", "--cluster-port", "{free}"),
}
"""Options of a Redis that answers PING but refuses the commands that chatkeep uses."""


class Unavailable(Exception):
    """Redis is missing and cannot be installed without a password. The message says what was tried."""


class Redis(Program):
    """A running Redis; use it as a context."""

    def __init__(self, *options: str) -> None:
        """``options`` are some of Redis's own, such as ``--cluster-enabled yes``."""
        port = free_port()
        keeping_nothing = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        command = [_program() or PACKAGE, "--port", str(port), *keeping_nothing, *options]
        super().__init__(command, port, f"redis://127.0.0.1:{port}/0")

    def stop(self) -> None:
        """Kill it: it has no data to keep."""
        self.kill()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Stop it for a while. It loses its data."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    def plant(self, command: str, *words: str | bytes) -> None:
        """Run a command."""
        parts = [command.encode(), *(word if isinstance(word, bytes) else word.encode("latin-1") for word in words)]
        sent = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as asked:
            asked.sendall(sent)
            assert asked.recv(1000)[:1] in b"+:"

    def forget(self) -> None:
        """Delete all of its data."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as asked:
            asked.sendall(b"FLUSHALL\r\n")
            assert asked.recv(100) == b"+OK\r\n"


def unusable_redis(kind: str, folder: Path) -> Redis:
    """Return a Redis of one of the kinds in `UNUSABLE`; a cluster keeps its nodes in the folder."""
    ensure_installed()
    options = [option.format(free=free_port()) for option in UNUSABLE[kind]]
    return Redis(*options, "--dir", str(folder))


def ensure_installed() -> None:
    """Install Redis if it is missing. Raises `Unavailable` if that is not possible."""
    with debian.lock():
        if _program():
            return
        tried = debian.install(PACKAGE)
    if not _program():
        raise Unavailable(f"redis-server is not installed, and {tried}")


def _program() -> str | None:
    return shutil.which("redis-server")
