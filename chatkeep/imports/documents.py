"""JSON of any size, split into its records while it is read: memory does not grow with the file.

A record is an object in the document's list, or in a list that is a member of the document; or a line. Brackets are
counted and strings skipped, nothing more: what is not JSON is found when the record is decoded.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Iterable, Iterator
from itertools import chain

import msgspec

from chatkeep.imports.records import Record

RECORD_BYTES = 64 * 1024 * 1024
# Enough for what is around the records of an export; a document with more has other contents.
FRAME_BYTES = 1024 * 1024
HEAD_BYTES = 64 * 1024
# No decoder takes more, so whatever is deeper can't be imported. It isn't read either: a bracket costs a microsecond.
MOST_DEPTH = 1000
# Longer than a seal's line.
SEAL_BYTES = 4096
BOM = b"\xef\xbb\xbf"
_BETWEEN = b" \t\r\n,"
# Possessive, so that nothing is ever read twice. A line ends a string: none may hold a line break, so it was not
# closed, and what follows can be read again.
_STRING = re.compile(rb'(?:[^"\\\n]++|\\.)*+', re.DOTALL)
_PLAIN = re.compile(rb'(?:[^"\[\]{}]++|"(?:[^"\\\n]++|\\.)*+")*+', re.DOTALL)


class _Body:
    """Bytes that are gathered up to a limit."""

    def __init__(self, line: int) -> None:
        self.line = line
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > RECORD_BYTES:
            self._parts.clear()
        else:
            self._parts.append(part)

    def record(self) -> Record:
        return Record(self.line, b"".join(self._parts) if self._size <= RECORD_BYTES else None)


class Records:
    """The records of a JSON document. Iterate once."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.frame = bytearray()
        """The document without its records, as far as it is read, up to `FRAME_BYTES`."""
        self.line = 1
        """The line up to which it is read."""
        self.cut = False
        """Whether the document ended before its last bracket, or reading did."""
        self.too_deep = False
        """Whether reading ended because brackets are nested more than `MOST_DEPTH` deep."""
        self._chunks = chunks
        self._depth = 0
        self._level: int | None = None  # how deep the records of the list lie that is being read
        self._quoted = False
        self._body: _Body | None = None

    def __iter__(self) -> Iterator[Record]:
        """Yield the records, and what else stands between them."""
        rest = b""
        for chunk in self._chunks:
            text = rest + chunk
            # The sign behind a backslash is needed to know what it means.
            rest = text[-1:] if (len(text) - len(text.rstrip(b"\\"))) % 2 else b""
            yield from self._scan(text.removesuffix(rest))
            if self.too_deep:
                break
        self.cut = self._depth > 0 or self._quoted

    def _scan(self, text: bytes) -> Iterator[Record]:
        kept = 0
        for at in self._brackets(text):
            kept = yield from self._opened(text, kept, at) if text[at] in b"[{" else self._closed(text, kept, at)
            if self._depth > MOST_DEPTH:
                self.too_deep = True
                return
        yield from self._passed(text[kept:])

    def _brackets(self, text: bytes) -> Iterator[int]:
        """Yield where brackets stand outside strings."""
        at = 0
        while at < len(text):
            if self._quoted:
                at = _end(_STRING, text, at)
                self._quoted = at == len(text)
            else:
                at = _end(_PLAIN, text, at)
                self._quoted = text[at : at + 1] == b'"'
                if at < len(text) and not self._quoted:
                    yield at
            at += 1

    def _opened(self, text: bytes, kept: int, at: int) -> Generator[Record, None, int]:
        """Take note of a bracket that opens; yield what ended there, and return up to where the text is dealt with."""
        if self._body is None and self._level == self._depth and text[at] in b"{":
            yield from self._passed(text[kept:at])
            self._body, kept = _Body(self.line), at
        elif self._level is None and self._depth <= 1 and text[at] in b"[":
            yield from self._passed(text[kept : at + 1])
            self._level, kept = self._depth + 1, at + 1
        self._depth += 1
        return kept

    def _closed(self, text: bytes, kept: int, at: int) -> Generator[Record, None, int]:
        """Do the same for one that closes."""
        self._depth = max(self._depth - 1, 0)
        if self._body is not None and self._depth == self._level:
            yield from self._passed(text[kept : at + 1])
            yield self._body.record()
            self._body, kept = None, at + 1
        elif self._body is None and self._level is not None and self._depth < self._level:
            yield from self._passed(text[kept:at])
            self._level, kept = None, at
        return kept

    def _passed(self, part: bytes) -> Iterator[Record]:
        """Put text where it belongs: to the record that is open, or to the frame; yield what is neither."""
        if self._body is not None:
            self._body.add(part)
        elif self._level is None:
            self.frame += part[: FRAME_BYTES - len(self.frame)]
        elif stray := part.strip(_BETWEEN):
            yield Record(self.line + part[: part.index(stray)].count(b"\n"), stray)
        self.line += part.count(b"\n")


def _end(pattern: re.Pattern[bytes], text: bytes, at: int) -> int:
    """Return where what fits ends; both patterns fit anything, if only nothing."""
    found = pattern.match(text, at)
    return at if found is None else found.end()


def lines(chunks: Iterable[bytes]) -> Iterator[Record]:
    """Yield a document's lines that are not empty."""
    body = _Body(1)
    for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            body.add(part)
            yield from _line(body)
            body = _Body(body.line + 1)
        body.add(rest)
    yield from _line(body)


def _line(body: _Body) -> Iterator[Record]:
    record = body.record()
    if record.body is None or record.body.strip():
        yield record


def is_lines(head: bytes) -> bool:
    """Return whether a document is JSON lines: its first line is an object, and another one follows."""
    first, _, rest = head.partition(b"\n")
    if not rest.lstrip().startswith(b"{"):
        return False
    try:
        msgspec.json.decode(first, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True


def whole_of(chunks: Iterable[bytes]) -> Record:
    """Return a document as one record."""
    body = _Body(1)
    for chunk in chunks:
        body.add(chunk)
    return body.record()


class Hashed:
    """Chunks that are handed on, and the SHA-256 of all before the last line, which is that of a seal. Iterate once."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.last_line = 1
        """The number of the last line, once all chunks were taken."""
        self._chunks = chunks
        self._hash = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        """Yield the chunks."""
        held = b""
        for chunk in self._chunks:
            held += chunk
            # A line break that is the very last byte ends the last line; it begins behind the one before.
            begins = held.rfind(b"\n", 0, -1) + 1
            sure = begins if len(held) - begins <= SEAL_BYTES else len(held)
            self._hash.update(held[:sure])
            self.last_line += held.count(b"\n", 0, sure)
            held = held[sure:]
            yield chunk

    def before_last_line(self) -> str:
        """Return the hash, once all chunks were taken."""
        return self._hash.hexdigest()


def peeked(chunks: Iterable[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return what a document begins with, its first line if that is short, and all of its chunks."""
    source = iter(chunks)
    taken = bytearray()
    for chunk in source:
        taken += chunk
        if len(taken) >= HEAD_BYTES or b"\n" in taken.lstrip():
            break
    begin = bytes(taken).removeprefix(BOM)
    return begin.lstrip(), chain([begin], source)
