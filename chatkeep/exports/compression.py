"""Compressors for streams and files."""

from __future__ import annotations

import sys
import zlib
from typing import Protocol

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdCompressor
else:
    from backports.zstd import ZstdCompressor

# Both are smaller and faster than zlib's fastest level.
_ISAL_LEVEL = 2
_ZSTD_LEVEL = 3
_GZIP_WRAPPER = 31


class Compressor(Protocol):
    """An incremental compressor."""

    def compress(self, data: bytes, /) -> bytes:
        """Return the compressed data that is ready."""

    def flush(self) -> bytes:
        """Return the rest."""


def compressor(coding: str) -> Compressor:
    """Return a new compressor for ``gzip`` or ``zstd``."""
    if coding == "zstd":
        return ZstdCompressor(level=_ZSTD_LEVEL)
    try:
        from isal import isal_zlib  # noqa: PLC0415 - not available on all machines
    except ImportError:
        return zlib.compressobj(1, wbits=_GZIP_WRAPPER)
    return isal_zlib.compressobj(_ISAL_LEVEL, wbits=_GZIP_WRAPPER)
