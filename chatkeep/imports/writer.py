"""Write imported items to the database in small transactions, so that the turns of a running server go on.

An import that ends early is finished by running it again: what it stored is skipped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar
from uuid import UUID

from msgspec.structs import replace

from chatkeep.conversations import branches
from chatkeep.domain.conversation import Conversation
from chatkeep.i18n import _
from chatkeep.imports import batches, merging
from chatkeep.imports.batches import CHARACTERS, ROWS
from chatkeep.imports.fenced import FencedJournal
from chatkeep.imports.records import (
    BadRecord,
    ConversationItem,
    DeletedConversation,
    ImportedConversation,
    ImportOptions,
    Item,
    LeftOut,
    with_own_ids,
    with_renewed_ttl,
)
from chatkeep.imports.report import Outcome, Report
from chatkeep.store import messages
from chatkeep.store.engine import Database
from chatkeep.store.sql import Duplicate
from chatkeep.store.transaction import Transaction

T = TypeVar("T")
# The most that one transaction stores, beside `ROWS` and `CHARACTERS`.
CONVERSATIONS = 100
# Another process may store the same conversation between our read and our write.
_TRIES = 3


class Writer:
    """Batches items and stores them. Call `flush` at the end. `add` and `flush` raise `StoreUnavailable`."""

    def __init__(self, database: Database, journal: FencedJournal, options: ImportOptions) -> None:
        self.report = Report()
        self._database = database
        self._journal = journal
        self._options = options
        self._pending: list[ConversationItem] = []
        self._rows = 0
        self._characters = 0

    def add(self, item: Item) -> None:
        """Store an item, now or together with later ones."""
        if isinstance(item, BadRecord):
            self.report.add_problem(item)
        elif isinstance(item, LeftOut):
            self.report.add_left_out(item.counts)
        elif unexpired := self._unexpired(item):
            self._enqueue(unexpired)

    def flush(self) -> None:
        """Store the pending items."""
        items, self._pending, self._rows, self._characters = self._pending, [], 0, 0
        if items:
            self._store(items)

    def _unexpired(self, item: ConversationItem) -> ConversationItem | None:
        """Apply the import's ttl to an item. Return None, or its deletion by an increment, if it has expired."""
        if isinstance(item, DeletedConversation):
            return item
        conversation, now = merging.with_ttl(item.conversation, self._options), self._options.now
        item = replace(item, conversation=conversation)
        if conversation.expires_at is None or conversation.expires_at > now:
            return item
        if self._options.renew:
            return replace(item, conversation=with_renewed_ttl(conversation, now))
        self.report.conversations[Outcome.EXPIRED] += 1
        return DeletedConversation(item.line, conversation.id, "expired") if item.update else None

    def _enqueue(self, item: ConversationItem) -> None:
        rows, characters = (
            (len(item.messages), item.characters) if isinstance(item, ImportedConversation) else (ROWS // 10, 0)
        )
        if self._rows + rows > ROWS or self._characters + characters > CHARACTERS:
            self.flush()
        self._pending.append(item)
        self._rows += rows
        self._characters += characters
        if len(self._pending) == CONVERSATIONS:
            self.flush()

    def _store(self, items: list[ConversationItem], tries: int = _TRIES) -> None:
        try:
            stored = self._commit(lambda connection: [merging.store(connection, item, self._options) for item in items])
        except Duplicate:
            self._store_each(items, tries - 1)
            return
        for item, one in zip(items, stored, strict=True):
            self._complete(item, one, tries)

    def _store_each(self, items: list[ConversationItem], tries: int) -> None:
        """Store items one by one, so that only the one in conflict is skipped."""
        for item in items:
            if tries:
                self._store([item], tries)
            else:
                self.report.add_problem(BadRecord(item.line, _("it has the id or the timestamp of something stored")))

    def _complete(self, item: ConversationItem, stored: merging.Stored, tries: int) -> None:
        """Do what the transaction left to do for an item, and count its outcome."""
        if stored.reason is not None:
            self.report.add_problem(BadRecord(item.line, stored.reason))
        elif stored.outcome is Outcome.FOREIGN:
            self._store_under_own_ids(item, tries)
        elif stored.outcome is Outcome.BURIED:
            self._remove(_id(item))
            self._store([item], tries)
        else:
            self._finish(item, stored, tries)

    def _store_under_own_ids(self, item: ConversationItem, tries: int) -> None:
        if tries and isinstance(item, ImportedConversation):
            self._store([with_own_ids(item, self._options.owner)], tries - 1)
        else:
            self.report.add_problem(BadRecord(item.line, _("its id belongs to something else")))

    def _finish(self, item: ConversationItem, stored: merging.Stored, tries: int) -> None:
        batch = stored.rest
        try:
            while batch is not None and batch.messages:
                batch = self._commit(partial(batches.store_some, batch=batch, quota=self._options.quota))
            if batch is not None:
                self._update_branch(batch.conversation)
        except Duplicate:
            self._store_each([item], tries - 1)
            return
        self.report.conversations[stored.outcome or Outcome.NOTHING] += 1
        self.report.messages += stored.messages

    def _update_branch(self, conversation: Conversation) -> None:
        """Update the branch and the forks of a long conversation in several transactions."""
        id, tip = conversation.id, conversation.current_id  # noqa: A001
        forks = self._database.read(lambda connection: messages.forks(connection, id), long=True)
        route = self._database.read(lambda connection: branches.route_to(connection, id, tip), long=True)
        part = partial(batches.unless_switched, conversation=conversation, forks=forks)
        branches.rebuild(lambda work: self._commit(partial(part, work=work)), id, route)

    def _remove(self, id: UUID) -> None:
        """Remove the rows of a deleted or expired conversation."""
        while not self._commit(partial(merging.remove_some, owner=self._options.owner, id=id)):
            pass

    def _commit(self, work: Callable[[Transaction], T]) -> T:
        """Return ``work(connection)``, and pause for as long as it took, so that other writers get their share."""
        began = time.monotonic()
        done = self._journal.write(work, subjects=self._options.quota.subjects(self._options.owner))
        time.sleep(time.monotonic() - began)
        return done


def _id(item: ConversationItem) -> UUID:
    return item.id if isinstance(item, DeletedConversation) else item.conversation.id
