"""A proxy of Node.js's that compresses what it hands on, on loopback: express with its usual middleware."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services import npm

HERE = Path(__file__).parent / "compressing"


@contextmanager
def before(port: int) -> Iterator[str]:
    """Run the proxy before a port of loopback; lends its URL. Raises `npm.Unavailable`."""
    npm.ensure_installed(HERE)
    command: list[str | Path] = [npm.node(), npm.folder(HERE) / "proxy.mjs", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()
