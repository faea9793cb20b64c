"""A program that listens on a port of loopback."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.http.api import eventually
from tests.ports import is_listening

START_S, STOP_S = 60.0, 10.0
NOWHERE = Path(os.devnull)


class Program:
    """A program; use it as a context. What it says goes to the end of ``log``."""

    def __init__(
        self, command: Sequence[str | Path], port: int, url: str, *, log: Path = NOWHERE, env: Mapping[str, str] = {}
    ) -> None:
        self.port = port
        self.url = url
        self._command = command
        self._log = log
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                self._command, env=os.environ | self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._process = process
        listens = eventually(lambda: process.poll() is not None or is_listening(self.port), START_S)
        if not listens or process.poll() is not None:
            self.kill()
            raise RuntimeError(f"{self._command[0]} did not start:\n{self._log.read_text(errors='replace')}")

    def stop(self) -> None:
        """End it and its workers."""
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it at once."""
        if self._process:
            self._process.kill()
            self._process.wait()


def web_address(port: int, *, is_secure: bool = False) -> str:
    """Return the URL of a port; the certificate of tests is for the name localhost."""
    return f"https://localhost:{port}" if is_secure else f"http://127.0.0.1:{port}"
