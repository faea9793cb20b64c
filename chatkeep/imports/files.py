"""Open the documents in a file or standard input: decompressed, and out of archives one by one."""

from __future__ import annotations

import gzip
import lzma
import re
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import BufferedReader
from typing import IO, Any

from chatkeep.i18n import _, text_of
from chatkeep.imports.records import UnknownFile

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdError, ZstdFile
else:
    from backports.zstd import ZstdError, ZstdFile

CHUNK_BYTES = 256 * 1024
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
# An archive begins with a file, with its end if it is empty, or with the mark of a split archive.
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_MAGIC_BYTES = 4
# The names of conversations in archives. Some have several files, nested archives, or backslashes in paths.
_CONVERSATIONS = re.compile(r"(?:.*[/\\])?conversations[^/\\]*\.json", re.IGNORECASE | re.DOTALL)
_ARCHIVE = re.compile(r".*\.zip", re.IGNORECASE | re.DOTALL)
_JSON = re.compile(r".*\.(?:json|jsonl|ndjson)", re.IGNORECASE | re.DOTALL)
_MOST_NESTED = 2
# Files that operating systems add to archives.
_LITTER = re.compile(r"(?:.*[/\\])?(?:__MACOSX[/\\]|\._).*", re.DOTALL)
# Errors of decompression.
_BROKEN = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile, ZstdError)
# Errors of opening an archive or its files, also for unsupported versions, encryption and bad offsets.
_UNREADABLE = (zipfile.BadZipFile, RuntimeError, ValueError, OSError, EOFError, struct.error)


Progress = Callable[[int], None]
"""Called with the size of each decompressed chunk."""


def documents(file: BufferedReader, progress: Progress) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield the documents in a file: the name in an archive, and the bytes.

    Read all bytes of one before the next. Raises `UnknownFile`, also while the bytes are read.
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
    """Yield the conversations in an archive, else those in nested archives, else all JSON files."""
    with ExitStack() as stack:
        archive = _archive(_seekable(file, stack, progress), stack)
        names = sorted(name for name in set(archive.namelist()) if not _LITTER.fullmatch(name))
        found = False
        for name in filter(_CONVERSATIONS.fullmatch, names):
            found = True
            yield name, _unpacked(archive, name, progress)
        broken: list[tuple[str, UnknownFile]] = []
        for name in filter(_ARCHIVE.fullmatch, names) if not found and nested < _MOST_NESTED else ():
            try:
                for inner, chunks in _in_archive(archive, name, progress, nested + 1):
                    found = True
                    yield f"{name}/{inner}", chunks
            except UnknownFile as error:
                broken.append((name, error))
        for name in filter(_JSON.fullmatch, names) if not found and not nested else ():
            found = True
            yield name, _unpacked(archive, name, progress)
        for name, reason in broken:
            yield name, _refused(reason)
        if not found and not broken and not nested:
            raise UnknownFile(_("There is no conversations.json in this archive."))


def _refused(error: UnknownFile) -> Iterator[bytes]:
    """Return bytes that raise ``error``, for an archive that cannot be read."""
    yield from ()
    raise error


def _archive(file: IO[bytes], stack: ExitStack) -> zipfile.ZipFile:
    try:
        return stack.enter_context(zipfile.ZipFile(file))
    except _UNREADABLE as error:
        raise UnknownFile(_("This archive cannot be read: {reason}.", reason=text_of(error))) from error


def _in_archive(
    archive: zipfile.ZipFile, name: str, progress: Progress, nested: int
) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield the conversations in a nested archive."""
    with ExitStack() as stack:
        yield from _archived(_copy(_unpacked(archive, name, progress), stack), progress, nested)


def _unpacked(archive: zipfile.ZipFile, name: str, progress: Progress) -> Iterator[bytes]:
    """Yield the bytes of a file in an archive. Raises `UnknownFile`."""
    try:
        file = archive.open(name)
    except _UNREADABLE as error:
        raise UnknownFile(_("This archive cannot be read: {reason}.", reason=text_of(error))) from error
    with file:
        yield from _chunks(file, progress)


def _seekable(file: IO[bytes], stack: ExitStack, progress: Progress) -> IO[bytes]:
    """Return the file, or a copy if it is a pipe: an archive's directory is at its end."""
    return file if file.seekable() else _copy(_chunks(file, progress), stack)


def _copy(chunks: Iterator[bytes], stack: ExitStack) -> IO[bytes]:
    copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    copy.writelines(chunks)
    return copy


def _chunks(file: Any, progress: Progress) -> Iterator[bytes]:
    """Yield a file's bytes as far as they can be decompressed. The reader finds that the rest is missing.

    Raises `UnknownFile` if nothing can be decompressed.
    """
    begun = False
    while chunk := _next(file, begun=begun):
        begun = True
        progress(len(chunk))
        yield chunk


def _next(file: Any, *, begun: bool) -> bytes:
    """Return the next bytes of a file, b"" if decompression fails there. Raises `UnknownFile` at the beginning."""
    try:
        return bytes(file.read(CHUNK_BYTES))
    except (*_BROKEN, OSError) as error:  # bzip2 has no error of its own
        if begun:
            return b""
        raise UnknownFile(_("This file cannot be read: {reason}.", reason=text_of(error))) from error
