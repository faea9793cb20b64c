"""Run commands of chatkeep in one process of the Windows Python, which takes seconds to start. Prints JSON lines.

The arguments are a folder and a port that another program holds.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import sys
from pathlib import Path

from chatkeep.cli import main
from chatkeep.server import listening

NAME = "ü 密钥 😀"


def run(name: str, *arguments: str, **env: str) -> None:
    """Run a command, and print its status and the bytes of both redirected outputs."""
    os.environ.update(env)
    out, err = (io.TextIOWrapper(io.BytesIO(), "cp1252") for _ in range(2))
    status: object = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(list(arguments))
        except SystemExit as end:
            status = end.code
        out.flush()
        err.flush()
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]
    sys.stdout.write(json.dumps({"name": name, "status": status, "out": texts[0], "err": texts[1]}) + "\n")
    for variable in env:
        del os.environ[variable]


def taken(port: int) -> None:
    """Print whether two sockets can share an address, for each way to bind the second."""
    found = []
    with listening.listen("127.0.0.1", port) as mine:
        for take in (listening.take_alone, lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)):
            with socket.socket() as other:
                take(other)
                try:
                    other.bind(mine.getsockname())
                    found.append("shared")
                except OSError:
                    found.append("refused")
    sys.stdout.write(json.dumps({"name": "alone", "status": 0, "out": found, "err": ""}) + "\n")


def walk(folder: Path, port: str) -> None:
    """Run everything."""
    os.environ["CHATKEEP_DATA_DIR"] = str(folder / "data")
    run("create", "keys", "create", NAME)
    run("list", "keys", "list")
    held = folder / "held.json"
    with held.open("w"):
        run("export", "export", f"--output={held}")
    run("doctor", "doctor")
    run("socket", "serve", HOST="unix:C:/x.sock")
    run("port", "serve", "--server", "development", HOST="127.0.0.1", PORT=port)
    run("waitress", "serve", "--server", "waitress", HOST="127.0.0.1", PORT=port)
    run("chinese", "keys", "--help")
    taken(0)


if __name__ == "__main__":
    for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):  # which Windows does not set
        os.environ.pop(variable, None)
    walk(Path(sys.argv[1]), sys.argv[2])
