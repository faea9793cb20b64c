"""Commands create no database by mistake, ask before they erase, and have complete help in both languages."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from chatkeep.errors import SettingsError
from chatkeep.store import migrations
from chatkeep.store.engine import Database
from tests.cli.line import environment, run
from tests.conftest import EMBEDDED_AND_SERVER

IDEOGRAPH = re.compile("[\u4e00-\u9fff]")
KEY = "ck_abcdefgh"
NOT_CREATING = (
    "audit", "audit --check", "clear-cache", "export", "forget --yes 4711", f"keys change {KEY} --name x", "keys list",
    f"keys revoke {KEY}", f"keys rotate {KEY}", "stats", "stats --json", "sweep", "sweep --dry-run",
)  # fmt: skip


@pytest.mark.parametrize("command", NOT_CREATING)
def test_command_on_a_missing_database_creates_nothing(tmp_path: Path, command: str) -> None:
    """Starts a process: half a second."""
    done = run(tmp_path, *command.split(), env={"DATABASE_URL": "sqlite:///typo/chatkeep.sqlite3"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "There is no database at typo/chatkeep.sqlite3. Check DATABASE_URL" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_first_key_creates_the_database(tmp_path: Path) -> None:
    """Starts a process: a second."""
    assert run(tmp_path, "keys", "create", "first", env={"DATABASE_URL": "sqlite:///new/x.db"}).returncode == 0
    assert (tmp_path / "new" / "x.db").exists()


def test_database_without_tables_is_refused_and_not_changed(blank_url: str) -> None:
    Database(blank_url).close()
    with pytest.raises(SettingsError, match=r"There is no database|has no tables"):
        migrations.existing(blank_url)
    database = Database(blank_url)
    assert migrations.schema_of(database).revision is None
    database.close()


@pytest.mark.parametrize("database_url", EMBEDDED_AND_SERVER, indirect=True)
def test_forget_requires_yes_without_a_terminal(database_url: str, tmp_path: Path) -> None:
    """Starts three processes: a second and a half."""
    env = {"DATABASE_URL": database_url}
    refused = run(tmp_path, "forget", "4711", env=env)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "confirm with --yes" in refused.stderr
    assert "请用 --yes 确认" in run(tmp_path, "forget", "4711", env=env | {"LANG": "zh_CN.UTF-8"}).stderr
    assert run(tmp_path, "forget", "4711", "--yes", env=env).stdout.startswith("erased 0 conversations")


@pytest.mark.posix("it needs a terminal of POSIX")
@pytest.mark.parametrize("database_url", EMBEDDED_AND_SERVER, indirect=True)
@pytest.mark.parametrize(
    ("answer", "status", "said"), [("n", 1, "Nothing was erased"), ("", 1, "Nothing was erased"), ("y", 0, "erased 0")]
)
def test_forget_asks_on_a_terminal(database_url: str, tmp_path: Path, answer: str, status: int, said: str) -> None:
    """Starts a process: half a second."""
    ours, theirs = os.openpty()
    os.write(ours, f"{answer}\n".encode())
    command = [sys.executable, "-m", "chatkeep", "forget", "4711"]
    env = environment({"DATABASE_URL": database_url})
    done = subprocess.run(command, cwd=tmp_path, env=env, stdin=theirs, capture_output=True, text=True, check=False)
    os.close(theirs)
    os.close(ours)
    assert done.returncode == status
    assert "Erase all data of 4711 in the account local?" in done.stdout
    assert said in done.stdout + done.stderr


def test_list_of_commands_is_not_truncated(tmp_path: Path) -> None:
    """Starts two processes: a second."""
    for arguments in ([], ["keys"]):
        told = run(tmp_path, *arguments, "--help").stdout
        listed = told.partition("Commands:")[2]
        assert "..." not in listed
        assert len(re.findall(r"^  \w.*?\.$", listed, re.MULTILINE | re.DOTALL)) >= 5


def test_every_command_and_option_has_chinese_help(tmp_path: Path) -> None:
    """Starts a process: half a second."""
    env = environment({"LANG": "zh_CN.UTF-8"})
    command = [sys.executable, "-m", "tests.cli.help_texts"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, encoding="utf-8", check=True)
    said = {path: text for path, text in json.loads(done.stdout.splitlines()[-1]) if text}
    assert len(said) > 40
    assert [path for path, text in said.items() if not all(IDEOGRAPH.search(part) for part in text.split("\n\n"))] == []
