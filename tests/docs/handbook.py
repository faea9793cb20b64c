"""The handbook on deployment, and the blocks of commands in it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.servers import ROOT

ENGLISH, CHINESE = (ROOT / "docs" / name for name in ("deployment.md", "生产环境部署配置文档.md"))
# Commands begin with a prompt, and words behind several spaces explain them.
_COMMAND = re.compile(r"(?m)^[#$] (.+?)(?: {3,}\S.*)?$")


def blocks(page: Path, kind: str) -> list[str]:
    """Return the blocks of a page that are marked with exactly these words."""
    return re.findall(rf"(?ms)^```{kind}\n(.+?)^```$", page.read_text(encoding="utf-8"))


def kinds(page: Path) -> set[str]:
    """Return what the blocks of a page are marked with."""
    return {mark for mark in re.findall(r"(?m)^```(.*)$", page.read_text(encoding="utf-8")) if mark}


def commands(page: Path, kind: str) -> list[str]:
    """Return the blocks of a kind of console, as scripts."""
    return ["\n".join(_COMMAND.findall(block)) for block in blocks(page, kind)]


def on_a_host(page: Path) -> list[str]:
    """Return what an operator runs on a host with systemd, as scripts: how to install, then `console host`."""
    return [*blocks(page, "sh")[:2], *commands(page, "console host")]


def packages(page: Path) -> list[str]:
    """Return Debian's packages that the page's commands need."""
    (command,) = commands(page, "console debian")
    return [word for word in command.removeprefix("apt-get install").split() if not word.startswith("-")]
