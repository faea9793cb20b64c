"""From a file on the disk, or standard input, to the documents in it: unpacked, and those of an archive one by one."""

from __future__ import annotations

import gzip
import re
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
# What archives call their conversations, in one file or several; some hold another archive with these.
_CONVERSATIONS = re.compile(r"(?:.*/)?conversations[^/]*\.json", re.IGNORECASE)
_ARCHIVE = re.compile(r".*\.zip", re.IGNORECASE)
_JSON = re.compile(r".*\.json", re.IGNORECASE)
_MOST_NESTED = 2
# What unpacking raises.
_BROKEN = (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, ZstdError)


Progress = Callable[[int], None]
"""What is told of each chunk that is unpacked, by its bytes."""


def documents(file: BufferedReader, progress: Progress) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield the documents in a file, each with its name in an archive and its bytes.

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


def _archived(file: IO[bytes], progress: Progress, nested: int = 0) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield the conversations in an archive, else those in the archives in it, else all JSON files."""
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(_seekable(file, stack, progress)))
        except zipfile.BadZipFile as error:
            raise UnknownFile(f"This archive cannot be read: {error}.") from error
        names = sorted(archive.namelist())
        found = False
        for name in filter(_CONVERSATIONS.fullmatch, names):
            found = True
            yield name, _chunks(_opened(archive, name, stack), progress)
        for name in filter(_ARCHIVE.fullmatch, names) if not found and nested < _MOST_NESTED else ():
            for inner, chunks in _in_archive(archive, name, progress, nested + 1):
                found = True
                yield f"{name}/{inner}", chunks
        for name in filter(_JSON.fullmatch, names) if not found and not nested else ():
            found = True
            yield name, _chunks(_opened(archive, name, stack), progress)
        if not found and not nested:
            raise UnknownFile("There is no conversations.json in this archive.")


def _in_archive(
    archive: zipfile.ZipFile, name: str, progress: Progress, nested: int
) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield the conversations in an archive that lies in another one; nothing if it cannot be read."""
    with ExitStack() as stack:
        try:
            copy = _copy(_opened(archive, name, stack), stack, progress)
            yield from _archived(copy, progress, nested)
        except (UnknownFile, *_BROKEN):
            return


def _opened(archive: zipfile.ZipFile, name: str, stack: ExitStack) -> IO[bytes]:
    try:
        return stack.enter_context(archive.open(name))
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise UnknownFile(f"This archive cannot be read: {error}.") from error


def _seekable(file: IO[bytes], stack: ExitStack, progress: Progress) -> IO[bytes]:
    """Return the file, or a copy of what comes through a pipe: the list of an archive is at its end."""
    return file if file.seekable() else _copy(file, stack, progress)


def _copy(file: IO[bytes], stack: ExitStack, progress: Progress) -> IO[bytes]:
    copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    while chunk := file.read(CHUNK_BYTES):
        progress(len(chunk))
        copy.write(chunk)
    return copy


def _chunks(file: Any, progress: Progress) -> Iterator[bytes]:
    """Yield a file's bytes, as far as they can be unpacked: what is missing then is found by whoever reads them."""
    try:
        while chunk := file.read(CHUNK_BYTES):
            progress(len(chunk))
            yield chunk
    except _BROKEN:
        return
