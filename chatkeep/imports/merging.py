"""Store an imported item in a transaction: add a conversation, merge it into the stored one, or delete it."""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType
from uuid import UUID

from msgspec.structs import replace

from chatkeep.domain.audit import Action, AuditEvent
from chatkeep.domain.conversation import Conversation, Message, Status, now_us
from chatkeep.i18n import Text, _, text_of
from chatkeep.imports.batches import Batch, store_some
from chatkeep.imports.records import (
    ConversationItem,
    DeletedConversation,
    ImportedConversation,
    ImportOptions,
    Refused,
    derived_id,
    with_renewed_ttl,
)
from chatkeep.imports.report import Outcome
from chatkeep.limiting.storage import StorageQuota
from chatkeep.store import conversations, imports, leases, messages, tombstones
from chatkeep.store.imports import MessagePosition
from chatkeep.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Stored:
    """What a transaction did with an item, and what is left for the next ones."""

    outcome: Outcome | None
    """None if the item was refused."""
    messages: int = 0
    rest: Batch | None = None
    reason: Text | None = None
    """Why it was refused."""


def store(transaction: Transaction, item: ConversationItem, options: ImportOptions) -> Stored:
    """Store an item, or the first part of a long one. A refused item has written nothing."""
    try:
        if isinstance(item, DeletedConversation):
            return _delete(transaction, item, options)
        return _import(transaction, item, options)
    except Refused as error:
        return Stored(None, reason=text_of(error))


def _delete(transaction: Transaction, deleted: DeletedConversation, options: ImportOptions) -> Stored:
    now = now_us()
    if _has_derived_id(transaction, deleted.id, options.owner):
        deleted = DeletedConversation(deleted.line, derived_id(options.owner, deleted.id), deleted.reason)
    found = conversations.lock(transaction, options.owner, deleted.id, now)
    if found is None:
        return Stored(Outcome.NOTHING)
    _require_idle(transaction, deleted.id)
    transaction.events.append(AuditEvent(options.by, Action.CONVERSATION_DELETED, {"conversation_id": deleted.id}))
    # The first reason counts.
    tombstones.bury(transaction, options.owner, deleted.id, deleted.reason, now)
    # A long conversation is hidden now, and swept in parts.
    remove = conversations.expire if messages.is_long(transaction, deleted.id) else conversations.delete
    remove(transaction, options.owner, deleted.id, now)
    return Stored(Outcome.DELETED)


def _import(transaction: Transaction, item: ImportedConversation, options: ImportOptions) -> Stored:
    id, owner = item.conversation.id, options.owner  # noqa: A001
    holder = imports.owner_of(transaction, id)
    if {holder, tombstones.owner_of(transaction, id)} - {None, owner} or _has_derived_id(transaction, id, owner):
        return Stored(Outcome.FOREIGN)
    existing = _existing(transaction, item, owner) if holder else None
    if holder and existing is None:
        _require_idle(transaction, id)
        return Stored(Outcome.BURIED)
    known = imports.positions(transaction, {message.id for message in item.messages} | item.outside)
    _require_fit(item, known)
    if existing is None:
        return _add(transaction, item, options.quota)
    return _merge(transaction, item, existing, known, options)


def _has_derived_id(transaction: Transaction, id: UUID, owner: str) -> bool:
    """Return whether an earlier import gave a conversation a derived id, because its own was another owner's."""
    return imports.owner_of(transaction, derived_id(owner, id)) == owner


def _existing(transaction: Transaction, item: ImportedConversation, owner: str) -> Conversation | None:
    """Return the stored conversation.

    An increment also revives one that has expired here but not at the source, as long as none of it has been swept.
    """
    found = conversations.lock(transaction, owner, item.conversation.id, now_us())
    if found is not None or not item.update:
        return found
    found = conversations.lock(transaction, owner, item.conversation.id, 0)
    return found if found is not None and messages.count(transaction, found.id) >= found.message_count else None


def _add(transaction: Transaction, item: ImportedConversation, quota: StorageQuota) -> Stored:
    """Add a new conversation."""
    conversations.insert(transaction, item.conversation)
    tombstones.unbury(transaction, item.conversation.id)
    return _begin(transaction, Outcome.ADDED, Batch(item.conversation, item.messages, item.branch), quota)


def _merge(
    transaction: Transaction,
    item: ImportedConversation,
    existing: Conversation,
    known: dict[UUID, MessagePosition],
    options: ImportOptions,
) -> Stored:
    """Update a stored conversation by an increment, or add the messages that it lacks."""
    missing = [message for message in item.messages if message.id not in known]
    fuller = [_in_place(one, known[one.id]) for one in item.messages if _is_fuller(one, known.get(one.id))]
    if not (missing or fuller or item.update) and not _is_unfinished(transaction, existing):
        return Stored(_apply_ttl(transaction, existing, options))
    _require_idle(transaction, existing.id)
    if item.update:
        batch = _replacement(item, existing)
    else:
        batch = _completion(item, with_ttl(existing, options), missing, options.now)
        branch = batch.branch | {one.id for one in fuller if known[one.id].on_branch}
        batch = replace(batch, messages=[*fuller, *batch.messages], branch=branch, replacing=bool(fuller))
    conversations.update(transaction, batch.conversation)
    tombstones.unbury(transaction, existing.id)
    return _begin(transaction, Outcome.UPDATED, batch, options.quota)


