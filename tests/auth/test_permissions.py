"""Other local users cannot open the server's files, unless the operator allows it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chatkeep.runtime import files
from chatkeep.store import migrations
from tests.auth.keys import Identity
from tests.cli.line import run
from tests.http.api import eventually, unique
from tests.ports import free_port
from tests.servers import COMMANDS, ROOT, Server, thrown_away

pytestmark = pytest.mark.posix("Windows has no modes")
OTHER_USER = 65534
CAT = "/bin/cat"


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes(folder: Path) -> set[tuple[bool, int]]:
    """Return whether each thing below is a folder, and its mode; what is gone meanwhile is left out."""
    return {(path.is_dir(), mode(path)) for path in folder.rglob("*") if path.exists()}


@pytest.mark.parametrize("command", COMMANDS)
def test_server_creates_only_private_files(command: str, tmp_path: Path) -> None:
    """Starts a server on a socket and makes an export: two seconds or more."""
    socket = tmp_path / "chatkeep.sock"
    with umask(0), thrown_away(OnSocket(command, tmp_path, socket)):
        exported = run(tmp_path, "export", "--output=all.json", env={"CHATKEEP_DATA_DIR": str(tmp_path / "data")})
        assert exported.returncode == 0, exported.stderr
        assert mode(socket) == 0o660
        assert mode(tmp_path / "all.json") == 0o600
        assert modes(tmp_path / "data") == {(False, 0o600)}
        assert mode(tmp_path / "data") == 0o700


class OnSocket(Server):
    """A server on a socket, by `chatkeep serve` or `python app.py`."""

    def __init__(self, command: str, folder: Path, socket: Path, **env: str) -> None:
        super().__init__(command, folder, {"HOST": f"unix:{socket}", **env})
        self.socket = socket

    def _arguments(self) -> list[str]:
        served = ["-m", "chatkeep", "serve", f"--server={self.command}"]
        return [str(ROOT / "app.py")] if self.command == "flask" else served

    def _is_up(self) -> bool:
        env = {name: self.env[name] for name in ("HOST", "CHATKEEP_DATA_DIR")}
        return self.socket.exists() and run(self.folder, "health", "--live", env=env).returncode == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_socket_mode_follows_the_setting(command: str, tmp_path: Path) -> None:
    """Starts a server: a second."""
    socket = tmp_path / "chatkeep.sock"
    with thrown_away(OnSocket(command, tmp_path, socket, CHATKEEP_SOCKET_MODE="600")):
        assert mode(socket) == 0o600


@pytest.mark.parametrize("wrong", ["0", "066", "888", "1777", "rw-------"])
def test_invalid_socket_mode_is_refused(wrong: str, tmp_path: Path) -> None:
    done = run(tmp_path, "doctor", env={"CHATKEEP_SOCKET_MODE": wrong})
    assert "CHATKEEP_SOCKET_MODE" in done.stdout
    assert "write a mode such as 600, 660 or 666" in done.stdout


def test_export_files_are_private(caller: Identity) -> None:
    told = caller.chat(unique("hello"))["conversation_id"]
    job = caller.request("POST", "/api/exports", json={"format": "md", "conversation_id": told}).json["id"]
    assert eventually(lambda: caller.get(f"/api/exports/{job}").json["finished_at"])
    data = caller.server.folder / "data"
    assert any(name.name.startswith(job) for name in (data / "exports").iterdir())
    assert modes(data) <= {(True, 0o700), (False, 0o600)}
    assert mode(data) == 0o700


@pytest.mark.parametrize(
    ("before", "after"),
    [(0o644, 0o600), (0o666, 0o660), (0o664, 0o660), (0o660, 0o660), (0o640, 0o640), (0o600, 0o600), (0o604, 0o600)],
)
def test_database_readable_by_others_becomes_private(before: int, after: int, tmp_path: Path) -> None:
    """A group that can write, or a file without rights for others, is the operator's choice and stays."""
    file = tmp_path / "chatkeep.sqlite3"
    file.touch()
    file.chmod(before)
    first = migrations.opened(f"sqlite:///{file}")
    seen = {mode(path) for path in first.files}
    first.close()
    assert seen == {after}


def test_log_readable_by_others_becomes_private(tmp_path: Path) -> None:
    file = tmp_path / "chatkeep.sqlite3"
    before = migrations.opened(f"sqlite:///{file}")
    for path in before.files:
        path.chmod(0o644)
    again = migrations.opened(f"sqlite:///{file}")
    assert [mode(path) for path in again.files] == [0o600] * 3


def test_output_file_replaces_a_file_of_another_user(tmp_path: Path) -> None:
    (tmp_path / "all.json").write_text("old")
    planted = tmp_path / "all.json.part"
    planted.touch(0o666)
    with planted.open() as theirs, files.replacing(tmp_path / "all.json") as file:
        file.write(b"secret")
        file.flush()
        assert theirs.read() == ""
    assert (tmp_path / "all.json").read_text() == "secret"
    assert mode(tmp_path / "all.json") == 0o600


def test_output_to_a_pipe_does_not_replace_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen([CAT, pipe], stdout=subprocess.PIPE)
    with files.replacing(pipe) as file:
        file.write(b"whole")
    assert reader.communicate(timeout=10)[0] == b"whole"
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that lets every user in, as one does that an operator made by hand; pytest's own are private."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="only root can become another user")
def test_another_user_cannot_read_files(open_folder: Path) -> None:
    made = migrations.opened(f"sqlite:///{open_folder}/chatkeep.sqlite3")
    for path in made.files:
        done = subprocess.run(
            [CAT, path], user=OTHER_USER, group=OTHER_USER, extra_groups=[], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert "Permission denied" in done.stderr
    made.close()


def test_doctor_names_files_that_others_can_open(open_folder: Path) -> None:
    """Starts four processes: two seconds."""
    env = {"PORT": str(free_port()), "CHATKEEP_DATA_DIR": str(open_folder / "data")}

    def exposed() -> set[str]:
        done = json.loads(run(open_folder, "doctor", "--json", env=env).stdout)
        return {
            item["advice"] for item in done["checks"] if item["check"] == "permissions" and item["status"] == "warn"
        }

    migrations.opened(f"sqlite:///{open_folder}/data/chatkeep.sqlite3").close()
    assert exposed() == set()
    (open_folder / "data").chmod(0o755)
    file = open_folder / "data" / "chatkeep.sqlite3"
    file.chmod(0o644)
    (open_folder / ".env").write_text("OPENAI_API_KEY=sk-1\n")
    (open_folder / ".env.development").write_text("CHATKEEP_MODEL=m\n")  # no secret
    assert exposed() == {f"run: chmod o-rwx {path}" for path in (open_folder / "data", file, open_folder / ".env")}
    assert mode(file) == 0o644  # it changes nothing
    open_folder.chmod(0o700)
    assert exposed() == set()
