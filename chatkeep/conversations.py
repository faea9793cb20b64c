"""List, read, change and delete conversations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import EllipsisType
from typing import Any, TypeVar
from uuid import UUID

from chatkeep.errors import NO_CONVERSATION, FieldError, InvalidFields, NotFound
from chatkeep.model import Conversation, Message, expiry, now_us
from chatkeep.store import conversations, messages
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.sql import Connection

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted: at most ``limit`` items behind the one with the id ``after``."""

    limit: int
    after: UUID | None = None
    ascending: bool = False


@dataclass(frozen=True, slots=True)
class Changes:
    """What to change in a conversation; ``...`` leaves a thing as it is."""

    title: str | EllipsisType = ...
    system: str | EllipsisType | None = ...
    ttl: int | EllipsisType | None = ...
    pinned: bool | EllipsisType = ...
    metadata: dict[str, Any] | EllipsisType = ...


def list_conversations(
    database: Database, owner: str, page: Page, query: str | None = None
) -> tuple[list[Conversation], bool]:
    """Return a page of the owner's conversations by activity, and whether more follow.

    ``query`` keeps those whose title or text contains it. Raises `InvalidFields`, `StoreUnavailable`.
    """

    def read(connection: Connection) -> list[Conversation] | None:
        return conversations.newest(
            connection, owner, now_us(), limit=page.limit + 1, after=page.after, ascending=page.ascending, query=query
        )

    return _cut(database.read(read, long=query is not None), page)


def read_conversation(database: Database, owner: str, id: UUID, page: Page) -> tuple[Conversation, list[Message], bool]:
    """Return a conversation, a page of its current branch's messages, and whether more follow.

    Raises `NotFound`, `InvalidFields`, `StoreUnavailable`.
    """

    def read(connection: Connection) -> tuple[Conversation, list[Message] | None]:
        found = conversations.get(connection, owner, id, now_us())
        if found is None:
            raise NotFound(NO_CONVERSATION)
        return found, messages.page(connection, id, limit=page.limit + 1, after=page.after, ascending=page.ascending)

    conversation, found = database.read(read)
    return conversation, *_cut(found, page)


def require_message(database: Database, owner: str, id: UUID, message_id: UUID) -> Message:
    """Return one message of the owner's conversation. Raises `NotFound`, `StoreUnavailable`."""

    def read(connection: Connection) -> Message | None:
        if conversations.get(connection, owner, id, now_us()) is None:
            raise NotFound(NO_CONVERSATION)
        return messages.get(connection, id, message_id)

    found = database.read(read)
    if found is None:
        raise NotFound("There is no such message in this conversation.")
    return found


def change_conversation(journal: Journal, owner: str, id: UUID, changes: Changes) -> Conversation:
    """Change a conversation and return what it became. Raises `NotFound`, `StoreUnavailable`."""
    wanted = {
        name: value for name in Changes.__slots__ if not isinstance(value := getattr(changes, name), EllipsisType)
    }

    def write(connection: Connection) -> Conversation:
        found = conversations.lock(connection, owner, id, now_us())
        if found is None:
            raise NotFound(NO_CONVERSATION)
        changed = replace(found, **wanted)
        changed = replace(changed, expires_at=expiry(changed))
        conversations.update(connection, changed)
        return changed

    return journal.write(write)


def delete_conversation(journal: Journal, owner: str, id: UUID) -> None:
    """Delete a conversation with its messages, and end its running reply. Raises `NotFound`, `StoreUnavailable`."""
    if not journal.write(lambda connection: conversations.delete(connection, owner, id, now_us())):
        raise NotFound(NO_CONVERSATION)


def _cut(found: list[T] | None, page: Page) -> tuple[list[T], bool]:
    """Return a page of a list that was read one item beyond it."""
    if found is None:
        raise InvalidFields("Begin the list again.", errors=[FieldError("after", "there is no item with this id")])
    return found[: page.limit], len(found) > page.limit
