"""Start a server with the demo model and let schemathesis try it against its own OpenAPI document: `./dev schema`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.servers import Server


def main(*arguments: str) -> int:
    """Run `schemathesis run` with the arguments and return its exit status."""
    with tempfile.TemporaryDirectory() as folder, Server("waitress", Path(folder)) as server:
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--max-time=60"]
        return subprocess.run([*command, *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
