"""From a file on the disk, or standard input, to the documents in it: unpacked, and those of an archive one by one."""

from __future__ import annotations

import gzip
import re
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import BufferedReader
from typing import IO, Any

from chatkeep.imports.records import UnknownFile

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdError, ZstdFile
else:
    from backports.zstd import ZstdError, ZstdFile

CHUNK_BYTES = 256 * 1024
_GZIP, _ZSTD, _ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"
_MAGIC_BYTES = 4
# What an archive of ChatGPT's calls its conversations; where they are many there is more than one file.
_CONVERSATIONS = re.compile(r"(?:.*/)?conversations(?:-\d+)?\.json")


def documents(file: BufferedReader, progress: Callable[[], None]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield the documents in a file, each with its name in an archive and its bytes; ``progress`` is called amid them.

    Take all bytes of one before the next. Raises `UnknownFile`.
    """
    head = file.peek(_MAGIC_BYTES)
    if head.startswith(_ZIP):
        yield from _archived(file, progress)
    elif head.startswith(_GZIP):
        yield "", _chunks(gzip.GzipFile(fileobj=file), progress)
    elif head.startswith(_ZSTD):
        yield "", _chunks(ZstdFile(file), progress)
    else:
        yield "", _chunks(file, progress)


def _archived(file: BufferedReader, progress: Callable[[], None]) -> Iterator[tuple[str, Iterator[bytes]]]:
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(_seekable(file, stack)))
            names = sorted(name for name in archive.namelist() if _CONVERSATIONS.fullmatch(name))
            opened = [(name, stack.enter_context(archive.open(name))) for name in names]
        except (zipfile.BadZipFile, RuntimeError) as error:
            raise UnknownFile(f"This archive cannot be read: {error}.") from error
        if not opened:
            raise UnknownFile("There is no conversations.json in this archive.")
        for name, member in opened:
            yield name, _chunks(member, progress)


def _seekable(file: BufferedReader, stack: ExitStack) -> IO[bytes]:
    """Return the file, or a copy of what comes through a pipe: the list of an archive is at its end."""
    if file.seekable():
        return file
    copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    shutil.copyfileobj(file, copy, CHUNK_BYTES)
    return copy


def _chunks(file: Any, progress: Callable[[], None]) -> Iterator[bytes]:
    """Yield a file's bytes, as far as they can be unpacked: what is missing then is found by whoever reads them."""
    try:
        while chunk := file.read(CHUNK_BYTES):
            progress()
            yield chunk
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, ZstdError):
        return
