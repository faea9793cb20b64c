"""Split JSON of any size into records while it is read, in bounded memory.

A record is a line, or an object in the document's list or in a list that is a member of the document. Only brackets are
counted and strings skipped; decoding a record finds invalid JSON.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Iterable, Iterator
from itertools import chain

import msgspec

from chatkeep.imports.records import Record

RECORD_BYTES = 64 * 1024 * 1024
# The most bytes outside of the records of an export.
FRAME_BYTES = 1024 * 1024
HEAD_BYTES = 64 * 1024
# Decoders accept no deeper nesting. Reading stops there, because each bracket costs a microsecond.
MOST_DEPTH = 1000
# More than the length of a seal.
SEAL_BYTES = 4096
BOM = b"\xef\xbb\xbf"
_BETWEEN = b" \t\r\n,"
# Possessive, so that no byte is read twice. A line break ends an unclosed string, because strings can't contain one.
_STRING = re.compile(rb'(?:[^"\\\n]++|\\.)*+', re.DOTALL)
_PLAIN = re.compile(rb'(?:[^"\[\]{}]++|"(?:[^"\\\n]++|\\.)*+")*+', re.DOTALL)


class _Body:
    """Collects bytes up to `RECORD_BYTES`."""

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
        """The document read so far, without its records, up to `FRAME_BYTES`."""
        self.line = 1
        """The current line."""
        self.cut = False
        """Whether the document, or reading it, ended before its last bracket."""
        self.too_deep = False
        """Whether reading stopped at nesting deeper than `MOST_DEPTH`."""
        self._chunks = chunks
        self._depth = 0
        self._level: int | None = None  # the depth of the records in the current list
        self._quoted = False
        self._body: _Body | None = None

    def __iter__(self) -> Iterator[Record]:
        """Yield the records, and any other text between them."""
        rest = b""
        for chunk in self._chunks:
            text = rest + chunk
            # A backslash needs the next character.
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
        """Yield the positions of brackets outside of strings."""
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
        """Process an opening bracket. Yield what ended there, and return up to where the text is processed."""
        if self._body is None and self._level == self._depth and text[at] in b"{":
            yield from self._passed(text[kept:at])
            self._body, kept = _Body(self.line), at
        elif self._level is None and self._depth <= 1 and text[at] in b"[":
            yield from self._passed(text[kept : at + 1])
            self._level, kept = self._depth + 1, at + 1
        self._depth += 1
        return kept

    def _closed(self, text: bytes, kept: int, at: int) -> Generator[Record, None, int]:
        """Process a closing bracket in the same way."""
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
        """Add text to the open record or to the frame. Yield it if it belongs to neither."""
        if self._body is not None:
            self._body.add(part)
        elif self._level is None:
            self.frame += part[: FRAME_BYTES - len(self.frame)]
        elif stray := part.strip(_BETWEEN):
            yield Record(self.line + part[: part.index(stray)].count(b"\n"), stray)
        self.line += part.count(b"\n")


def _end(pattern: re.Pattern[bytes], text: bytes, at: int) -> int:
    """Return the end of a match. Both patterns match the empty string."""
    found = pattern.match(text, at)
    return at if found is None else found.end()


def lines(chunks: Iterable[bytes]) -> Iterator[Record]:
    """Yield a document's non-empty lines."""
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
    """Return whether a document is JSON Lines: its first line is an object, and another one follows."""
    first, _, rest = head.partition(b"\n")
    if not rest.lstrip().startswith(b"{"):
        return False
    try:
        msgspec.json.decode(first, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True


def whole_record(chunks: Iterable[bytes]) -> Record:
    """Return a document as one record."""
    body = _Body(1)
    for chunk in chunks:
        body.add(chunk)
    return body.record()


class HashedChunks:
    """Passes chunks on, and hashes everything before the last line, which is the seal. Iterate once."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.last_line = 1
        """The number of the last line, after the iteration."""
        self._chunks = chunks
        self._hash = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        """Yield the chunks."""
        held = b""
        for chunk in self._chunks:
            held += chunk
            # A line break that is the very last byte belongs to the last line.
            begins = held.rfind(b"\n", 0, -1) + 1
            sure = begins if len(held) - begins <= SEAL_BYTES else len(held)
            self._hash.update(held[:sure])
            self.last_line += held.count(b"\n", 0, sure)
            held = held[sure:]
            yield chunk

    def before_last_line(self) -> str:
        """Return the SHA-256, after the iteration."""
        return self._hash.hexdigest()


def peek(chunks: Iterable[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the beginning of a document, with its first line unless that is long, and all of its chunks."""
    source = iter(chunks)
    taken = bytearray()
    for chunk in source:
        taken += chunk
        if len(taken) >= HEAD_BYTES or b"\n" in taken.lstrip():
            break
    begin = bytes(taken).removeprefix(BOM)
    return begin.lstrip(), chain([begin], source)
