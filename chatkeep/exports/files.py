"""Write export files atomically, and keep their folder tidy."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from chatkeep.exports.compression import compressor
from chatkeep.runtime import files
from chatkeep.runtime.concurrency import UPKEEP
from chatkeep.store import jobs
from chatkeep.store.engine import Database

PART = ".part"
# Younger files are never removed.
TIDY_AGE_S = 60.0
_AT_ONCE = 100
# The job's id, the attempt, and the suffix.
_NAME = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-(\d{1,9})\.\w.*", re.ASCII)


class ExportFile:
    """A file that is written under a temporary name: `begin`, `write`, then `keep`; `discard` at any time."""

    def __init__(self, path: Path, compression: str) -> None:
        self.size = 0
        self._path = path
        self._part = path.with_name(path.name + PART)
        self._digest = hashlib.sha256()
        self._compressor = None if compression == "none" else compressor(compression)
        self._file: BinaryIO | None = None

    @property
    def sha256(self) -> bytes:
        """The SHA-256 of the written bytes."""
        return self._digest.digest()

    def begin(self) -> None:
        """Create the file, readable by this user only. Raises `OSError`."""
        files.make_folder(self._part.parent)
        self._file = files.create(self._part)

    def write(self, chunk: bytes) -> None:
        """Compress and write a chunk. Raises `OSError`."""
        self._put(chunk if self._compressor is None else self._compressor.compress(chunk))

    def keep(self) -> None:
        """Flush, sync and rename the file. Raises `OSError`."""
        if self._compressor is not None:
            self._put(self._compressor.flush())
        with self._open as file:
            os.fsync(file.fileno())
        self._part.replace(self._path)

    def discard(self) -> None:
        """Remove the file, renamed or not."""
        if self._file is not None:
            self._file.close()
        remove(self._part)
        remove(self._path)

    @property
    def _open(self) -> BinaryIO:
        if self._file is None:
            raise ValueError("the file was not begun")
        return self._file

    def _put(self, ready: bytes) -> None:
        self._digest.update(ready)
        self.size += len(ready)
        rest = memoryview(ready)
        while rest:
            rest = rest[self._open.write(rest) :]


def remove(path: Path) -> None:
    """Remove a file if it exists. One that Windows keeps open is left to `tidy`."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        return


def tidy(database: Database, folder: Path) -> int:
    """Remove files without a job, such as those of expired jobs and killed processes. Return how many.

    Raises `StoreUnavailable`.
    """
    found = UPKEEP.run(_old_files, folder, time.time() - TIDY_AGE_S)
    removed = 0
    for start in range(0, len(found), _AT_ONCE):
        some = found[start : start + _AT_ONCE]
        left = _left_over(database, some)
        UPKEEP.run(_remove_all, left)
        removed += len(left)
    return removed


def _old_files(folder: Path, before: float) -> list[tuple[Path, UUID, int]]:
    """Return the folder's export files last written before a time, with job and attempt."""
    names = [(path, _NAME.fullmatch(path.name)) for path in folder.glob("*-*")]
    return [(path, UUID(name[1]), int(name[2])) for path, name in names if name and _written(path) < before]


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # renamed or removed meanwhile
        return float("inf")


def _left_over(database: Database, some: list[tuple[Path, UUID, int]]) -> list[Path]:
    """Return the files whose job is gone or has another attempt. A job's row exists before its file."""
    ids = [job_id for _, job_id, _ in some]
    alive = database.read(lambda connection: jobs.with_files(connection, ids))
    return [path for path, job_id, attempt in some if (job_id, attempt) not in alive]


def _remove_all(paths: Iterable[Path]) -> None:
    for path in paths:
        remove(path)
