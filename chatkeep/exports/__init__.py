"""Exports: conversations as a file of any size, written while it is read.

A page of messages is read and rendered at a time, so memory does not grow with what there is. An export is not the
picture of one moment: a conversation is as it is when its page is read. What changes from its beginning on is in the
increment that begins with its cursor, whether it is in the export or not.
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
from chatkeep.exports.redaction import Redacting
from chatkeep.i18n import _
from chatkeep.redaction.policies import OFF, Redaction
from chatkeep.runtime.concurrency import native_sleep, on_event_loop
from chatkeep.store import counters, epochs, exports, tombstones
from chatkeep.store.engine import Database
from chatkeep.store.exports import ConversationRow, Pages, Selection
from chatkeep.store.sql import Connection
from chatkeep.store.tombstones import TombstoneRow

# A page ends with whichever comes first: a page of long messages must not take more memory.
PAGE_MESSAGES = 2_000
PAGE_BYTES = 2 * 1024 * 1024
PAGE_TOMBSTONES = 2_000
# What expires while an export goes on is in it no longer than this. No transaction takes as long.
_LAG_US = 30_000_000
_CONVERSATION_ID = itemgetter(0)
_CURSOR = re.compile(r"[1-9][0-9]{0,17}")


class Export:
    """An export under way. Its first page is there from the beginning, so that what fails at once fails early.

    ``beside`` has lines for JSON lines to have behind the conversations, and is read then. Iterate for its bytes, once.
    Raises `NotFound`, `InvalidFields`, `StoreUnavailable`; also amid the iteration, after which the bytes are not a
    whole export.
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
        """With what the next increment begins; None where the export is no ground for one."""
        self._database = database
        self._selection = selection
        self._format = format
        self._redacting = Redacting(redaction.export, records=format.records) if redaction.export else None
        self._document = format if isinstance(format, Document) else None
        self._pages = Pages(replace(selection, branch_only=format.branch_only, records=format.records))
        # Before the epoch is closed: what is left out as expired then, no transaction of a later epoch can revive.
        self._began = now_us()
        if self._document and selection.conversation_id is None and not selection.ranged:
            self.cursor = str(epochs.close(database))
        self._first = self._page()
        if selection.conversation_id is not None and not self.conversations:
            raise NotFound(NO_CONVERSATION)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes, a quarter of a megabyte at a time as long as messages are small."""
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
            yield from document.tombstones(self._gone(since))
        yield from self._beside

    def _body(self) -> Iterator[bytes]:
        yield from self._first
        while not self._pages.ended:
            yield from self._page()
        yield self._format.finish()

    def _gone(self, since: int) -> Iterator[list[TombstoneRow]]:
        """Yield what is gone since that epoch, a page at a time: after all else, so that it has the last word."""
        epoch, after = since + 1, b""
        while rows := self._page_of_tombstones(epoch, after):
            self.tombstones += len(rows)
            yield rows
            epoch, after = rows[-1].epoch, rows[-1].conversation_id
        cursor_epoch(self._database, str(since))  # some may have been forgotten meanwhile

    def _page_of_tombstones(self, epoch: int, after: bytes) -> list[TombstoneRow]:
        return self._database.read(
            lambda connection: tombstones.page(connection, self._selection.owner, epoch, after, PAGE_TOMBSTONES),
            long=True,
        )

    def _page(self) -> list[bytes]:
        return self._database.read(self._read_page, long=True)

    def _read_page(self, connection: Connection) -> list[bytes]:
        """Return the next page in pieces; on the embedded database it is read and rendered beside the event loop."""
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
        """Return what `_rendered` makes of the rows as they may go out."""
        if self._redacting:
            conversations = [self._redacting.conversation(row) for row in conversations]
            messages = self._redacting.messages(messages)
        return self._rendered(conversations, messages)

    def _rendered(self, conversations: list[ConversationRow], messages: list[Any]) -> bytes:
        """Return what begins here, each with its messages, which come in the order of the conversations' ids.

        The messages of a conversation amid stand alone.
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
    """Raise `InvalidFields` where there is no increment of such a selection in such a format."""
    narrowed = selection.ranged or selection.conversation_id is not None
    if selection.since is not None and (narrowed or not isinstance(format, Document)):
        reason = _("an increment is of all conversations without dates, in json or ndjson")
        raise InvalidFields.of([FieldError("cursor", reason)])


def cursor_epoch(database: Database, text: str) -> int:
    """Return the epoch behind which an increment with this cursor begins. Raises `InvalidFields`, `StoreUnavailable`.

    A cursor is as good as the tombstones that are kept: without one it would not tell of what is gone.
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
    """Return how many conversations an export of all will hold, about. Raises `StoreUnavailable`."""
    return database.read(lambda connection: exports.count(connection, owner, now_us()))
