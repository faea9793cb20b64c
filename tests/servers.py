"""Run real chatkeep servers for tests, by each of the three start commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.client import SLOW, request
from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
# gunicorn runs SQLite outside of its event loop and waits for a server in it. For threads the databases are alike, so
# each of those servers has one of them (`test_start` runs every pair).
PAIRS = [("gunicorn", "sqlite"), ("gunicorn", "mariadb"), ("waitress", "mysql"), ("flask", "sqlite")]
if os.name == "nt":
    PAIRS = [("waitress", "sqlite"), ("flask", "sqlite")]
COMMANDS = tuple(dict(PAIRS))
FOR_PRODUCTION = [pair for pair in PAIRS if pair[0] != "flask"]
OURS = ("CHATKEEP_", "OPENAI_", "DATABASE_", "REDIS_URL", "HOST", "PORT", "WEB_CONCURRENCY")
NOT_THEIRS = (*OURS, "PYTHONDONTWRITEBYTECODE")
START = 20.0 * SLOW  # the most seconds until a server answers
STOP = 30.0 * SLOW  # the most seconds of a drain; tests of drains check their time themselves


class Stuck(AssertionError):
    """A server did not stop."""


class Server:
    """A server on a free loopback port. Use it as a context, or `start` and `stop` it.

    ``env`` extends `defaults`. The developer's own settings are not used. The process runs in ``folder``, which has its
    data and its log.
    """

    patience = START

    def __init__(
        self,
        command: str,
        folder: Path,
        env: Mapping[str, str] | None = None,
        *,
        threads: int = 64,
        group: int | None = None,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = command
        self.folder = folder
        self.env = {**self.defaults(), **(env or {})}
        self.threads = threads
        self.group = group
        self.process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<Server {self.command} {self.url}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self.stop()
        else:
            self.kill()
            error.add_note(f"log of {self!r}:\n{self.log()}")

    def defaults(self) -> dict[str, str]:
        """The variables of every server: its address and its data folder."""
        return {
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "CHATKEEP_ENV": "test",
            "CHATKEEP_CACHE_SIZE": "0",  # tests repeat questions; those of the cache turn it on
            "CHATKEEP_DATA_DIR": str(self.folder / "data"),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }

    def environment(self) -> dict[str, str]:
        """The environment of the process: the tests' own without settings of chatkeep, and `env`.

        It may keep what Python compiles, as a server of users does, whatever the developer's shell says: compiling
        everything anew would be a third of each start.
        """
        return {name: value for name, value in os.environ.items() if not name.startswith(NOT_THEIRS)} | self.env

    @property
    def pid(self) -> int:
        """The id of the started process."""
        assert self.process, "the server was not started"
        return self.process.pid

    def worker_pids(self) -> list[int]:
        """The ids of the processes that answer: gunicorn's workers, or the server's only process."""
        if self.command != "gunicorn":
            return [self.pid]
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii").split()
        return [int(pid) for pid in children]

    def start(self) -> None:
        """Start the server and wait until it answers."""
        if os.name == "nt" and self.command == "gunicorn":
            pytest.skip("there is no gunicorn on Windows")
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self._arguments()],
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                group=self.group,
                start_new_session=True,  # its own process group, so that `kill` reaches exactly its workers
            )
        self._wait_until_up()

    def stop(self) -> int:
        """Stop the server and return its exit status. Raises `Stuck` after `STOP` seconds."""
        assert self.process, "the server was not started"
        self.process.terminate()
        return self.wait()

    def wait(self, seconds: float = STOP) -> int:
        """Return the exit status of a stopping server. Kills it and raises `Stuck` if it does not end."""
        assert self.process, "the server was not started"
        try:
            status = self.process.wait(seconds)
            if os.name == "posix" and _group_lives(self.process.pid):
                raise Stuck(f"{self!r} ended and left processes:\n{self.log()}")
        except subprocess.TimeoutExpired:
            raise Stuck(f"{self!r} did not end within {seconds} s:\n{self.log()}") from None
        finally:
            self.kill()
        return status

    def kill(self) -> None:
        """Kill all processes of the server at once, like a power failure."""
        assert self.process, "the server was not started"
        if os.name == "nt":
            self.process.kill()
        else:
            _kill_group(self.process.pid)
        self.process.wait()

    def log(self) -> str:
        """Return the server's output."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    @property
    def _log(self) -> Path:
        return self.folder / "server.log"

    def _arguments(self) -> list[str]:
        place = [f"--host={self.env['HOST']}", f"--port={self.port}", f"--threads={self.threads}"]
        return {
            "gunicorn": ["-m", "gunicorn", "-c", str(ROOT / "gunicorn_conf.py"), "app:app"],
            "waitress": ["-m", "waitress", *place, "app:app"],
            "flask": [str(ROOT / "app.py")],
        }[self.command]

    def _wait_until_up(self) -> None:
        assert self.process
        deadline = time.monotonic() + self.patience
        while not self._is_up():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self!r} did not start:\n{self.log()}")
            time.sleep(0.02)

    def _is_up(self) -> bool:
        try:
            return request("GET", f"{self.url}/health/live", timeout=2).status == 200
        except OSError:
            return False


@contextmanager
def thrown_away(server: Server) -> Iterator[Server]:
    """Run a server and kill it at the end, because even an empty drain takes a second or two."""
    server.start()
    try:
        yield server
    finally:
        server.kill()


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
