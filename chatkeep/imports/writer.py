"""Putting what a file holds into the database, a little at a time, so that the turns of a running server go on.

Whatever has been stored when an import ends early is skipped by the next one: running it again finishes it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from itertools import accumulate
from types import EllipsisType
from typing import TypeVar
from uuid import UUID

import msgspec
from msgspec.structs import replace

from chatkeep.conversations import branches
from chatkeep.domain.audit import Action, AuditEvent
from chatkeep.domain.conversation import Conversation, Message, Status, now_us
from chatkeep.i18n import Text, _, text_of
from chatkeep.imports.fenced import FencedJournal
from chatkeep.imports.left_out import OTHER, Kind
from chatkeep.imports.records import (
    BadRecord,
    Gone,
    Incoming,
    Item,
    LeftOut,
    Refused,
    Terms,
    id_apart,
    renewed,
    set_apart,
)
from chatkeep.limiting.storage import StorageQuota
from chatkeep.store import conversations, holdings, imports, leases, messages, tombstones
from chatkeep.store.engine import Database
from chatkeep.store.holdings import Stored
from chatkeep.store.imports import MessagePosition
from chatkeep.store.sql import Connection, Duplicate
from chatkeep.store.transaction import Transaction

T = TypeVar("T")
# What one transaction stores: turns wait that long at most for the write lock.
ROWS = 400
CHARACTERS = 2_000_000
CONVERSATIONS = 100
# Problems that are named; more are counted.
PROBLEMS = 1_000
# Kinds of what is left out that are counted apart.
KINDS = 100
_TRIES = 3  # another import may store the same between our read and our write


class Outcome(StrEnum):
    """What becomes of a conversation."""

    ADDED = "added"
    PRESENT = "present"  # nothing of it was missing
    UPDATED = "updated"
    DELETED = "deleted"
    EXPIRED = "expired"  # it is not imported
    NOTHING = "nothing"  # it was to be deleted, and is not there
    FOREIGN = "foreign"  # its id is another owner's, so it gets others
    BURIED = "buried"  # what is stored of it has expired or was deleted, and is in the way


@dataclass(slots=True)
class Report:
    """What an import did."""

    conversations: Counter[str] = field(default_factory=Counter)
    """How many there are of each fate."""
    messages: int = 0
    """How many were stored."""
    problems: list[BadRecord] = field(default_factory=list)
    """The first of the records that were not imported."""
    problem_count: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """What other programs' conversations hold and is not imported: how much of each kind."""

    def add_left_out(self, counts: Counter[str]) -> None:
        """Count what is left out; of the types that no rule knows, only the first get a count of their own."""
        for kind, count in counts.items():
            is_named = kind in self.left_out or kind in set(Kind) or len(self.left_out) < KINDS
            self.left_out[kind if is_named else OTHER] += count

    def add_problem(self, problem: BadRecord) -> None:
        """Count a record that is not imported, and name it where it is one of the first."""
        self.problem_count += 1
        if len(self.problems) < PROBLEMS:
            self.problems.append(problem)


class _Work(msgspec.Struct, frozen=True):
    """Messages that are to be stored, in several transactions where they are many."""

    conversation: Conversation
    messages: list[Message]
    branch: frozenset[UUID]
    replacing: bool = False
    joining: bool = False
    """Whether other messages of the conversation are there, so that branch and forks depend on them, too."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """What became of an item in a transaction, and what is left of it for the next ones."""

    fate: Outcome | None
    messages: int = 0
    rest: _Work | None = None
    reason: Text | None = None


class Writer:
    """Gathers what is to be stored, and stores it. `flush` at the end. Both raise `StoreUnavailable`."""

    def __init__(self, database: Database, journal: FencedJournal, terms: Terms) -> None:
        self.report = Report()
        self._database = database
        self._journal = journal
        self._terms = terms
        self._waiting: list[Incoming | Gone] = []
        self._rows = 0
        self._characters = 0

    def add(self, item: Item) -> None:
        """Store an item now, or with others later."""
        if isinstance(item, BadRecord):
            self.report.add_problem(item)
        elif isinstance(item, LeftOut):
            self.report.add_left_out(item.counts)
        elif timely := self._timely(item):
            self._gather(timely)

    def flush(self) -> None:
        """Store what was gathered."""
        items, self._waiting, self._rows, self._characters = self._waiting, [], 0, 0
        if items:
            self._store(items)

    def _timely(self, item: Incoming | Gone) -> Incoming | Gone | None:
        """Return an item that has not expired, or what is to be done in its place."""
        if isinstance(item, Gone):
            return item
        conversation, now = _kept(item.conversation, self._terms), self._terms.now
        item = replace(item, conversation=conversation)
        if conversation.expires_at is None or conversation.expires_at > now:
            return item
        if self._terms.renew:
            return replace(item, conversation=renewed(conversation, now))
        self.report.conversations[Outcome.EXPIRED] += 1
        return Gone(item.line, conversation.id, "expired") if item.update else None

    def _gather(self, item: Incoming | Gone) -> None:
        rows, characters = (len(item.messages), item.characters) if isinstance(item, Incoming) else (ROWS // 10, 0)
        if self._rows + rows > ROWS or self._characters + characters > CHARACTERS:
            self.flush()
        self._waiting.append(item)
        self._rows += rows
        self._characters += characters
        if len(self._waiting) == CONVERSATIONS:
            self.flush()

    def _store(self, items: list[Incoming | Gone], tries: int = _TRIES) -> None:
        try:
            stored = self._commit(lambda connection: [_stored(connection, item, self._terms) for item in items])
        except Duplicate:
            self._apart(items, tries - 1)
            return
        for item, one in zip(items, stored, strict=True):
            self._follow_up(item, one, tries)

    def _apart(self, items: list[Incoming | Gone], tries: int) -> None:
        """Store items one by one, so that only that which cannot be stored is left out."""
        for item in items:
            if tries:
                self._store([item], tries)
            else:
                self.report.add_problem(BadRecord(item.line, _("it has the id or the timestamp of something stored")))

    def _follow_up(self, item: Incoming | Gone, stored: _Stored, tries: int) -> None:
        """Do what is left to be done for an item, and count it."""
        if stored.reason is not None:
            self.report.add_problem(BadRecord(item.line, stored.reason))
        elif stored.fate is Outcome.FOREIGN:
            self._set_apart(item, tries)
        elif stored.fate is Outcome.BURIED:
            self._clear(_id(item))
            self._store([item], tries)
        else:
            self._finish(item, stored, tries)

    def _set_apart(self, item: Incoming | Gone, tries: int) -> None:
        if tries and isinstance(item, Incoming):
            self._store([set_apart(item, self._terms.owner)], tries - 1)
        else:
            self.report.add_problem(BadRecord(item.line, _("its id belongs to something else")))

    def _finish(self, item: Incoming | Gone, stored: _Stored, tries: int) -> None:
        work = stored.rest
        try:
            while work is not None and work.messages:
                work = self._commit(partial(_some, work=work, quota=self._terms.quota))
            if work is not None:
                self._join(work.conversation)
        except Duplicate:
            self._apart([item], tries - 1)
            return
        self.report.conversations[stored.fate or Outcome.NOTHING] += 1
        self.report.messages += stored.messages

    def _join(self, conversation: Conversation) -> None:
        """Do what `_join` does to a long conversation, in several transactions."""
        id, tip = conversation.id, conversation.current_id  # noqa: A001
        forks = self._database.read(lambda connection: messages.forks(connection, id), long=True)
        route = self._database.read(lambda connection: branches.route_to(connection, id, tip), long=True)
        part = partial(_unless_switched, conversation=conversation, forks=forks)
        branches.correct(lambda work: self._commit(partial(part, work=work)), id, route)

    def _clear(self, id: UUID) -> None:
        """Remove what is left of a conversation that is not seen any more."""
        while not self._commit(partial(_clear_some, owner=self._terms.owner, id=id)):
            pass

    def _commit(self, work: Callable[[Transaction], T]) -> T:
        """Return ``work(connection)``, and pause for as long as it took, so that others get their share."""
        began = time.monotonic()
        done = self._journal.write(work, subjects=self._terms.quota.subjects(self._terms.owner))
        time.sleep(time.monotonic() - began)
        return done


def _id(item: Incoming | Gone) -> UUID:
    return item.id if isinstance(item, Gone) else item.conversation.id


def _stored(connection: Transaction, item: Incoming | Gone, terms: Terms) -> _Stored:
    """Store an item, or the first part of a long one. What is refused has written nothing."""
    try:
        return _deleted(connection, item, terms) if isinstance(item, Gone) else _imported(connection, item, terms)
    except Refused as error:
        return _Stored(None, reason=text_of(error))


def _deleted(connection: Transaction, gone: Gone, terms: Terms) -> _Stored:
    now = now_us()
    if _is_apart(connection, gone.id, terms.owner):
        gone = Gone(gone.line, id_apart(terms.owner, gone.id), gone.reason)
    found = conversations.lock(connection, terms.owner, gone.id, now)
    if found is None:
        return _Stored(Outcome.NOTHING)
    _require_idle(connection, gone.id)
    connection.events.append(AuditEvent(terms.by, Action.CONVERSATION_DELETED, {"conversation_id": gone.id}))
    # The first reason counts.
    tombstones.bury(connection, terms.owner, gone.id, gone.reason, now)
    # A long one is not seen any more, and swept bit by bit.
    remove = conversations.expire if messages.is_long(connection, gone.id) else conversations.delete
    remove(connection, terms.owner, gone.id, now)
    return _Stored(Outcome.DELETED)


def _imported(connection: Transaction, item: Incoming, terms: Terms) -> _Stored:
    id = item.conversation.id  # noqa: A001
    holder = imports.holder(connection, id)
    if {holder, tombstones.holder(connection, id)} - {None, terms.owner} or _is_apart(connection, id, terms.owner):
        return _Stored(Outcome.FOREIGN)
    existing = _existing(connection, item, terms.owner) if holder else None
    if holder and existing is None:
        _require_idle(connection, id)
        return _Stored(Outcome.BURIED)
    known = imports.places(connection, {message.id for message in item.messages} | item.outside)
    _require_fit(item, known)
    if existing is None:
        return _added(connection, item, terms.quota)
    return _merged(connection, item, existing, known, terms)


def _is_apart(connection: Connection, id: UUID, owner: str) -> bool:
    """Return whether a conversation was imported under an id of its own, because this one was another owner's."""
    return imports.holder(connection, id_apart(owner, id)) == owner


def _existing(connection: Connection, item: Incoming, owner: str) -> Conversation | None:
    """Return the conversation that is there.

    An increment also revives one that has expired here and not yet there, as long as nothing of it is swept.
    """
    found = conversations.lock(connection, owner, item.conversation.id, now_us())
    if found is not None or not item.update:
        return found
    found = conversations.lock(connection, owner, item.conversation.id, 0)
    return found if found is not None and messages.count(connection, found.id) >= found.message_count else None


def _added(connection: Transaction, item: Incoming, quota: StorageQuota) -> _Stored:
    """Store a conversation that is not there."""
    conversations.insert(connection, item.conversation)
    tombstones.unbury(connection, item.conversation.id)
    return _begun(connection, Outcome.ADDED, _Work(item.conversation, item.messages, item.branch), quota)


def _merged(
    connection: Transaction, item: Incoming, existing: Conversation, known: dict[UUID, MessagePosition], terms: Terms
) -> _Stored:
    """Bring a conversation up to date that is there, or add what it misses."""
    missing = [message for message in item.messages if message.id not in known]
    fuller = [_in_place(one, known[one.id]) for one in item.messages if _is_fuller(one, known.get(one.id))]
    if not (missing or fuller or item.update) and not _is_unfinished(connection, existing):
        return _Stored(_kept_as_asked(connection, existing, terms))
    _require_idle(connection, existing.id)
    if item.update:
        work = _replacing(item, existing)
    else:
        work = _completing(item, _kept(existing, terms), missing, terms.now)
        branch = work.branch | {one.id for one in fuller if known[one.id].on_branch}
        work = replace(work, messages=[*fuller, *work.messages], branch=branch, replacing=bool(fuller))
    conversations.update(connection, work.conversation)
    tombstones.unbury(connection, existing.id)
    return _begun(connection, Outcome.UPDATED, work, terms.quota)


def _is_fuller(message: Message, stored: MessagePosition | None) -> bool:
    """Return whether a file has more of a reply than what is stored, which was cut or still being written."""
    if stored is None or stored.status is Status.COMPLETED:
        return False
    return message.status is Status.COMPLETED or len(message.content) + len(message.reasoning) > stored.written


def _in_place(message: Message, stored: MessagePosition) -> Message:
    """Return a message where the one stands that it replaces."""
    return replace(message, parent_id=stored.parent_id, timestamp=stored.timestamp, position=stored.position)


def _kept(conversation: Conversation, terms: Terms) -> Conversation:
    """Return a conversation that is kept for as long as the importer asks, if they do."""
    if isinstance(terms.ttl, EllipsisType):
        return conversation
    return renewed(replace(conversation, ttl=terms.ttl), terms.now)


def _kept_as_asked(connection: Transaction, existing: Conversation, terms: Terms) -> Outcome:
    """Keep a conversation of which nothing is missing for as long as the importer asks; the same ttl counts anew."""
    kept = _kept(existing, terms)
    if (kept.ttl, kept.expires_at) != (existing.ttl, existing.expires_at):
        conversations.update(connection, kept)
    return Outcome.PRESENT if kept.ttl == existing.ttl else Outcome.UPDATED


def _is_unfinished(connection: Connection, existing: Conversation) -> bool:
    """Return whether an earlier import has ended before the branch was right."""
    tip = next(messages.above(connection, existing.id, existing.current_id, steps=1), None)
    return tip is not None and not tip.on_branch


def _replacing(item: Incoming, existing: Conversation) -> _Work:
    conversation = replace(
        item.conversation,
        message_count=max(existing.message_count, item.conversation.message_count),
        last_active=max(existing.last_active, item.conversation.last_active),
        forks=existing.forks,
    )
    return _Work(conversation, item.messages, item.branch, replacing=True, joining=True)


def _completing(item: Incoming, existing: Conversation, missing: list[Message], now: int) -> _Work:
    """Return what adds messages: the branch goes on with them, unless it has left that of the file."""
    if existing.current_id is not None and existing.current_id not in item.branch:
        last = existing.message_count
        behind = [replace(message, position=last + count) for count, message in enumerate(missing, 1)]
        return _Work(replace(existing, message_count=last + len(missing)), behind, frozenset(), joining=True)
    conversation = replace(
        existing,
        current_id=item.conversation.current_id,
        message_count=max(existing.message_count, item.conversation.message_count),
        last_active=max(existing.last_active, item.conversation.last_active),
    )
    return _Work(renewed(conversation, now), missing, item.branch, joining=True)


def _begun(connection: Transaction, fate: Outcome, work: _Work, quota: StorageQuota) -> _Stored:
    return _Stored(fate, len(work.messages), _some(connection, work, quota))


def _some(connection: Transaction, work: _Work, quota: StorageQuota) -> _Work | None:
    """Store as many messages as one transaction should; return what is left."""
    until = _until(work.messages)
    now, later = work.messages[:until], work.messages[until:]
    owner = work.conversation.owner
    if work.replacing:
        ids = [message.id for message in now]
        holdings.take_off_some(connection, owner, ids)
        imports.remove(connection, work.conversation.id, ids)
    quota.check(connection, owner, Stored.of(work.messages))
    holdings.add(connection, owner, Stored.of(now))
    imports.add(connection, now, work.branch)
    if later or (work.joining and not _join(connection, work.conversation)):
        return replace(work, messages=later)
    return None


def _until(said: list[Message]) -> int:
    """Return how many of the messages one transaction should store."""
    lengths = accumulate(len(message.content) + len(message.reasoning) for message in said[:ROWS])
    return max(1, sum(length <= CHARACTERS for length in lengths))


def _join(connection: Transaction, conversation: Conversation) -> bool:
    """Let branch and forks be those of the whole tree; return False where one transaction should not."""
    found = conversations.lock(connection, conversation.owner, conversation.id, now_us())
    if found is None:
        return True
    if found.message_count > ROWS:
        return False
    route = branches.route_to(connection, found.id, found.current_id)
    branches.correct(lambda work: work(connection), found.id, route)
    _note_forks(connection, found, messages.forks(connection, found.id))
    return True


def _unless_switched(
    connection: Transaction, conversation: Conversation, forks: int, work: Callable[[Transaction], int]
) -> int:
    """Do a part of what `_join` does, and nothing where somebody has switched the branch meanwhile."""
    found = conversations.lock(connection, conversation.owner, conversation.id, now_us())
    if found is None or found.current_id != conversation.current_id:
        return 0
    _note_forks(connection, found, forks)
    return work(connection)


def _note_forks(connection: Transaction, found: Conversation, forks: int) -> None:
    if forks > found.forks:
        conversations.update(connection, replace(found, forks=forks))


def _clear_some(connection: Transaction, owner: str, id: UUID) -> bool:
    """Delete some of what is left of a conversation that is not seen any more; return whether that was all."""
    now = now_us()
    seen = conversations.lock(connection, owner, id, now) is not None
    if seen or imports.holder(connection, id) != owner or leases.of_conversation(connection, id) is not None:
        return True
    if not messages.delete_some(connection, owner, id).all:
        return False
    conversations.remove(connection, owner, id, now)
    return True


def _require_idle(connection: Connection, id: UUID) -> None:
    if leases.of_conversation(connection, id) is not None:
        raise Refused(_("it is busy: a reply is being generated; import the file again when that has ended"))


def _require_fit(item: Incoming, known: dict[UUID, MessagePosition]) -> None:
    """Raise `Refused` where the messages cannot stand in the tree that is stored."""
    if any(place.conversation_id != item.conversation.id for place in known.values()):
        raise Refused(_("the id of one of its messages belongs to something else"))
    absent = next(iter(item.outside - known.keys()), None)
    if absent is not None:
        raise Refused(
            _(
                "it goes on from the message {id}, which is not there; import the export before it first, with "
                "--renew where this conversation was left out as expired",
                id=absent,
            )
        )
    for message in item.messages:
        _require_place(message, known, moving=item.update)


def _require_place(message: Message, known: dict[UUID, MessagePosition], *, moving: bool) -> None:
    place = known.get(message.id)
    parent = known.get(message.parent_id) if message.parent_id else None
    if place is None:
        if parent is not None and parent.timestamp >= message.timestamp:
            raise Refused(_("its message {id} is not later than its parent", id=message.id))
    elif moving and (place.parent_id, place.timestamp) != (message.parent_id, message.timestamp):
        raise Refused(_("its message {id} stands elsewhere in what is stored", id=message.id))
