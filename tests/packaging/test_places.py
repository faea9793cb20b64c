"""A server that can't listen at its address says why, in one sentence and before anything else."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatkeep.config.settings import Settings
from chatkeep.errors import SettingsError
from chatkeep.server import listening
from tests.servers import ROOT, Server

COMMANDS = {
    "serve with gunicorn": ["-m", "chatkeep", "serve", "--server", "gunicorn"],
    "serve with waitress": ["-m", "chatkeep", "serve", "--server", "waitress"],
    "serve for development": ["-m", "chatkeep", "serve", "--server", "development"],
    "gunicorn": ["-m", "gunicorn", "-c", str(ROOT / "gunicorn_conf.py"), "app:app"],
    "waitress": ["-m", "waitress", "--host=127.0.0.1", "--port={port}", "app:app"],
    "app.py": [str(ROOT / "app.py")],
}
if os.name == "nt":
    COMMANDS = {name: command for name, command in COMMANDS.items() if "gunicorn" not in name}


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize(("language", "words"), [("C", "another program listens"), ("zh_CN.UTF-8", "其他程序占用")])
def test_a_port_in_use_is_reported_in_one_sentence(
    taken: int, command: list[str], language: str, words: str, tmp_path: Path
) -> None:
    """Starts a process: a second."""
    server = Server("flask", tmp_path, {"PORT": str(taken), "LC_ALL": language, "PYTHONUTF8": "1"})
    done = subprocess.run(
        [sys.executable, *(word.format(port=taken) for word in command)],
        cwd=tmp_path, env=server.environment(), capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    said = done.stderr.decode() + done.stdout.decode()
    assert done.returncode == 2, said
    assert said.count(f"PORT={taken + 1}") == 1, said
    assert words in said
    assert "serves on" not in said
    assert "Traceback" not in said
    assert len(said.splitlines()) <= 4, said  # gunicorn and the demo model's notice add a line each
    # The command of Waitress imports the application first.
    assert (tmp_path / "data").exists() == ("waitress" in command[:2]), "files were created before the port was checked"


def test_an_address_cannot_be_shared() -> None:
    with listening.listen("127.0.0.1", 0) as first, pytest.raises(OSError, match="in use") as raised:
        listening.listen(*first.getsockname())
    assert listening.reason(raised.value, "127.0.0.1", 5010).startswith("PORT: another program listens on")


def wrong(host: str) -> str:
    with pytest.raises(SettingsError) as raised:
        listening.require_place(Settings.from_env({"HOST": host, "PORT": "5010"}, ROOT / "nowhere"))
    (told,) = raised.value.problems
    return told


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "2001:db8::1"])
def test_an_address_of_another_machine_is_named(host: str) -> None:
    advice = "to serve only this machine, set HOST=127.0.0.1"
    assert wrong(host) == f"HOST: {host} is not an address of this machine; {advice}"


@pytest.mark.posix("Windows has no such sockets")
def test_a_path_at_which_no_socket_can_be_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert wrong("unix:file") == "HOST: file exists and is not a socket; choose another path"
    assert wrong("unix:nowhere/a.sock").startswith("HOST: the folder of nowhere/a.sock does not exist")
    assert wrong("unix:" + "x" * 108).endswith(" is longer than 107 bytes; choose a shorter path")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind("live")
        other.listen()
        assert wrong("unix:live") == "HOST: another program listens on live; stop it, or choose another path"
    # The socket file of a killed server is no obstacle.
    listening.require_place(Settings.from_env({"HOST": "unix:live"}, ROOT / "nowhere"))
