"""A reply that comes compressed although nobody asked for that: it is inflated, up to a limit. Pure: no I/O."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from chatkeep.errors import ProviderBroke
from chatkeep.i18n import Text, _

INFLATED_LIMIT = 64 * 1024 * 1024
STEP = 64 * 1024
_EITHER_HEADER = 32 + zlib.MAX_WBITS  # gzip's or zlib's
_GZIP, _ZLIB = b"\x1f", b"\x78"
# What the body of a reply begins with in plain text: blanks, a byte order mark, ASCII.
_PLAIN = frozenset(b"\t\n\r\xef") | frozenset(range(0x20, 0x7F))


def inflater_of(encoding: str, begun: bytes) -> Inflater | None:
    """Return what inflates a body that begins with ``begun``; None if it is plain, whatever its header says.

    Raises `ProviderBroke` if the body is compressed in another way.
    """
    if begun.startswith(_GZIP) or (encoding == "deflate" and begun.startswith(_ZLIB)):
        return Inflater()
    if encoding in {"", "identity"} or begun[0] in _PLAIN:
        return None
    raise _broke(_("The provider compressed its reply, which was not asked for."))


def inflated(body: bytes, encoding: str) -> bytes:
    """Return the body of an error in plain text; nothing if it cannot be read."""
    try:
        inflater = inflater_of(encoding, body) if body else None
        return next(inflater.feed(body), b"") if inflater else body
    except ProviderBroke:
        return b""


class Inflater:
    """Inflates one body as it arrives."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_EITHER_HEADER)
        self._left = INFLATED_LIMIT
        self._has_ended = False

    def feed(self, body: bytes) -> Iterator[bytes]:
        """Yield what a piece of the body holds, in pieces of at most `STEP` bytes.

        Raises `ProviderBroke` if it is damaged, or grows over the limit.
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
        """Begin the next member of a gzip file; return False if ``body`` is none, but what some servers pad with."""
        if not body.startswith(_GZIP):
            return False
        self._inflate = zlib.decompressobj(_EITHER_HEADER)
        return True


def _broke(sentence: Text) -> ProviderBroke:
    """Return the error of a body that no second try makes readable."""
    error = ProviderBroke(sentence)
    error.should_retry = False
    return error
