"""On a Chinese terminal, every message of the command line is Chinese."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from chatkeep.domain.conversation import Role, Status
from chatkeep.i18n import Text, translated
from chatkeep.store.jobs import JobStatus
from tests.cli.line import environment, run
from tests.client import request
from tests.ports import free_port
from tests.servers import Server
from tests.upstream import Upstream

IDEOGRAPH = re.compile("[\u4e00-\u9fff]")
CHINESE = {"LANG": "zh_CN.UTF-8"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Path:
    """A folder with a database that holds a conversation and an export job."""
    made = tmp_path_factory.mktemp("chinese")
    with Server("flask", made, {"OPENAI_BASE_URL": upstream.url}) as server:
        for path, body in [("/api/chat", {"message": "Hello"}), ("/api/exports", {"format": "json"})]:
            assert request("POST", server.url + path, json=body).status in {200, 202}
    return made


@pytest.mark.parametrize(
    "arguments",
    [
        ["stats"],
        ["migrate"],
        ["sweep"],
        ["sweep", "--dry-run"],
        ["clear-cache"],
        ["backup", "made.sqlite3"],
        ["doctor"],
        ["export", "--start", "x"],
    ],
    ids=" ".join,
)
def test_every_line_is_chinese(folder: Path, arguments: list[str]) -> None:
    """Starts a process: half a second."""
    done = run(folder, *arguments, env=CHINESE | {"PORT": str(free_port())})
    said = [line for line in (done.stdout + done.stderr).splitlines() if not CLICKS_OWN.match(line)]
    assert said
    assert [line for line in said if not IDEOGRAPH.search(line)] == []


# The frame around a refused option is Click's, which has no Chinese.
CLICKS_OWN = re.compile(r"Usage: |Try '|$")


def test_wrong_settings_are_reported_in_chinese(tmp_path: Path) -> None:
    env = CHINESE | {"PORT": "x", "DATABASE_URL": "x", "CHATKEEP_PROVIDER_HEADERS": "x", "CHATKEEP_ENV": "x"}
    lines = run(tmp_path, "stats", env=env).stderr.splitlines()
    assert len(lines) == 5
    assert [line for line in lines if not IDEOGRAPH.search(line)] == []


@pytest.mark.parametrize("word", sorted({*Role, *Status, *JobStatus}))
def test_every_kind_that_is_counted_has_a_name(word: str) -> None:
    assert IDEOGRAPH.search(translated(Text(word), "zh"))


@pytest.mark.posix("it needs a terminal of POSIX")
@pytest.mark.parametrize("arguments", [["export", "--output", "made.json"], ["import", "made.json"]], ids=" ".join)
def test_the_progress_is_chinese(folder: Path, arguments: list[str]) -> None:
    """On a terminal, where alone it is shown; what is imported is named as it is called."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "chatkeep", *arguments]
    subprocess.run(command, cwd=folder, env=environment(CHINESE), stdout=subprocess.PIPE, stderr=theirs, check=True)
    os.close(theirs)
    shown = read(ours)
    assert "[#" in shown
    assert "conversations" not in shown
    assert IDEOGRAPH.search(shown) or "made.json" in shown


def read(terminal: int) -> str:
    """Return what was written to a terminal whose other end is closed, which Linux tells by an error."""
    found = b""
    try:
        while chunk := os.read(terminal, 65536):
            found += chunk
    except OSError:
        pass
    os.close(terminal)
    return found.decode()
