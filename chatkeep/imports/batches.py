"""Store a conversation's messages in transactions of a bounded size."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from uuid import UUID

import msgspec
from msgspec.structs import replace

from chatkeep.conversations import branches
from chatkeep.domain.conversation import Conversation, Message, now_us
from chatkeep.limiting.storage import StorageQuota
from chatkeep.store import conversations, holdings, imports, messages
from chatkeep.store.holdings import Stored
from chatkeep.store.transaction import Transaction

# The most that one transaction stores. Turns wait for the write lock that long.
ROWS = 400
CHARACTERS = 2_000_000


class Batch(msgspec.Struct, frozen=True):
    """Messages to store."""

    conversation: Conversation
    messages: list[Message]
    branch: frozenset[UUID]
    replacing: bool = False
    """Whether some of the messages replace stored ones."""
    merging: bool = False
    """Whether the conversation has other messages, on which the branch and the forks depend."""


def store_some(transaction: Transaction, batch: Batch, quota: StorageQuota) -> Batch | None:
    """Store as many messages as fit into one transaction. Return the remaining batch, or None when all is done."""
    count = _fitting(batch.messages)
    now, later = batch.messages[:count], batch.messages[count:]
    owner = batch.conversation.owner
    if batch.replacing:
        ids = [message.id for message in now]
        holdings.subtract_some(transaction, owner, ids)
        imports.remove(transaction, batch.conversation.id, ids)
    quota.check(transaction, owner, Stored.of(batch.messages))
    holdings.add(transaction, owner, Stored.of(now))
    imports.add(transaction, now, batch.branch)
    if later or (batch.merging and not _update_branch(transaction, batch.conversation)):
        return replace(batch, messages=later)
    return None


def _fitting(found: list[Message]) -> int:
    """Return how many of the messages fit into one transaction, at least 1."""
    lengths = accumulate(len(message.content) + len(message.reasoning) for message in found[:ROWS])
    return max(1, sum(length <= CHARACTERS for length in lengths))


def _update_branch(transaction: Transaction, conversation: Conversation) -> bool:
    """Update the branch and the forks for the merged tree. Return False if one transaction is not enough for it."""
    found = conversations.lock(transaction, conversation.owner, conversation.id, now_us())
    if found is None:
        return True
    if found.message_count > ROWS:
        return False
    route = branches.route_to(transaction, found.id, found.current_id)
    branches.rebuild(lambda work: work(transaction), found.id, route)
    _store_forks(transaction, found, messages.forks(transaction, found.id))
    return True


def unless_switched(
    transaction: Transaction, conversation: Conversation, forks: int, work: Callable[[Transaction], int]
) -> int:
    """Do one part of updating a long conversation's branch. Do nothing if a user has switched the branch meanwhile."""
    found = conversations.lock(transaction, conversation.owner, conversation.id, now_us())
    if found is None or found.current_id != conversation.current_id:
        return 0
    _store_forks(transaction, found, forks)
    return work(transaction)


def _store_forks(transaction: Transaction, found: Conversation, forks: int) -> None:
    if forks > found.forks:
        conversations.update(transaction, replace(found, forks=forks))
