"""The path of the data folder is used literally, whatever it means in URLs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chatkeep.config.settings import Settings
from chatkeep.store import migrations
from tests.client import SLOW
from tests.servers import Server, thrown_away

NAMES = [
    "a#b", "100%", "50%25", "a%20b", "%2e%2e", "two words", " led", "数据", "Größe 😀", "a+b&c=d;e", "[x]", "'q'", "~",
    "-x",
]  # fmt: skip
if os.name != "nt":  # its file names lack such characters
    NAMES += ["what?", "a?mode=ro&x#y%3F", "?", 'd"q', "back\\slash", "a\nb"]
    NAMES += ["a@b:c", "file:x", "sqlite:", "a:memory:"]


@pytest.mark.parametrize("name", NAMES)
def test_data_folder_is_created_at_the_configured_path(name: str, tmp_path: Path) -> None:
    settings = Settings.from_env({"CHATKEEP_DATA_DIR": str(tmp_path / name)}, tmp_path)
    migrations.opened(settings.database).close()
    migrations.require_file(settings.database)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "chatkeep.sqlite3").is_file()


@pytest.mark.parametrize("name", [name for name in NAMES if "?" not in name])
def test_database_file_is_created_at_the_configured_path(name: str, tmp_path: Path) -> None:
    settings = Settings.from_env({"DATABASE_URL": f"sqlite:///{(tmp_path / name).as_posix()}"}, tmp_path)
    migrations.opened(settings.database).close()
    assert (tmp_path / name).is_file()


@pytest.mark.parametrize("name", ["数 据#1%20/in", "./a%41", "../%7E?x" if os.name != "nt" else "..\\%7E"])
def test_server_and_commands_resolve_a_relative_path_alike(name: str, tmp_path: Path) -> None:
    """Starts a server and two commands: three seconds."""
    server = Server("waitress", tmp_path / "here", {"CHATKEEP_DATA_DIR": name})
    with thrown_away(server):
        assert (tmp_path / "here" / name / "chatkeep.sqlite3").is_file()
        checks = json.loads(command(server, "doctor", "--json"))["checks"]
        told = {check["check"]: check["status"] for check in checks}
        assert (told["database"], told["data folder"], told["schema"]) == ("ok", "ok", "ok")
        command(server, "backup", "backup.sqlite3")
    assert (tmp_path / "here" / "backup.sqlite3").stat().st_size > 0
    assert {path.name for path in tmp_path.iterdir()} <= {"here", "%7E?x", "%7E"}


def command(server: Server, *arguments: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", "chatkeep", *arguments],
        cwd=server.folder, env=server.environment(), capture_output=True, check=False, timeout=60 * SLOW,
    )  # fmt: skip
    assert b"Traceback" not in done.stderr
    return done.stdout
