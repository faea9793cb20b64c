"""CSV for spreadsheets with a row for each message: RFC 4180, UTF-8, and safe from formula injection."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import ClassVar

from chatkeep.exports.formats.text import ASSISTANT, time_text, uuid_text, uuid_texts
from chatkeep.store.exports import ConversationRow, MessageRow, kind_of

COLUMNS = (
    "conversation_id",
    "title",
    "message_id",
    "parent_id",
    "position",
    "timestamp",
    "on_branch",
    "role",
    "ai_generated",
    "status",
    "model",
    "finish_reason",
    "error",
    "cached",
    "input_tokens",
    "output_tokens",
    "content",
    "reasoning",
)
_BOOLEANS = (b"false", b"true")
BOM = "\ufeff".encode()
# Characters that programs may drop before they detect a formula: controls, white space, quotes, invisible ones.
_DROPPED = (
    rb"[\0-\x20\"\x7f]|\xc2[\x80-\xa0\xad]|\xe1(?:\x9a\x80|\xa0\x8e)"
    rb"|\xe2(?:\x80[\x80-\x8f\xa8-\xaf]|\x81[\x9f-\xaf])|\xe3\x80\x80|\xef(?:\xbb\xbf|\xbf[\xb9-\xbf])"
)
_WIDE = rb"\xef\xbc[\x8b\x8d\x9d\xa0]|\xef\xb9[\xa2\xa3\xa6\xab]|\xe2\x88\x92"  # full-width and small signs
# The beginning of a cell that a program could run as a formula. A quote before it makes it text.
_FORMULA = re.compile(rb"[\t\r\n]|(?:" + _DROPPED + rb")*+(?:[-=+@]|" + _WIDE + rb")")
_FORMULA_BYTES = frozenset([*range(0x21), *b'"-=+@\x7f\xc2\xe1\xe2\xe3\xef'])
# A program set to other separators begins cells within a text, and ignores its quotes.
_SEPARATORS = b";\t\r\n"
_BEFORE = bytes([*range(0x21), *b'";\x7f\xc2\xe1\xe2\xe3\xef', *range(0x80, 0xC0)])  # all bytes of dropped characters
# A formula's sign after dropped characters or at a cell's beginning. The expression begins with the sign's first byte,
# which is fast to search for.
_WITHIN = re.compile(
    rb"[-=+@\xe2\xef](?<=[\0-\x20\";\x7f-\xbf].)"
    rb"(?:(?<=[-=+@])|(?<=\xef)(?:\xbc[\x8b\x8d\x9d\xa0]|\xb9[\xa2\xa3\xa6\xab])|(?<=\xe2)\x88\x92)",
    re.DOTALL,
)
# List items, command options and rules are left alone there, unless they look like calls.
_ITEM = re.compile(rb"[-+]++(?![\w(.'$\[{@#\x80-\xff]|[^;\t\r\n]*(?:\||\w\())")


class Csv:
    """A row for each message of the tree. ``bom`` tells Excel that the text is UTF-8."""

    media_type: ClassVar = "text/csv"
    suffix: ClassVar = "csv"
    branch_only: ClassVar = False
    records: ClassVar = False

    def __init__(self, *, bom: bool = False) -> None:
        self._bom = bom
        self._head = b""

    def begin(self) -> bytes:
        """Return the header row."""
        return (BOM if self._bom else b"") + ",".join(COLUMNS).encode() + b"\r\n"

    def conversation(self, row: ConversationRow) -> bytes:
        """Return nothing: every row of a message repeats its conversation's cells."""
        self._head = uuid_text(row.id) + b"," + cell(row.title.encode()) + b","
        return b""

    def messages(self, rows: Sequence[MessageRow]) -> bytes:
        """Return the messages' rows."""
        parts: list[bytes] = []
        previous, previous_text = b"", b""
        for text, row in zip(uuid_texts([row[1] for row in rows]), rows, strict=True):
            _, id, parent_id, timestamp, position, content, reasoning, sent, written, kind = row  # noqa: A001
            parts += (
                self._head,
                text,
                b",",
                # Usually the previous message, whose text is known.
                previous_text if parent_id == previous else uuid_text(parent_id) if parent_id else b"",
                b",%d,%b," % (position, time_text(timestamp)),
                _kind(kind),
                b",,," if sent is None else b",%d,%d," % (sent, written),
                cell(content),
                b"," + cell(reasoning) + b"\r\n" if reasoning else b",\r\n",
            )
            previous, previous_text = id, text
        return b"".join(parts)

    def finish(self) -> bytes:
        """Return nothing."""
        return b""


def cell(text: bytes) -> bytes:
    """Quote a cell so that neither it nor a cell that another separator makes of it is a formula."""
    inert = b"\"'" if text and text[0] in _FORMULA_BYTES and _FORMULA.match(text) else b'"'
    if len(text.translate(None, _SEPARATORS)) != len(text):
        text = b"'".join(_cells(text))
    return inert + text.replace(b'"', b'""') + b'"'


def _cells(text: bytes) -> Iterator[bytes]:
    """Split a text before each formula."""
    began = seen = 0
    for found in _WITHIN.finditer(text):
        at = found.start()
        if (text[at - 1] in _SEPARATORS or _is_behind_separator(text[seen:at])) and not _ITEM.match(text, at):
            yield text[began:at]
            began = at
        seen = at
    yield text[began:]


def _is_behind_separator(text: bytes) -> bool:
    dropped = text[len(text.rstrip(_BEFORE)) :]
    return len(dropped.translate(None, _SEPARATORS)) != len(dropped)


@lru_cache(maxsize=1024)
def _kind(text: str) -> bytes:
    kind = kind_of(text)
    texts = [cell(text.encode()) if text else b"" for text in (kind.model, kind.finish_reason, kind.error)]
    flags = (_BOOLEANS[kind.on_branch], kind.role.encode(), _BOOLEANS[kind.role == ASSISTANT], kind.status.encode())
    return b",".join((*flags, *texts, _BOOLEANS[kind.cached]))
