"""The deployment pages have the same commands in both languages, and the commands work."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.handbook import CHINESE, ENGLISH, blocks, commands, kinds
from tests.http.api import eventually
from tests.servers import ROOT, Server

# `sh` and `bash` run here and in test_backups, `console` of a kind in `./dev hosts` and `./dev containers`. Other tests
# read the rest, and plain `console` blocks are excerpts.
CONSOLES = {"console debian", "console host", "console compose"}
KINDS = {"sh", "bash", *CONSOLES, "console", "sql", "ini", "nginx", "yaml", "caddy", "haproxy", "apache"}
SERVES = "serve --server gunicorn"
SHELL = "/bin/sh"


@pytest.mark.parametrize("kind", sorted(KINDS - {"console", *CONSOLES}))
def test_both_languages_have_the_same_commands(kind: str) -> None:
    assert blocks(ENGLISH, kind) == blocks(CHINESE, kind)


@pytest.mark.parametrize("kind", sorted(CONSOLES))
def test_both_languages_have_the_same_console_commands(kind: str) -> None:
    assert commands(ENGLISH, kind) == commands(CHINESE, kind)


@pytest.mark.parametrize("page", [ENGLISH, CHINESE])
def test_every_block_has_a_known_kind(page: Path) -> None:
    assert kinds(page) <= KINDS


def test_both_languages_have_as_many_sections_and_excerpts() -> None:
    texts = [page.read_text(encoding="utf-8") for page in (ENGLISH, CHINESE)]
    for pattern in (r"(?m)^#+ ", r"(?m)^[#$>] \S+ \S+"):
        english, chinese = (len(re.findall(pattern, text)) for text in texts)
        assert english == chinese > 0


@pytest.mark.network
@pytest.mark.posix("the page's commands are those of Linux")
@pytest.mark.timeout(300)
def test_the_commands_install_and_serve(tmp_path: Path) -> None:
    """Installs chatkeep into a new environment from the package index: half a minute or more."""
    source = shutil.copytree(
        ROOT, tmp_path / "source", ignore=shutil.ignore_patterns(".git", ".venv", "data", ".*_cache", "tests", "bench")
    )
    server = Server("gunicorn", tmp_path / "server")
    server.folder.mkdir()
    environment = server.environment() | {"PYTHONPATH": ""}
    serving: subprocess.Popen[bytes] | None = None
    try:
        for block in blocks(ENGLISH, "sh"):
            script = "set -e\n" + placed(block, tmp_path)
            if SERVES in block:
                serving = subprocess.Popen([SHELL, "-c", f"exec {script.splitlines()[1]}"], cwd=source, env=environment)
                assert eventually(server._is_up, 30)  # noqa: SLF001 - the tests' own
            else:
                subprocess.run([SHELL, "-c", script], cwd=source, env=environment, check=True)
    finally:
        if serving:
            serving.terminate()
            serving.wait()
    assert serving


def placed(block: str, folder: Path) -> str:
    """Return commands with the test's own folders."""
    return (
        block.replace("/opt/chatkeep", str(folder / "opt"))
        .replace("/etc/chatkeep", str(folder / "etc"))
        .replace("/var/backups", str(folder))
        .replace("python3 ", f"{sys.executable} ")
    )
