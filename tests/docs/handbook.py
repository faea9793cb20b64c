"""The deployment pages and their blocks of commands."""

from __future__ import annotations

import re
from pathlib import Path

from tests.servers import ROOT

ENGLISH, CHINESE = (ROOT / "docs" / name for name in ("deployment.md", "生产环境部署配置文档.md"))
# A command follows a prompt; text after three spaces is a comment.
_COMMAND = re.compile(r"(?m)^[#$] (.+?)(?: {3,}\S.*)?$")


def blocks(page: Path, kind: str) -> list[str]:
    """Return the blocks of a page whose info string is ``kind``."""
    return re.findall(rf"(?ms)^```{kind}\n(.+?)^```$", page.read_text(encoding="utf-8"))


def kinds(page: Path) -> set[str]:
    """Return the info strings of a page's blocks."""
    return {mark for mark in re.findall(r"(?m)^```(.*)$", page.read_text(encoding="utf-8")) if mark}


def commands(page: Path, kind: str) -> list[str]:
    """Return the console blocks of a kind as scripts."""
    return ["\n".join(_COMMAND.findall(block)) for block in blocks(page, kind)]


def on_a_host(page: Path) -> list[str]:
    """Return the scripts for a host with systemd: Install, Settings, then `console host`."""
    return [*blocks(page, "sh")[:2], *commands(page, "console host")]


def packages(page: Path) -> list[str]:
    """Return the Debian packages that the commands need."""
    (command,) = commands(page, "console debian")
    return [word for word in command.removeprefix("apt-get install").split() if not word.startswith("-")]
