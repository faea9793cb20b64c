"""List, read, change and delete conversations."""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from msgspec.structs import replace

from chatkeep.errors import NO_CONVERSATION, NO_MESSAGE, FieldError, InvalidFields, NotFound, TurnRunning
from chatkeep.model import Conversation, Message, expiry, now_us
from chatkeep.store import conversations, leases, messages
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.notes import COMMAND_LINE, Actor, Note, Verb
from chatkeep.store.sql import Connection

T = TypeVar("T")
DELETED_AT_ONCE = 400


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

    ``siblings`` holds the children of every message, by its id, where there are any besides the branch's own.
    """

    conversation: Conversation
    messages: list[Message]
    has_more: bool
    siblings: dict[UUID | None, list[UUID]]


def list_conversations(
    database: Database, owner: str, page: Page, query: str | None = None, *, pinned: bool | None = None
) -> tuple[list[Conversation], bool]:
    """Return a page of the owner's conversations by activity, and whether more follow.

    ``query`` keeps those whose title or text contains it, ``pinned`` those that are pinned or are not.
    Raises `InvalidFields`, `StoreUnavailable`; of a query `DatabaseBusy`, `DatabaseTimeout`.
    """

    def read(connection: Connection) -> list[Conversation] | None:
        return conversations.newest(
            connection,
            owner,
            now_us(),
            limit=page.limit + 1,
            after=page.after,
            ascending=page.ascending,
            only=conversations.Filter(query, pinned),
        )

    return _cut(database.scan(read) if query else database.read(read), page)


def read_conversation(database: Database, owner: str, id: UUID, page: Page) -> Reading:
    """Return a conversation with a page of its messages. Raises `NotFound`, `InvalidFields`, `StoreUnavailable`."""

    def read(connection: Connection) -> Reading:
        found = conversations.get(connection, owner, id, now_us())
        if found is None:
            raise NotFound(NO_CONVERSATION)
        rows = messages.page(connection, id, limit=page.limit + 1, after=page.after, ascending=page.ascending)
        shown, has_more = _cut(rows, page)
        return Reading(found, shown, has_more, messages.siblings(connection, id) if found.forks else {})

    return database.read(read)


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


def change_conversation(journal: Journal, owner: str, id: UUID, changes: Changes) -> Conversation:
    """Change a conversation and return what it became. Raises `NotFound`, `StoreUnavailable`."""
    wanted = {
        name: value
        for name in Changes.__struct_fields__
        if not isinstance(value := getattr(changes, name), EllipsisType)
    }

    def write(connection: Connection) -> Conversation:
        found = conversations.lock(connection, owner, id, now_us())
        if found is None:
            raise NotFound(NO_CONVERSATION)
        changed = replace(found, **wanted)
        if changed.current_id != found.current_id:
            changed = _switched(connection, changed)
        changed = replace(changed, expires_at=expiry(changed))
        conversations.update(connection, changed)
        return changed

    return journal.write(write)


def _switched(connection: Connection, conversation: Conversation) -> Conversation:
    """Make the branch through the conversation's new current message its current one, down to its newest end."""
    children = messages.siblings(connection, conversation.id)
    tip = conversation.current_id
    if tip is None or not any(tip in ids for ids in children.values()):
        raise InvalidFields(NO_MESSAGE, errors=[FieldError("current_id", "there is no message with this id")])
    if leases.of_conversation(connection, conversation.id) is not None:
        raise TurnRunning("Wait for the running reply, or stop it, before you change the branch.")
    while tip in children:
        tip = children[tip][-1]
    messages.switch_branch(connection, conversation.id, tip)
    return replace(conversation, current_id=tip)


def delete_conversation(journal: Journal, owner: str, id: UUID, by: Actor = COMMAND_LINE) -> None:
    """Delete a conversation with its messages, and end its running reply. Raises `NotFound`, `StoreUnavailable`."""

    def write(connection: Connection) -> bool:
        now = now_us()
        found = conversations.get(connection, owner, id, now)
        if found is None:
            return False
        # A long one would hold the write lock for long: nobody sees it any more, and the sweep removes it bit by bit.
        remove = conversations.delete if found.message_count <= DELETED_AT_ONCE else conversations.expire
        connection.notes.append(Note(by, Verb.CONVERSATION_DELETED, {"conversation_id": id}))
        return remove(connection, owner, id, now)

    if not journal.write(write):
        raise NotFound(NO_CONVERSATION)


def _cut(found: list[T] | None, page: Page) -> tuple[list[T], bool]:
    """Return a page of a list that was read one item beyond it."""
    if found is None:
        raise InvalidFields("Begin the list again.", errors=[FieldError("after", "there is no item with this id")])
    return found[: page.limit], len(found) > page.limit
