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
    """A page of the list of conversations: at most ``limit`` after a position or a conversation."""

    limit: int
    after: Position | UUID | None = None
    ascending: bool = False
    sort: Sorting = "activity"


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of the list of conversations. By creation, it ends with its last conversation's id."""

    conversations: list[Conversation]
    has_more: bool
    sort: Sorting = "activity"
    until: int | None = None
    """`Position.until` of the page's end."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list: at most ``limit`` items after the one with the id ``after``."""

    limit: int
    after: UUID | None = None
    ascending: bool = False


class Changes(msgspec.Struct, frozen=True):
    """Changes of a conversation; ``...`` means unchanged."""

    title: str | EllipsisType = ...
    system: str | EllipsisType | None = ...
    ttl: int | EllipsisType | None = ...
    pinned: bool | EllipsisType = ...
    metadata: dict[str, Any] | EllipsisType = ...
    current_id: UUID | EllipsisType = ...
    """A message. The newest branch through it becomes the current one."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A conversation, a page of its current branch, and whether more messages follow.

    ``siblings`` maps messages with siblings to their ids, the message's own included.
    """

    conversation: Conversation
    messages: list[Message]
    has_more: bool
    siblings: dict[UUID, list[UUID]]


def list_conversations(
    database: Database, owner: str, page: ListPage, query: str | None = None, *, pinned: bool | None = None
) -> Listed:
    """Return a page of an owner's conversations.

    ``query`` keeps those whose title or text contains all of its words, ``pinned`` those that are pinned or are not.
    Raises `InvalidFields`, `StoreUnavailable`; with a query also `DatabaseBusy`, `DatabaseTimeout`.
    """
    read = _by_creation if page.sort == "created" else _by_activity
    found = partial(read, owner=owner, page=page, only=conversations.Filter(query, pinned))
    return database.scan(found) if query else database.read(found)


def _by_creation(connection: Connection, owner: str, page: ListPage, only: conversations.Filter) -> Listed:
    after = page.after.id if isinstance(page.after, Position) else page.after
    found = conversations.by_creation(
        connection, owner, now_us(), limit=page.limit + 1, after=after, ascending=page.ascending, only=only
    )
    return Listed(found[: page.limit], len(found) > page.limit, page.sort)


def _by_activity(connection: Connection, owner: str, page: ListPage, only: conversations.Filter) -> Listed:
    now = now_us()
    after = _position(connection, owner, page.after, now) if isinstance(page.after, UUID) else page.after
    until = after.until if after else conversations.latest(connection, owner) if page.ascending else None
    found = conversations.by_activity(
        connection, owner, now, limit=page.limit + 1, after=after, ascending=page.ascending, only=only
    )
    return Listed(found[: page.limit], len(found) > page.limit, until=until)


def _position(connection: Connection, owner: str, id: UUID, now: int) -> Position:
    """Return a conversation's current position in the list. Raises `InvalidFields`."""
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
        shown, has_more = _split_page(_messages(connection, found, page), page)
        return Reading(found, shown, has_more, messages.siblings(connection, id, shown) if found.forks else {})

    # In ascending order, the branch has to be found among all messages.
    found = database.read(read) or database.read(partial(read, far=True), long=True)
    if found is None:
        raise NotFound(NO_CONVERSATION)
    return found


def _messages(connection: Connection, conversation: Conversation, page: Page) -> list[Message] | None:
    """Return a page of the current branch and one more message; None if ``after`` is not on the branch.

    In descending order, the tree is walked from the branch's end, so other branches cost nothing.
    """
    id, limit, tip = conversation.id, page.limit + 1, conversation.current_id  # noqa: A001
    if page.ascending or not conversation.forks:
        return messages.page(connection, id, limit=limit, after=page.after, ascending=page.ascending)
    if page.after is not None:
        behind = next(messages.ancestors(connection, id, page.after, steps=1), None)
        if behind is None or not behind.on_branch:
            return None
        tip = behind.parent_id
    return messages.last_up_to(connection, id, tip, limit)


def require_message(database: Database, owner: str, id: UUID, message_id: UUID) -> Message:
    """Return a message of an owner's conversation. Raises `NotFound`, `StoreUnavailable`."""

    def read(connection: Connection) -> Message | None:
        if conversations.get(connection, owner, id, now_us()) is None:
            raise NotFound(NO_CONVERSATION)
        return messages.get(connection, id, message_id)

    found = database.read(read)
    if found is None:
        raise NotFound(NO_MESSAGE)
    return found


def change_conversation(database: Database, journal: Journal, owner: str, id: UUID, changes: Changes) -> Conversation:
    """Change a conversation and return it. Raises `NotFound`, `StoreUnavailable`.

    A new current message makes the newest branch through it the current one.
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
    """Make the newest branch through a message the current one, unless the branch ends there already."""
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
        # Deleting a long one would hold the write lock for long. It is hidden now, and swept in parts.
        remove = conversations.expire if messages.is_long(connection, id) else conversations.delete
        connection.events.append(AuditEvent(by, Action.CONVERSATION_DELETED, {"conversation_id": id}))
        return remove(connection, owner, id, now)

    if not journal.write(write):
        raise NotFound(NO_CONVERSATION)


def _split_page(found: list[T] | None, page: Page) -> tuple[list[T], bool]:
    """Split a list with one extra item into the page and whether more items follow."""
    if found is None:
        raise InvalidFields.not_in_list()
    return found[: page.limit], len(found) > page.limit
