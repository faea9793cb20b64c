"""Export conversations as a stream of any size.

One page of messages is read and rendered at a time, so memory stays bounded. An export is not a snapshot: each
conversation is as it was when its page was read. All changes since the export began are in the increment that begins
with its cursor.
"""

from __future__ import annotations

import hashlib
import re
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import replace
from operator import itemgetter
from typing import Any

from chatkeep.domain.conversation import now_us
from chatkeep.errors import NO_CONVERSATION, FieldError, InvalidFields, NotFound
from chatkeep.exports.formats import Document, Format
from chatkeep.exports.formats.documents import Seal
from chatkeep.exports.redaction import RowRedactor
from chatkeep.i18n import _
from chatkeep.redaction.policies import OFF, Redaction
from chatkeep.runtime.concurrency import native_sleep, on_event_loop
from chatkeep.store import counters, epochs, exports, tombstones
from chatkeep.store.engine import Database
from chatkeep.store.exports import ConversationRow, Pages, Selection
from chatkeep.store.sql import Connection
from chatkeep.store.tombstones import TombstoneRow

# A page ends with whichever comes first, so that long messages take no more memory.
PAGE_MESSAGES = 2_000
PAGE_BYTES = 2 * 1024 * 1024
PAGE_TOMBSTONES = 2_000
# Conversations that expire during an export are included for this long. No transaction takes as long.
_LAG_US = 30_000_000
_CONVERSATION_ID = itemgetter(0)
_CURSOR = re.compile(r"[1-9][0-9]{0,17}")


class Export:
    """A running export. The constructor reads the first page, so that most errors are raised early.

    Iterate once for the bytes. ``beside`` has more lines for JSON Lines, and is read after the conversations. Raises
    `NotFound`, `InvalidFields`, `StoreUnavailable`, also during the iteration, which leaves the export incomplete.
    """

    def __init__(
        self,
        database: Database,
        selection: Selection,
        format: Format,
        redaction: Redaction = OFF,
        *,
        beside: Iterable[bytes] = (),
    ) -> None:
        check_selection(selection, format)
        self._beside = beside
        self.title: str | None = None
        """The title of the first conversation."""
        self.conversations = 0
        self.messages = 0
        self.tombstones = 0
        self.cursor: str | None = None
        """The cursor of the next increment; None if the export can't be continued."""
        self._database = database
        self._selection = selection
        self._format = format
        self._redacting = RowRedactor(redaction.export, records=format.records) if redaction.export else None
        self._document = format if isinstance(format, Document) else None
        self._pages = Pages(replace(selection, branch_only=format.branch_only, records=format.records))
        # Before the epoch is closed: a conversation skipped as expired can't be revived in a later epoch.
        self._began = now_us()
        if self._document and selection.conversation_id is None and not selection.ranged:
            self.cursor = str(epochs.close(database))
        self._first = self._page()
        if selection.conversation_id is not None and not self.conversations:
            raise NotFound(NO_CONVERSATION)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes, in pieces of a quarter of a megabyte unless messages are larger."""
        if self._document is None:
            yield self._format.begin()
            yield from self._body()
            return
        digest = hashlib.sha256()
        for chunk in self._document_chunks(self._document):
            digest.update(chunk)
            yield chunk
        gone = None if self._selection.since is None else self.tombstones
        yield self._document.seal(Seal(self.conversations, self.messages, digest.hexdigest(), gone, self.cursor))

    def _document_chunks(self, document: Document) -> Iterator[bytes]:
        since = self._selection.since
        yield document.begin(None if since is None else str(since))
        yield from self._body()
        if since is not None:
            yield from document.tombstones(self._tombstones(since))
        yield from self._beside

    def _body(self) -> Iterator[bytes]:
        yield from self._first
        while not self._pages.ended:
            yield from self._page()
        yield self._format.finish()

    def _tombstones(self, since: int) -> Iterator[list[TombstoneRow]]:
        """Yield the tombstones since that epoch, page by page: last, so that they override what came before."""
        epoch, after = since + 1, b""
        while rows := self._page_of_tombstones(epoch, after):
            self.tombstones += len(rows)
            yield rows
            epoch, after = rows[-1].epoch, rows[-1].conversation_id
        cursor_epoch(self._database, str(since))  # some may have been deleted meanwhile

    def _page_of_tombstones(self, epoch: int, after: bytes) -> list[TombstoneRow]:
        return self._database.read(
            lambda connection: tombstones.page(connection, self._selection.owner, epoch, after, PAGE_TOMBSTONES),
            long=True,
        )

    def _page(self) -> list[bytes]:
        return self._database.read(self._read_page, long=True)

    def _read_page(self, connection: Connection) -> list[bytes]:
        """Return the next page in pieces. On SQLite it is read and rendered outside of the event loop."""
        pieces: list[bytes] = []
        pause = native_sleep if self._database.embedded else time.sleep
        size, until, began = 0, self.messages + PAGE_MESSAGES, time.monotonic()
        for conversations, messages in self._pages.page(connection, max(self._began, now_us() - _LAG_US)):
            self.messages += len(messages)
            pieces.append(self._redacted(conversations, messages))
            size += len(pieces[-1])
            if self.messages >= until or size >= PAGE_BYTES:
                break
            if on_event_loop():
                pause(time.monotonic() - began)  # so streams get half of the time
                began = time.monotonic()
        return pieces

    def _redacted(self, conversations: list[ConversationRow], messages: list[Any]) -> bytes:
        """Redact rows and render them."""
        if self._redacting:
            conversations = [self._redacting.conversation(row) for row in conversations]
            messages = self._redacting.messages(messages)
        return self._rendered(conversations, messages)

    def _rendered(self, conversations: list[ConversationRow], messages: list[Any]) -> bytes:
        """Render conversations with their messages, which are in the order of the conversations' ids.

        Without conversations, the messages continue the previous one.
        """
        if not conversations:
            return self._format.messages(messages)
        written: list[bytes] = []
        end = 0
        for conversation in conversations:
            begin, end = end, bisect_right(messages, conversation.id, lo=end, key=_CONVERSATION_ID)
            rows = messages[begin:end]
            if rows or not self._selection.ranged:
                written += (self._format.conversation(conversation), self._format.messages(rows))
                self.conversations += 1
        if self.title is None and conversations:
            self.title = conversations[0].title
        return b"".join(written)


def check_selection(selection: Selection, format: Format) -> None:
    """Raise `InvalidFields` if a selection with ``since`` is not possible in the format."""
    narrowed = selection.ranged or selection.conversation_id is not None
    if selection.since is not None and (narrowed or not isinstance(format, Document)):
        reason = _("an increment is of all conversations without dates, in json or ndjson")
        raise InvalidFields.of([FieldError("cursor", reason)])


def cursor_epoch(database: Database, text: str) -> int:
    """Return the epoch after which an increment with this cursor begins. Raises `InvalidFields`, `StoreUnavailable`.

    A cursor is valid as long as the tombstones since then are kept.
    """

    def read(connection: Connection) -> tuple[int, int]:
        return counters.get(connection, tombstones.FORGOTTEN), epochs.current(connection)

    oldest, current = database.read(read)
    if not _CURSOR.fullmatch(text) or not oldest <= int(text) < current:
        raise InvalidFields(
            _("This cursor cannot be continued; begin again with an export without a cursor."),
            errors=[FieldError("cursor", _("it is not one of this server's, or older than what it remembers"))],
        )
    return int(text)


def count(database: Database, owner: str) -> int:
    """Estimate how many conversations a full export has. Raises `StoreUnavailable`."""
    return database.read(lambda connection: exports.count(connection, owner, now_us()))
