"""Share conversations by read-only links.

A link shows the messages from the first to the last one at the time of sharing. Messages are never overwritten, so a
link shows the same after later messages, edits and regenerations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple
from uuid import UUID

from chatkeep.auth.access import digest_of, random_text
from chatkeep.conversations import branches
from chatkeep.domain.audit import Action, Actor, AuditEvent
from chatkeep.domain.conversation import Conversation, Message, now_us
from chatkeep.errors import NO_CONVERSATION, NO_SHARE, NotFound
from chatkeep.store import conversations, shares
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.shares import Share
from chatkeep.store.sql import Connection
from chatkeep.store.transaction import Transaction

# 190 bits: a million guesses a second find one of a million links in 10^37 years, so guesses need no rate limit.
TOKEN_LENGTH = 32
# The most messages to skip in the event loop, by an index scan.
NEAR = 2_000


class NewShare(NamedTuple):
    """A new link with its token, which is not stored."""

    share: Share
    token: str


@dataclass(frozen=True, slots=True)
class SharedReading:
    """What a link shows: the title, a page of messages, and whether more follow."""

    title: str
    messages: list[Message]
    has_more: bool


def share_conversation(journal: Journal, owner: str, id: UUID, by: Actor) -> NewShare:
    """Return a new link to a conversation. Revokes an earlier one.

    Raises `NotFound`, `StoreUnavailable`.
    """
    token = random_text(TOKEN_LENGTH)

    def write(connection: Transaction) -> Share:
        found = conversations.lock(connection, owner, id, now_us())
        if found is None:
            raise NotFound(NO_CONVERSATION)
        share = Share(id, owner, digest_of(token), found.current_id, now_us())
        shares.put(connection, share)
        connection.events.append(AuditEvent(by, Action.CONVERSATION_SHARED, {"conversation_id": id}))
        return share

    return NewShare(journal.write(write), token)


def shared_since(database: Database, owner: str, id: UUID) -> int | None:
    """Return when a conversation was shared, or None. Raises `NotFound`, `StoreUnavailable`."""

    def read(connection: Connection) -> int | None:
        _require(connection, owner, id)
        return shares.since(connection, owner, id)

    return database.read(read)


def stop_sharing(journal: Journal, owner: str, id: UUID, by: Actor) -> None:
    """Revoke a conversation's link. Idempotent. Raises `NotFound`, `StoreUnavailable`."""

    def write(connection: Transaction) -> None:
        _require(connection, owner, id)
        if shares.delete(connection, owner, id):
            connection.events.append(AuditEvent(by, Action.CONVERSATION_UNSHARED, {"conversation_id": id}))

    journal.write(write)


def read_shared(database: Database, token: str, limit: int, after: int) -> SharedReading:
    """Return what a link shows, after the first ``after`` messages.

    Raises `StoreUnavailable`, and the same `NotFound` for an unknown link, a revoked one, and a deleted conversation.
    """

    def read(connection: Connection, *, far: bool = False) -> SharedReading | None:
        share = shares.find(connection, digest_of(token))
        found = conversations.get(connection, share.owner, share.conversation_id, now_us()) if share else None
        if share is None or found is None:
            raise NotFound(NO_SHARE)
        if not far and (found.forks or after > NEAR):
            return None
        shown = branches.messages_to(connection, found, share.tip_id, skip=after, limit=limit + 1)
        return SharedReading(found.title, shown[:limit], len(shown) > limit)

    shared = database.read(read) or database.read(partial(read, far=True), long=True)
    if shared is None:
        raise NotFound(NO_SHARE)
    return shared


def _require(connection: Connection, owner: str, id: UUID) -> Conversation:
    found = conversations.get(connection, owner, id, now_us())
    if found is None:
        raise NotFound(NO_CONVERSATION)
    return found
