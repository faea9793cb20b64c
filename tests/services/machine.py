"""A throwaway machine on a booted systemd: Debian in a folder of the cache, what changes is in memory.

It takes root, debootstrap (minutes, once) and systemd-nspawn; those that are missing are installed. The machine has a
loopback of its own and no other network.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.load import CACHE
from tests.docs.handbook import ENGLISH, packages
from tests.services import debian

SUITE = "bookworm"
ROOT = CACHE.parent / "hosts" / SUITE
# An empty Debian, and what the handbook says to install.
PACKAGES = ("systemd", "systemd-sysv", "dbus", *packages(ENGLISH))
START_S = 120.0
_NEW_NET = 0x40000000  # CLONE_NEWNET


class Unavailable(Exception):
    """There can be no machine here."""


class Machine:
    """A machine; use it as a context. ``places`` are folders of this machine by their paths in it."""

    def __init__(self, places: Mapping[str, Path]) -> None:
        self._binds = [f"--bind={path}:{place}" for place, path in places.items()]
        self._process: subprocess.Popen[bytes] | None = None
        self._init = 0

    def __enter__(self) -> Self:
        ensure_installed()
        quiet = ["--quiet", "--keep-unit", "--register=no", "--console=pipe", "--link-journal=no"]
        command = ["systemd-nspawn", *quiet, f"--directory={ROOT}", "--volatile=overlay", "--private-network"]
        self._process = subprocess.Popen(
            [*command, "--machine=chatkeep", *self._binds, "--boot"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + START_S
        while not self._is_up():
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.stop()
                raise Unavailable("the machine does not boot")
            time.sleep(0.2)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def run(self, script: str, *, folder: str = "/", env: Mapping[str, str] | None = None, fails: bool = False) -> str:
        """Run a script as root in a folder of the machine; return what it wrote.

        Raises `AssertionError` if it fails, or if it does not and ``fails``.
        """
        chosen = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "HOME": "/root", **(env or {})}
        done = subprocess.run(
            [*self._entering, "/bin/bash", "-ec", f"cd {folder}\n{script}"], env=chosen, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode != 0) == fails, f"{script}\nended with {done.returncode}:\n{done.stdout[-4000:]}"
        return done.stdout

    def outside(self, pid: int) -> int:
        """Return the id by which this machine knows a process of that one."""
        space = Path(f"/proc/{self._init}/ns/pid").readlink()
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):  # it has ended
                numbers = re.findall(r"(?m)^NSpid:.*\t(\d+)$", status.read_text(encoding="utf-8"))
                if numbers == [str(pid)] and (status.parent / "ns" / "pid").readlink() == space:
                    return int(status.parent.name)
        raise LookupError(f"no process {pid} in the machine")

    def share_network(self) -> None:
        """Let this process, and whatever it starts from now on, have the machine's network in place of its own."""
        libc = ctypes.CDLL(None, use_errno=True)
        network = os.open(f"/proc/{self._init}/ns/net", os.O_RDONLY)
        if libc.setns(network, _NEW_NET):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(network)

    def stop(self) -> None:
        """End it at once."""
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    @property
    def _entering(self) -> list[str]:
        return ["nsenter", f"--target={self._init}", "--mount", "--uts", "--ipc", "--net", "--pid"]

    def _is_up(self) -> bool:
        assert self._process
        started = children(self._process.pid)
        if not started:
            return False
        self._init = started[0]
        state = subprocess.run(
            [*self._entering, "systemctl", "is-system-running"], capture_output=True, text=True, check=False
        )
        return state.stdout.strip() in {"running", "degraded"}


def ensure_installed() -> None:
    """Make the machine's folder unless it is there; raises `Unavailable`."""
    if os.geteuid() != 0:
        raise Unavailable("it takes root")
    with debian.lock():
        if not shutil.which("systemd-nspawn"):
            tried = debian.install("systemd-container")
            if not shutil.which("systemd-nspawn"):
                raise Unavailable(tried)
        whole, wanted = ROOT / "whole", " ".join(PACKAGES)
        if not whole.exists() or whole.read_text(encoding="utf-8") != wanted:
            shutil.rmtree(ROOT, ignore_errors=True)
            tried = debian.bootstrap(SUITE, ROOT, *PACKAGES)
            if tried != debian.INSTALLED:
                raise Unavailable(tried)
            whole.write_text(wanted, encoding="utf-8")


def children(pid: int) -> list[int]:
    """Return the ids of a process's children."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