def _is_fuller(message: Message, stored: MessagePosition | None) -> bool:
    """Return whether the file has more of a reply than the database, where it is truncated or still being written."""
    if stored is None or stored.status is Status.COMPLETED:
        return False
    return message.status is Status.COMPLETED or len(message.content) + len(message.reasoning) > stored.written


def _in_place(message: Message, stored: MessagePosition) -> Message:
    """Return a message at the position of the one that it replaces."""
    return replace(message, parent_id=stored.parent_id, timestamp=stored.timestamp, position=stored.position)


def with_ttl(conversation: Conversation, options: ImportOptions) -> Conversation:
    """Return a conversation with the ttl that the import sets, if it sets one."""
    if isinstance(options.ttl, EllipsisType):
        return conversation
    return with_renewed_ttl(replace(conversation, ttl=options.ttl), options.now)


def _apply_ttl(transaction: Transaction, existing: Conversation, options: ImportOptions) -> Outcome:
    """Set the ttl of a conversation that is otherwise complete. The same ttl starts anew."""
    kept = with_ttl(existing, options)
    if (kept.ttl, kept.expires_at) != (existing.ttl, existing.expires_at):
        conversations.update(transaction, kept)
    return Outcome.PRESENT if kept.ttl == existing.ttl else Outcome.UPDATED


def _is_unfinished(transaction: Transaction, existing: Conversation) -> bool:
    """Return whether an earlier import ended before it updated the branch."""
    tip = next(messages.ancestors(transaction, existing.id, existing.current_id, steps=1), None)
    return tip is not None and not tip.on_branch


def _replacement(item: ImportedConversation, existing: Conversation) -> Batch:
    """Return the batch that replaces stored messages by those of an increment."""
    conversation = replace(
        item.conversation,
        message_count=max(existing.message_count, item.conversation.message_count),
        last_active=max(existing.last_active, item.conversation.last_active),
        forks=existing.forks,
    )
    return Batch(conversation, item.messages, item.branch, replacing=True, merging=True)


def _completion(item: ImportedConversation, existing: Conversation, missing: list[Message], now: int) -> Batch:
    """Return the batch that adds missing messages. They extend the branch, unless it has left that of the file."""
    if existing.current_id is not None and existing.current_id not in item.branch:
        last = existing.message_count
        behind = [replace(message, position=last + count) for count, message in enumerate(missing, 1)]
        return Batch(replace(existing, message_count=last + len(missing)), behind, frozenset(), merging=True)
    conversation = replace(
        existing,
        current_id=item.conversation.current_id,
        message_count=max(existing.message_count, item.conversation.message_count),
        last_active=max(existing.last_active, item.conversation.last_active),
    )
    return Batch(with_renewed_ttl(conversation, now), missing, item.branch, merging=True)


def _begin(transaction: Transaction, outcome: Outcome, batch: Batch, quota: StorageQuota) -> Stored:
    return Stored(outcome, len(batch.messages), store_some(transaction, batch, quota))


def remove_some(transaction: Transaction, owner: str, id: UUID) -> bool:
    """Delete some rows of a deleted or expired conversation. Return whether none are left."""
    now = now_us()
    is_visible = conversations.lock(transaction, owner, id, now) is not None
    if is_visible or imports.owner_of(transaction, id) != owner or leases.of_conversation(transaction, id) is not None:
        return True
    if not messages.delete_some(transaction, owner, id).all:
        return False
    conversations.remove(transaction, owner, id, now)
    return True


def _require_idle(transaction: Transaction, id: UUID) -> None:
    if leases.of_conversation(transaction, id) is not None:
        raise Refused(_("it is busy: a reply is being generated; import the file again when that has ended"))


def _require_fit(item: ImportedConversation, known: dict[UUID, MessagePosition]) -> None:
    """Raise `Refused` if the messages do not fit into the stored tree."""
    if any(stored.conversation_id != item.conversation.id for stored in known.values()):
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
        _require_position(message, known, moving=item.update)


def _require_position(message: Message, known: dict[UUID, MessagePosition], *, moving: bool) -> None:
    stored = known.get(message.id)
    parent = known.get(message.parent_id) if message.parent_id else None
    if stored is None:
        if parent is not None and parent.timestamp >= message.timestamp:
            raise Refused(_("its message {id} is not later than its parent", id=message.id))
    elif moving and (stored.parent_id, stored.timestamp) != (message.parent_id, message.timestamp):
        raise Refused(_("its message {id} stands elsewhere in what is stored", id=message.id))
