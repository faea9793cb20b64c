"""A process that requests a server's health twenty times a second: ``python -m tests.faults.pulse URL``.

It asks until its standard input is closed, then prints, as JSON, every answer's status and milliseconds. It is a
process of its own so that what the tests' threads do is not measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Self

from tests import client
from tests.servers import ROOT

PERIOD_S = 0.05


class Pulse:
    """Measures inside the context; ``took`` has the milliseconds afterwards."""

    def __init__(self, url: str) -> None:
        self.statuses: list[int] = []
        self.took: list[float] = []
        self._url = url

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.pulse", self._url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        output, _ = self._process.communicate(timeout=40)
        found = json.loads(output)
        self.statuses, self.took = [status for status, _ in found], [took for _, took in found]

    def percentile(self, percent: float) -> float:
        """Return a percentile of the answer times in milliseconds."""
        return sorted(self.took)[int((len(self.took) - 1) * percent / 100)]


def main(url: str) -> None:
    """Send requests until told to stop."""
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    found = []
    while True:
        begun = time.monotonic()
        status = client.request("GET", f"{url}/health").status
        took = time.monotonic() - begun
        found.append((status, took * 1000))
        if ended.wait(max(0, PERIOD_S - took)):
            break
    print(json.dumps(found))  # noqa: T201 - a program


if __name__ == "__main__":
    main(*sys.argv[1:])
