"""Output survives every encoding, and files appear only when they are complete."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chatkeep.runtime import files
from tests.cli.line import environment, run

# The code pages of a western and of a Chinese Windows: each lacks characters that the other has, and both an emoji.
CODE_PAGES = ("cp1252", "cp936")
NAME = "ü 密钥 😀"
OPEN_WEBUI = [{"id": "1", "chat": {"title": NAME, "history": {"messages": {}, "currentId": None}}}]


def said(folder: Path, code_page: str, *arguments: str) -> str:
    """Return what a command that succeeds writes to both outputs, of which neither is a terminal."""
    env = environment({"PYTHONIOENCODING": code_page, "LC_ALL": "zh_CN.UTF-8"})
    done = subprocess.run(
        [sys.executable, "-m", "chatkeep", *arguments],
        cwd=folder,
        env=env,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return (done.stdout + done.stderr).decode(code_page)


def escaped(text: str, code_page: str) -> str:
    return text.encode(code_page, "backslashreplace").decode(code_page)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database that holds a key."""
    made = tmp_path_factory.mktemp("output")
    assert run(made, "keys", "create", NAME).returncode == 0
    return made


@pytest.mark.parametrize("code_page", CODE_PAGES)
def test_names_outside_the_code_page_are_escaped(folder: Path, code_page: str) -> None:
    """Starts a process: half a second."""
    assert escaped(NAME, code_page) in said(folder, code_page, "keys", "list")


@pytest.mark.parametrize("code_page", CODE_PAGES)
def test_help_is_printed_in_any_code_page(folder: Path, code_page: str) -> None:
    """Starts a process: half a second."""
    assert escaped("把 SQLite 数据库备份到", code_page) in said(folder, code_page, "backup", "--help")


@pytest.mark.parametrize("code_page", CODE_PAGES)
def test_json_stays_valid_in_any_code_page(folder: Path, code_page: str) -> None:
    """Starts a process: half a second."""
    found = json.loads(said(folder, code_page, "doctor", "--json"))
    assert any("未找到" in check["detail"] for check in found["checks"])


def test_import_reports_a_file_with_any_name(folder: Path) -> None:
    """Starts a process: half a second."""
    file = folder / f"{NAME}.json"
    file.write_text(json.dumps(OPEN_WEBUI), encoding="utf-8")
    assert escaped(f"{NAME}.json", "cp1252") in said(folder, "cp1252", "import", file.name)


@pytest.mark.posix("names of files are text there")
def test_file_name_that_is_not_unicode_is_shown(folder: Path) -> None:
    """Starts a process: half a second."""
    name = b"\xff.json"
    (folder / os.fsdecode(name)).write_text(json.dumps(OPEN_WEBUI), encoding="utf-8")
    done = run(folder, "import", os.fsdecode(name))
    assert (done.returncode, done.stdout.partition(":")[0]) == (0, "\\udcff.json")


@pytest.mark.parametrize("command", ["export", "audit"])
@pytest.mark.parametrize(
    "output", ["nowhere/made.json", pytest.param("/dev/full", marks=pytest.mark.posix("Windows has no such device"))]
)
def test_unwritable_output_is_explained_in_one_sentence(folder: Path, command: str, output: str) -> None:
    """Starts a process: half a second."""
    before = sorted(folder.iterdir())
    done = run(folder, command, f"--output={output}", env={"LC_ALL": "C"})
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: {output} cannot be written: ")
    assert sorted(folder.iterdir()) == before


def test_output_that_cannot_be_replaced_leaves_no_temporary_file(tmp_path: Path) -> None:
    made = tmp_path / "made.json"
    with pytest.raises(OSError, match=r"made\.json"), files.replacing(made):
        made.mkdir()
    assert list(tmp_path.iterdir()) == [made]
