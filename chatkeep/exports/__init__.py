"""Exports: conversations as a file of any size, written while it is read.

A page of messages is read and rendered at a time, so memory does not grow with what there is. An export is not the
picture of one moment: a conversation is as it is when its page is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import Any

from chatkeep.errors import NO_CONVERSATION, NotFound
from chatkeep.exports.formats import Format
from chatkeep.model import now_us
from chatkeep.store import exports
from chatkeep.store.engine import Database
from chatkeep.store.exports import ConversationRow, Pages, Scope
from chatkeep.store.sql import Connection

# A page ends with whichever comes first: a page of long messages must not take more memory.
PAGE_MESSAGES = 2_000
PAGE_BYTES = 2 * 1024 * 1024
# Pieces that are handed on as one: fewer would cost a write each, more would only take memory.
CHUNK_PIECES = 4


class Export:
    """An export under way. Its first page is there from the beginning, so that what fails at once fails early.

    Iterate for its bytes, once. Raises `NotFound`, `StoreUnavailable`; the latter also amid the iteration, after which
    the bytes are not a whole export.
    """

    def __init__(self, database: Database, scope: Scope, format: Format) -> None:
        self.title: str | None = None
        """The title of the first conversation."""
        self.conversations = 0
        self.messages = 0
        self._database = database
        self._scope = scope
        self._format = format
        self._pages = Pages(replace(scope, branch_only=format.branch_only, records=format.records))
        self._first = self._page()
        if scope.conversation_id is not None and not self.conversations:
            raise NotFound(NO_CONVERSATION)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes, a quarter of a megabyte at a time as long as messages are small."""
        digest = hashlib.sha256()
        for chunk in self._chunks():
            if self._format.sealed:
                digest.update(chunk)
            yield chunk
        if self._format.sealed:
            yield self._format.seal(self.conversations, self.messages, digest.hexdigest())

    def _chunks(self) -> Iterator[bytes]:
        yield self._format.begin()
        yield from self._first
        while not self._pages.ended:
            yield from self._page()
        yield self._format.finish()

    def _page(self) -> list[bytes]:
        return self._database.read(self._read_page, long=True)

    def _read_page(self, connection: Connection) -> list[bytes]:
        """Return the next page in chunks; on the embedded database it is read and rendered beside the event loop."""
        chunks: list[bytes] = []
        pieces: list[bytes] = []
        size, until = 0, self.messages + PAGE_MESSAGES
        for conversations, messages in self._pages.page(connection, now_us()):
            self.messages += len(messages)
            pieces.append(self._rendered(conversations, messages))
            size += len(pieces[-1])
            if len(pieces) == CHUNK_PIECES:
                chunks.append(b"".join(pieces))
                pieces.clear()
            if self.messages >= until or size >= PAGE_BYTES:
                break
        return [*chunks, b"".join(pieces)]

    def _rendered(self, conversations: list[ConversationRow], messages: list[Any]) -> bytes:
        """Return what begins here, each with its messages; the messages of a conversation amid stand alone."""
        if not conversations:
            return self._format.messages(messages)
        of = {conversation_id: list(rows) for conversation_id, rows in groupby(messages, key=itemgetter(0))}
        written: list[bytes] = []
        for conversation in conversations:
            rows = of.get(conversation.id, [])
            if rows or not self._scope.ranged:
                written += (self._format.conversation(conversation), self._format.messages(rows))
                self.conversations += 1
        if self.title is None and conversations:
            self.title = conversations[0].title
        return b"".join(written)


def count(database: Database, owner: str) -> int:
    """Return how many conversations an export of all will hold, about. Raises `StoreUnavailable`."""
    return database.read(lambda connection: exports.count(connection, owner, now_us()))
