"""From a file on the disk, or standard input, to the documents in it: unpacked, and those of an archive one by one."""

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
# An archive begins with a file, with its end if it has none, or with the mark of one that could have several parts.
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_MAGIC_BYTES = 4
# What archives call their conversations, in one file or several; some hold another archive with these.
# Some programs on Windows write paths with backslashes.
_CONVERSATIONS = re.compile(r"(?:.*[/\\])?conversations[^/\\]*\.json", re.IGNORECASE | re.DOTALL)
_ARCHIVE = re.compile(r".*\.zip", re.IGNORECASE | re.DOTALL)
_JSON = re.compile(r".*\.(?:json|jsonl|ndjson)", re.IGNORECASE | re.DOTALL)
_MOST_NESTED = 2
# What systems put beside the files that they pack.
_LITTER = re.compile(r"(?:.*[/\\])?(?:__MACOSX[/\\]|\._).*", re.DOTALL)
# What unpacking raises.
_BROKEN = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile, ZstdError)
# What opening an archive or a file in it raises: also for versions, encryption and offsets that cannot be.
_UNREADABLE = (zipfile.BadZipFile, RuntimeError, ValueError, OSError, EOFError, struct.error)


Progress = Callable[[int], None]
"""What is told of each chunk that is unpacked, by its bytes."""


def documents(file: BufferedReader, progress: Progress) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield the documents in a file, each with its name in an archive and its bytes.

    Take all bytes of one before the next. Raises `UnknownFile`, as the bytes of a document do that cannot be unpacked.
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
    """Return the bytes of an archive that cannot be read: they raise ``error``."""
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
    """Yield the conversations in an archive that lies in another one."""
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
    """Return the file, or a copy of what comes through a pipe: the list of an archive is at its end."""
    return file if file.seekable() else _copy(_chunks(file, progress), stack)


def _copy(chunks: Iterator[bytes], stack: ExitStack) -> IO[bytes]:
    copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    copy.writelines(chunks)
    return copy


def _chunks(file: Any, progress: Progress) -> Iterator[bytes]:
    """Yield a file's bytes, as far as they can be unpacked: what is missing then is found by whoever reads them.

    Raises `UnknownFile` if nothing can be unpacked.
    """
    begun = False
    while chunk := _next(file, begun=begun):
        begun = True
        progress(len(chunk))
        yield chunk


def _next(file: Any, *, begun: bool) -> bytes:
    """Return the next bytes of a file, none where it cannot be unpacked any further. Raises `UnknownFile`."""
    try:
        return bytes(file.read(CHUNK_BYTES))
    except (*_BROKEN, OSError) as error:  # bzip2 has no error of its own
        if begun:
            return b""
        raise UnknownFile(_("This file cannot be read: {reason}.", reason=text_of(error))) from error
