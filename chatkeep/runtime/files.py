"""Create files and folders that other local users cannot open, whatever the umask."""

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
from chatkeep.i18n import _

OTHERS, GROUP, GROUP_WRITES = 0o007, 0o070, 0o020
SEARCHABLE, READ_OR_WRITE = 0o001, 0o006


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents with mode 0700; existing ones keep their mode. Raises `OSError`."""
    for missing in reversed([folder for folder in (path, *path.parents) if not folder.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)


def require_folder(path: Path) -> None:
    """Raise `SettingsError` if the path, or a parent of it, is a file."""
    with contextlib.suppress(PermissionError):  # this user may not look into the folder
        file = next((part for part in (path, *path.parents) if part.is_file()), None)
        if file:
            raise SettingsError([_("CHATKEEP_DATA_DIR: {path} is a file; name a folder", path=file)])


def create(path: Path) -> FileIO:
    """Create a file with mode 0600 and open it for writing, unbuffered. Raises `OSError`.

    An existing file is replaced, not opened: another user may have created it and may read it.
    """
    path.unlink(missing_ok=True)
    return open(path, "xb", buffering=0, opener=_opener)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file with mode 0600 that replaces ``path`` if the block succeeds, and is removed otherwise.

    Devices and pipes are written directly. Raises `OSError`: Windows cannot replace a file that another program has
    open.
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
    """Create an empty file with mode 0600, if it does not exist and the folder is writable.

    An existing file is not opened: closing it would release this process's locks on it.
    """
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def tighten(path: Path) -> None:
    """Remove the permissions of other users from a file.

    A group that can write keeps its permissions, because an operator must have chosen that. A group that can only read
    loses them, because that is what a umask does.
    """
    with contextlib.suppress(OSError):  # it does not exist or belongs to another user; `chatkeep doctor` reports that
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & OTHERS:
            path.chmod(mode & ~(OTHERS if mode & GROUP_WRITES else OTHERS | GROUP))


def is_exposed(path: Path) -> bool:
    """Return whether every local user can read or write a path, by its own mode and those of its folders.

    Always False on Windows, where modes say nothing about other users.
    """
    if os.name == "nt":
        return False
    try:
        is_reachable = all(folder.stat().st_mode & SEARCHABLE for folder in path.absolute().parents)
        return is_reachable and bool(path.stat().st_mode & READ_OR_WRITE)
    except OSError:
        return False


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
