"""Render values for several formats. Bytes in, bytes out: this is the inner loop of every export."""

from __future__ import annotations

from binascii import hexlify
from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from struct import Struct
from typing import Any

import msgspec

_MINUTES = 24 * 60
_MINUTE_TEXTS = [b"T%02d:%02d:" % divmod(minute, 60) for minute in range(_MINUTES)]
_SECOND_TEXTS = [b"%02d." % second for second in range(60)]
_EPOCH = date(1970, 1, 1).toordinal()
ASSISTANT = "assistant"
_encode = msgspec.json.Encoder().encode
_UUID, _UUIDS = Struct("8s4s4s4s12s").unpack, Struct("8s4s4s4s12s").iter_unpack
# JSON requires these to be escaped, besides the three that are replaced below.
_CONTROLS = bytes(code for code in range(0x20) if code != ord("\n"))


def uuid_text(id: bytes) -> bytes:
    """Return an id in the usual form."""
    return b"-".join(_UUID(hexlify(id)))


def uuid_texts(ids: Iterable[bytes]) -> list[bytes]:
    """Return ids like `uuid_text`, faster than one by one."""
    return list(map(b"-".join, _UUIDS(hexlify(b"".join(ids)))))


def time_text(at: int) -> bytes:
    """Return µs since 1970 as RFC 3339 with six digits: messages of a turn may differ in the last one only."""
    return b"%b%06dZ" % (second_text(at // 1_000_000), at % 1_000_000)


@lru_cache(maxsize=256)
def second_text(second: int) -> bytes:
    """Return seconds since 1970 as RFC 3339 up to the decimal point. Cached, because a turn's messages share it."""
    minute, rest = divmod(second, 60)
    return _day(minute // _MINUTES) + _MINUTE_TEXTS[minute % _MINUTES] + _SECOND_TEXTS[rest]


@lru_cache(maxsize=4096)
def _day(day: int) -> bytes:
    return date.fromordinal(_EPOCH + day).isoformat().encode()


def encode(value: Any) -> bytes:
    """Return a value as JSON on one line for all programs."""
    return one_line(_encode(value))


def one_line(json: bytes) -> bytes:
    """Escape characters in JSON at which some programs end a line: U+0085, U+2028 and U+2029."""
    # Searching for their first byte is nearly free.
    if b"\xc2" in json:
        json = json.replace(b"\xc2\x85", rb"\u0085")
    if b"\xe2" in json:
        json = json.replace(b"\xe2\x80\xa8", rb"\u2028").replace(b"\xe2\x80\xa9", rb"\u2029")
    return json


def json_text(text: bytes) -> bytes:
    """Return UTF-8 escaped for a JSON string, without the quotes."""
    if len(text.translate(None, _CONTROLS)) != len(text):
        return encode(text.decode())[1:-1]
    return one_line(text.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n"))
