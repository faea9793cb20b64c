"""A table with a row for each message, for spreadsheets: RFC 4180 in UTF-8, and nothing in it is run as a formula."""

from __future__ import annotations

from collections.abc import Sequence
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
# A cell that begins with one of these could be run by the program that opens the file; the quote makes it text.
_FORMULA = tuple(sign.encode() for sign in "=+-@\t\r\n＝＋－＠")  # noqa: RUF001 - the full-width ones are meant
_FORMULA_BYTES = frozenset(sign[:1] for sign in _FORMULA)


class Csv:
    """All messages of the tree, a row each; ``bom`` tells Excel that the text is UTF-8."""

    media_type: ClassVar = "text/csv"
    suffix: ClassVar = "csv"
    branch_only: ClassVar = False
    records: ClassVar = False

    def __init__(self, *, bom: bool = False) -> None:
        self._bom = bom
        self._head = b""

    def begin(self) -> bytes:
        """Return the row of headings."""
        return (BOM if self._bom else b"") + ",".join(COLUMNS).encode() + b"\r\n"

    def conversation(self, row: ConversationRow) -> bytes:
        """Return nothing: its cells are in every row of its messages."""
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
                # Mostly the message before, whose text is there.
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
        """Return nothing: the last row is the end."""
        return b""


def cell(text: bytes) -> bytes:
    """Return UTF-8 as a quoted cell that is no formula."""
    inert = b"\"'" if text[:1] in _FORMULA_BYTES and text.startswith(_FORMULA) else b'"'
    return inert + text.replace(b'"', b'""') + b'"'


@lru_cache(maxsize=1024)
def _kind(text: str) -> bytes:
    kind = kind_of(text)
    texts = [cell(text.encode()) if text else b"" for text in (kind.model, kind.finish_reason, kind.error)]
    flags = (_BOOLEANS[kind.on_branch], kind.role.encode(), _BOOLEANS[kind.role == ASSISTANT], kind.status.encode())
    return b",".join((*flags, *texts, _BOOLEANS[kind.cached]))
