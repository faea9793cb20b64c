"""Decompress replies that a provider compressed unasked, up to a size limit. Pure: no I/O."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from chatkeep.errors import ProviderBroke
from chatkeep.i18n import Text, _

INFLATED_LIMIT = 64 * 1024 * 1024
STEP = 64 * 1024
_EITHER_HEADER = 32 + zlib.MAX_WBITS  # gzip's or zlib's
_GZIP, _ZLIB = b"\x1f", b"\x78"
# First bytes of an uncompressed reply: white space, a byte order mark, ASCII.
_PLAIN = frozenset(b"\t\n\r\xef") | frozenset(range(0x20, 0x7F))


def inflater_of(encoding: str, begun: bytes) -> Inflater | None:
    """Return an inflater for a body that begins with ``begun``, or None if it is not compressed, whatever its header.

    Raises `ProviderBroke` for an unsupported compression.
    """
    if begun.startswith(_GZIP) or (encoding == "deflate" and begun.startswith(_ZLIB)):
        return Inflater()
    if encoding in {"", "identity"} or begun[0] in _PLAIN:
        return None
    raise _broke(_("The provider compressed its reply, which was not asked for."))


def inflated(body: bytes, encoding: str) -> bytes:
    """Return an error's body, decompressed; empty if it is unreadable."""
    try:
        inflater = inflater_of(encoding, body) if body else None
        return next(inflater.feed(body), b"") if inflater else body
    except ProviderBroke:
        return b""


class Inflater:
    """Decompresses one body incrementally."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_EITHER_HEADER)
        self._left = INFLATED_LIMIT
        self._has_ended = False

    def feed(self, body: bytes) -> Iterator[bytes]:
        """Yield the decompressed data in pieces of at most `STEP` bytes.

        Raises `ProviderBroke` if the data is damaged or exceeds the limit.
        """
        plain = b""
        while body or len(plain) == STEP:
            if self._has_ended and not self._begin_next(body):
                return
            try:
                plain = self._inflate.decompress(body, STEP)
            except zlib.error as error:
                raise _broke(_("The provider compressed its reply in a way that cannot be read.")) from error
            self._has_ended = self._inflate.eof
            body = self._inflate.unused_data if self._has_ended else self._inflate.unconsumed_tail
            self._left -= len(plain)
            if self._left < 0:
                raise _broke(_("The provider sent a compressed reply of over {bytes} bytes.", bytes=INFLATED_LIMIT))
            yield plain

    def _begin_next(self, body: bytes) -> bool:
        """Begin the next gzip member. Return False if ``body`` is not one, but padding that some servers send."""
        if not body.startswith(_GZIP):
            return False
        self._inflate = zlib.decompressobj(_EITHER_HEADER)
        return True


def _broke(sentence: Text) -> ProviderBroke:
    """Return an error that is not retried."""
    error = ProviderBroke(sentence)
    error.should_retry = False
    return error
