"""The image as documented: read-only, without privileges, on fresh volumes, as any user of the group 0."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.containers.engine import LONG, Container, Engine
from tests.http.api import eventually

LOCKED = ("--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")
DATA, SOCKET = "--volume=data:/var/lib/chatkeep", "--volume=socket:/run/chatkeep"
STREAMS = 20


@contextmanager
def serving(engine: Engine, image: str, *options: str) -> Iterator[Container]:
    """Run a server, and wait until it is ready."""
    with engine.container("chatkeep", *LOCKED, DATA, SOCKET, *options, image) as server:
        server.wait_healthy()
        yield server


@pytest.fixture(autouse=True)
def _fresh(engine: Engine) -> Iterator[None]:
    """Give each test fresh volumes."""
    yield
    engine.run("podman", "volume", "prune", "--force")


def socket(engine: Engine) -> str:
    return f"unix:{engine.volume('socket') / 'chatkeep.sock'}"


def completed(server: Container) -> int:
    """Return the number of completed replies."""
    words = server.exec("chatkeep", "stats").stdout.split()
    return int(words[words.index("completed") + 1]) if "completed" in words else 0


@pytest.mark.parametrize("user", ["10001", "70000:0"])
def test_a_locked_server_streams_reloads_stops_and_starts_again(user: str, engine: Engine, image: str) -> None:
    with serving(engine, image, f"--user={user}") as server:
        key = server.key()
        with server.network.streams(socket(engine), key, STREAMS):
            server.signal("HUP")
        assert eventually(server.is_healthy, LONG)
        with server.network.streams(socket(engine), key, STREAMS):
            assert server.stop() == 0
        engine.run("podman", "start", server.name)
        server.wait_healthy()
        assert completed(server) == 2 * STREAMS


def test_commands_work_with_and_without_a_running_server(engine: Engine, image: str) -> None:
    with serving(engine, image) as server:
        server.key()
        for command in ("--version", "doctor", "keys list", "migrate", "stats", "export --format ndjson"):
            engine.once(DATA, SOCKET, image, *command.split())
        looked = json.loads(server.exec("chatkeep", "doctor", "--json").stdout)
    assert looked["ok"]
    assert "permissions" not in {one["check"] for one in looked["checks"] if one["status"] != "ok"}


def test_a_backup_is_restored_into_a_fresh_volume(engine: Engine, image: str) -> None:
    with serving(engine, image) as server:
        key = server.key()
        with server.network.streams(socket(engine), key, 1):
            pass
        server.exec("chatkeep", "backup", "/var/lib/chatkeep/backup.sqlite3")
    backup = engine.volume("data") / "backup.sqlite3"
    fresh = "--volume=fresh:/var/lib/chatkeep"
    mounted = f"--volume={backup}:/backup.sqlite3:ro"
    engine.once(fresh, mounted, image, "restore", "/backup.sqlite3")
    with engine.container("restored", *LOCKED, fresh, SOCKET, image) as server:
        server.wait_healthy()
        assert completed(server) == 1
        assert server.network.get(socket(engine), key, "/api/conversations") == [200]


def test_secrets_come_from_files_that_an_engine_mounts(engine: Engine, image: str, tmp_path: Path) -> None:
    for name, text in (("key", "sk-of-the-file\n"), ("empty", "\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o444)  # like secrets of Docker and podman

    def checked(name: str) -> str:
        mounted = f"--volume={tmp_path / name}:/run/secrets/key:ro"
        done = engine.once(mounted, "-e=OPENAI_API_KEY_FILE=/run/secrets/key", image, "doctor", check=False)
        assert "Traceback" not in done.stderr
        return done.stdout

    assert "the offline demo model answers" not in checked("key")
    assert "/run/secrets/key is empty" in checked("empty")


@pytest.mark.parametrize("command", ["serve", "keys create client", "migrate", "stats", "doctor"])
@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_a_folder_of_another_user_is_a_short_error(
    mode: int, command: str, engine: Engine, image: str, tmp_path: Path
) -> None:
    tmp_path.chmod(mode)
    done = engine.once(f"--volume={tmp_path}:/var/lib/chatkeep", SOCKET, image, *command.split(), check=False)
    assert done.returncode
    assert "Traceback" not in done.stderr
    assert "/var/lib/chatkeep" in done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3, done.stderr


def test_a_user_of_another_group_is_a_short_error(engine: Engine, image: str) -> None:
    done = engine.once("--user=70000:70000", image, check=False)
    assert done.returncode
    assert "/var/lib/chatkeep/.env.production cannot be read: Permission denied" in done.stderr
    assert "Traceback" not in done.stderr
