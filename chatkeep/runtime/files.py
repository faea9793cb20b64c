"""Files and folders that other local users cannot open, whatever the umask."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedWriter, FileIO
from pathlib import Path
from typing import BinaryIO

from chatkeep.errors import SettingsError

OTHERS, GROUP, GROUP_WRITES = 0o007, 0o070, 0o020
SEARCHABLE, READ_OR_WRITE = 0o001, 0o006


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents with mode 0700; one that exists keeps its mode. Raises `OSError`."""
    for missing in reversed([folder for folder in (path, *path.parents) if not folder.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)


def require_folder(path: Path) -> None:
    """Raise `SettingsError` if a file stands where a folder of the data folder has to be."""
    with contextlib.suppress(PermissionError):  # what is there cannot be seen
        file = next((part for part in (path, *path.parents) if part.is_file()), None)
        if file:
            raise SettingsError([f"CHATKEEP_DATA_DIR: {file} is a file; name a folder"])


def create(path: Path) -> FileIO:
    """Create a file with mode 0600 and open it for writing, unbuffered. Raises `OSError`.

    A file that has the name already is replaced and not opened: another user may have made it, and may read it.
    """
    path.unlink(missing_ok=True)
    return open(path, "xb", buffering=0, opener=_opener)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Lend a new file with mode 0600 that takes the place of ``path`` once it is whole; it goes if it never is.

    Raises `OSError`: Windows, for one, replaces no file that another program has open. A device or a pipe is written to
    as it is.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    part = path.with_name(f"{path.name}.part")
    file = BufferedWriter(create(part))
    try:
        with file:
            yield file
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def ensure_file(path: Path) -> None:
    """Create an empty file with mode 0600, unless there is one or its folder takes none.

    One that exists is not opened: closing it would release the locks that this process has on it.
    """
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def tighten(path: Path) -> None:
    """Take a file that other users can open away from them.

    Its group keeps what it has if it can write: an operator chose that. If it can only read, the umask chose that.
    """
    with contextlib.suppress(OSError):  # it is not there, or another user's; `chatkeep doctor` tells
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & OTHERS:
            path.chmod(mode & ~(OTHERS if mode & GROUP_WRITES else OTHERS | GROUP))


def is_exposed(path: Path) -> bool:
    """Return whether every local user can read or write what is there: its own mode allows it, and its folders let in.

    On Windows modes say nothing about other users, so nothing is reported.
    """
    if os.name == "nt":
        return False
    try:
        lets_in = all(folder.stat().st_mode & SEARCHABLE for folder in path.absolute().parents)
        return lets_in and bool(path.stat().st_mode & READ_OR_WRITE)
    except OSError:
        return False


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
