"""Compressing what is streamed, as far as the client takes it."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import Protocol

from werkzeug.datastructures import Accept

from chatkeep.concurrency import off_loop

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdCompressor
else:
    from backports.zstd import ZstdCompressor

# Both beat zlib's fastest level in size as well as in time.
_ISAL_LEVEL = 2
_ZSTD_LEVEL = 3
_GZIP_WRAPPER = 31


class Compressor(Protocol):
    """What takes bytes and gives fewer."""

    def compress(self, data: bytes, /) -> bytes:
        """Return what is ready."""

    def flush(self) -> bytes:
        """Return the rest."""


def coding_of(accepted: Accept) -> str | None:
    """Return the content coding that a client likes best, None for the bytes as they are."""
    best = max(("zstd", "gzip"), key=accepted.quality)
    wanted = accepted.quality(best)
    return best if wanted and wanted >= accepted.quality("identity") else None


def compressed(chunks: Iterable[bytes], coding: str | None) -> Iterator[bytes]:
    """Yield the chunks in a content coding, compressed beside the event loop."""
    if coding is None:
        yield from filter(None, chunks)
        return
    compressor = _compressor(coding)
    for chunk in chunks:
        if ready := off_loop(compressor.compress, chunk):
            yield ready
    yield compressor.flush()


def _compressor(coding: str) -> Compressor:
    if coding == "zstd":
        return ZstdCompressor(level=_ZSTD_LEVEL)
    try:
        from isal import isal_zlib  # noqa: PLC0415 - there are no builds of it for some machines
    except ImportError:
        return zlib.compressobj(1, wbits=_GZIP_WRAPPER)
    return isal_zlib.compressobj(_ISAL_LEVEL, wbits=_GZIP_WRAPPER)
