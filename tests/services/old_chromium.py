"""Chromium 109 of the npm package `@sparticuz/chromium`, the oldest that the pages are written for."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

from playwright.sync_api import Browser, Playwright

from tests.services import chromium, npm

HERE = Path(__file__).parent / "chromium-109"


def ensure_installed() -> None:
    """Install it by its lock file, and unpack it; raises `npm.Unavailable` if that is not possible."""
    npm.ensure_installed(HERE)
    folder = npm.folder(HERE)
    if not (folder / "chromium").exists():
        subprocess.run([npm.node(), folder / "unpack.mjs"], check=True)
    with tarfile.open(folder / "aws.tar") as archive:
        archive.extractall(folder / "aws", filter="data")


def launch(playwright: Playwright) -> Browser:
    """Start it with a profile of its own, which is gone when it is closed."""
    folder = npm.folder(HERE)
    return playwright.chromium.launch(
        executable_path=folder / "chromium",
        args=[*chromium.FLAGS, "--no-zygote"],  # it comes without the program of the sandbox
        env={**os.environ, "LD_LIBRARY_PATH": str(folder / "aws" / "lib")},
    )
