"""Debian's and Ubuntu's packages, installed where that takes no question: as root, or with a sudo that asks nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

INSTALLED = "all of it was installed"


class Unavailable(Exception):
    """A program is not here, and there is no way to install it unasked; the message says which way was tried."""


def program(name: str, *packages: str) -> str:
    """Return the path of a program, and install its packages if it is missing. Raises `Unavailable`."""
    with lock():
        tried = "" if shutil.which(name) else install(*packages)
    if found := shutil.which(name):
        return found
    raise Unavailable(f"{name} is not installed, and {tried}")


def install(*packages: str) -> str:
    """Try to install packages; return what came of it, for people."""
    if not shutil.which("apt-get"):
        return "there is no apt-get to install it with"
    if os.geteuid() != 0 and not shutil.which("sudo"):
        return "installing it takes root or sudo"
    _apt("update")
    output = _apt("install", "-y", "--no-install-recommends", *packages)
    return f"installing {' '.join(packages)} ended with: {output.strip().splitlines()[-1:]}"


def unpack(folder: Path, *packages: str) -> None:
    """Unpack packages into a folder without installing them: installing a server's package would start a service."""
    apt, unpacker = shutil.which("apt-get"), shutil.which("dpkg-deb")
    if not (apt and unpacker):
        return
    folder.mkdir(parents=True, exist_ok=True)
    command = [apt, "download", "-q", *packages]
    if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode:
        _apt("update")
        subprocess.run(command, cwd=folder, capture_output=True, check=False)
    for archive in folder.glob("*.deb"):
        subprocess.run([unpacker, "-x", archive, folder], check=True)


def bootstrap(suite: str, folder: Path, *packages: str) -> str:
    """Try to make a folder that has packages of another suite, and all that they need; return what came of it."""
    if not shutil.which("debootstrap"):
        tried = install("debootstrap")
        if not shutil.which("debootstrap"):
            return tried
    folder.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    # A mirror's copy of the suite may be older than the suite says to accept; it is signed all the same.
    apt = ["chroot", str(folder), "apt-get", "-q", "-o", "Acquire::Check-Valid-Until=no"]
    for command in (
        ["debootstrap", "--variant=minbase", suite, str(folder)],
        [*apt, "update"],
        [*apt, "install", "-y", "--no-install-recommends", *packages],
    ):
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            return f"{command[0]} ended with: {(done.stdout + done.stderr).strip().splitlines()[-1:]}"
    return INSTALLED


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """Let one test process at a time look and install."""
    with (Path(tempfile.gettempdir()) / f"chatkeep-install-{os.geteuid()}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _apt(*arguments: str) -> str:
    """Run apt-get as root; return what it wrote."""
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    command = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr
