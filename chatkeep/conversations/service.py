"""List, read, change and delete conversations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from types import EllipsisType
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from msgspec.structs import replace

from chatkeep.conversations import branches
from chatkeep.domain.audit import COMMAND_LINE, Action, Actor, AuditEvent
from chatkeep.domain.conversation import Conversation, Message, expiry, now_us
from chatkeep.errors import (
    NO_CONVERSATION,
    NO_MESSAGE,
    FieldError,
    InvalidFields,
    NotFound,
    stored_in_part,
)
from chatkeep.i18n import _
from chatkeep.store import conversations, messages
from chatkeep.store.conversations import Position, Sorting
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.sql import Connection
from chatkeep.store.transaction import Transaction

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ListPage:
    """Which part of the list of conversations is wanted: at most ``limit`` behind where a page ended, or behind one."""

    limit: int
    after: Position | UUID | None = None
    ascending: bool = False
    sort: Sorting = "activity"


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of the list of conversations, with where it ends; by creation that is its last conversation's id."""

    conversations: list[Conversation]
    has_more: bool
    sort: Sorting = "activity"
    until: int | None = None
    """What `Position.until` is for its end."""


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted: at most ``limit`` items behind the one with the id ``after``."""

    limit: int
    after: UUID | None = None
    ascending: bool = False


class Changes(msgspec.Struct, frozen=True):
    """What to change in a conversation; ``...`` leaves a thing as it is."""

    title: str | EllipsisType = ...
    system: str | EllipsisType | None = ...
    ttl: int | EllipsisType | None = ...
    pinned: bool | EllipsisType = ...
    metadata: dict[str, Any] | EllipsisType = ...
    current_id: UUID | EllipsisType = ...
    """A message of the branch that becomes the current one, down to its newest end."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A conversation, a page of its current branch's messages, and whether more follow.

    ``siblings`` has, for the messages that have any, their ids with the message's own.
    """

    conversation: Conversation
    messages: list[Message]
    has_more: bool
    siblings: dict[UUID, list[UUID]]


def list_conversations(
    database: Database, owner: str, page: ListPage, query: str | None = None, *, pinned: bool | None = None
) -> Listed:
    """Return a page of the owner's conversations.

    ``query`` keeps those whose title or text contains each of its words, ``pinned`` those that are pinned or are not.
    Raises `InvalidFields`, `StoreUnavailable`; of a query `DatabaseBusy`, `DatabaseTimeout`.
    """
    only = conversations.Filter(query, pinned)

    def by_creation(connection: Connection) -> Listed:
        found = conversations.by_creation(
            connection,
            owner,
            now_us(),
            limit=page.limit + 1,
            after=page.after.id if isinstance(page.after, Position) else page.after,
            ascending=page.ascending,
            only=only,
        )
        return Listed(found[: page.limit], len(found) > page.limit, page.sort)

    def by_activity(connection: Connection) -> Listed:
        now = now_us()
        after = _position(connection, owner, page.after, now) if isinstance(page.after, UUID) else page.after
        until = after.until if after else conversations.latest(connection, owner) if page.ascending else None
        found = conversations.newest(
            connection,
            owner,
            now,
            limit=page.limit + 1,
            after=after,
            ascending=page.ascending,
            only=only,
        )
        return Listed(found[: page.limit], len(found) > page.limit, until=until)

    read = by_creation if page.sort == "created" else by_activity
    return database.scan(read) if query else database.read(read)


def _position(connection: Connection, owner: str, id: UUID, now: int) -> Position:
    """Return where a conversation stands in the list now. Raises `InvalidFields`."""
    found = conversations.get(connection, owner, id, now)
    if found is None:
        raise InvalidFields.not_in_list()
    return Position(found.last_active, id)


def read_conversation(database: Database, owner: str, id: UUID, page: Page) -> Reading:
    """Return a conversation with a page of its messages. Raises `NotFound`, `InvalidFields`, `StoreUnavailable`."""

    def read(connection: Connection, *, far: bool = False) -> Reading | None:
        found = conversations.get(connection, owner, id, now_us())
        if found is None:
            raise NotFound(NO_CONVERSATION)
        if found.forks and page.ascending and not far:
            return None
        shown, has_more = _cut(_messages(connection, found, page), page)
        return Reading(found, shown, has_more, messages.siblings(connection, id, shown) if found.forks else {})

    # Forwards, a branch is looked for among all others.
    found = database.read(read) or database.read(partial(read, far=True), long=True)
    if found is None:
        raise NotFound(NO_CONVERSATION)
    return found


def _messages(connection: Connection, conversation: Conversation, page: Page) -> list[Message] | None:
    """Return a page of the current branch with one message more; None where ``after`` is not on it.

    Read backwards, a tree is walked from the branch's end, so that other branches cost nothing.
    """
    id, limit, tip = conversation.id, page.limit + 1, conversation.current_id  # noqa: A001
    if page.ascending or not conversation.forks:
        return messages.page(connection, id, limit=limit, after=page.after, ascending=page.ascending)
    if page.after is not None:
        behind = next(messages.above(connection, id, page.after, steps=1), None)
        if behind is None or not behind.on_branch:
            return None
        tip = behind.parent_id
    return messages.nearest(connection, id, tip, limit)


def require_message(database: Database, owner: str, id: UUID, message_id: UUID) -> Message:
    """Return one message of the owner's conversation. Raises `NotFound`, `StoreUnavailable`."""

    def read(connection: Connection) -> Message | None:
        if conversations.get(connection, owner, id, now_us()) is None:
            raise NotFound(NO_CONVERSATION)
        return messages.get(connection, id, message_id)

    found = database.read(read)
    if found is None:
        raise NotFound(NO_MESSAGE)
    return found


def change_conversation(database: Database, journal: Journal, owner: str, id: UUID, changes: Changes) -> Conversation:
    """Change a conversation and return what it became. Raises `NotFound`, `StoreUnavailable`.

    A new current message makes the branch through it the current one, down to its newest end.
    """
    wanted = {
        name: value
        for name in Changes.__struct_fields__
        if not isinstance(value := getattr(changes, name), EllipsisType)
    }
    chosen = wanted.pop("current_id", None)

    def write(connection: Transaction) -> Conversation:
        found = conversations.lock(connection, owner, id, now_us())
        if found is None:
            raise NotFound(NO_CONVERSATION)
        changed = replace(found, **wanted)
        changed = replace(changed, expires_at=expiry(changed))
        conversations.update(connection, changed)
        return changed

    if chosen is None:
        return journal.write(write)
    _switch(database, journal, owner, id, chosen)
    with stored_in_part(branches.IN_PART):
        return journal.write(write)


def _switch(database: Database, journal: Journal, owner: str, id: UUID, chosen: UUID) -> None:
    """Make the branch through a message the current one, unless it ends there already."""
    found = database.read(lambda connection: conversations.get(connection, owner, id, now_us()))
    if found is None:
        raise NotFound(NO_CONVERSATION)
    if found.current_id == chosen:
        return
    tip = branches.newest_end(database, found, chosen)
    if tip is None:
        raise InvalidFields(NO_MESSAGE, errors=[FieldError("current_id", _("is not a message of this conversation"))])
    branches.switch(database, journal, found, tip)


def delete_conversation(journal: Journal, owner: str, id: UUID, by: Actor = COMMAND_LINE) -> None:
    """Delete a conversation with its messages, and end its running reply. Raises `NotFound`, `StoreUnavailable`."""

    def write(connection: Transaction) -> bool:
        now = now_us()
        if conversations.get(connection, owner, id, now) is None:
            return False
        # A long one would hold the write lock for long: nobody sees it any more, and the sweep removes it bit by bit.
        remove = conversations.expire if messages.is_long(connection, id) else conversations.delete
        connection.events.append(AuditEvent(by, Action.CONVERSATION_DELETED, {"conversation_id": id}))
        return remove(connection, owner, id, now)

    if not journal.write(write):
        raise NotFound(NO_CONVERSATION)


def _cut(found: list[T] | None, page: Page) -> tuple[list[T], bool]:
    """Return a page of a list that was read one item beyond it."""
    if found is None:
        raise InvalidFields.not_in_list()
    return found[: page.limit], len(found) > page.limit
