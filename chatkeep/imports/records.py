"""The values that imports pass on: records as bytes, and items for the writer."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from types import EllipsisType
from typing import TypeVar
from uuid import UUID

import msgspec
from msgspec.structs import replace

from chatkeep.config.parsing import optional_duration
from chatkeep.domain.audit import COMMAND_LINE, Actor
from chatkeep.domain.conversation import MAX_TTL_S, Conversation, Message
from chatkeep.i18n import Text, _
from chatkeep.limiting.storage import UNLIMITED, StorageQuota
from chatkeep.store.tombstones import Reason

T = TypeVar("T")
UNKNOWN = _(
    "This is not an export of chatkeep, ChatGPT, Claude, DeepSeek, LibreChat or Open WebUI. See docs/imports.md "
    "for what to convert other files to."
)
# MySQL takes 16 MiB in a statement, in which each byte may be escaped by a second one.
MESSAGE_BYTES = 7 * 1024 * 1024
# The most characters of a decoder's error to show, because it may quote the file.
_QUOTED = 200


class Refused(Exception):
    """A record cannot be imported; the message says why, with "it" as the subject."""


class UnknownFile(Exception):
    """Nothing in a file can be imported; the message says why."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """The owner of imported conversations, and how long they are kept."""

    owner: str
    now: int
    """When the import began, in µs since 1970."""
    ttl: int | EllipsisType | None = ...
    """The ttl of every conversation in seconds from now on, None for no expiry. ``...`` keeps the file's own; other
    programs' files have none, so theirs do not expire."""
    renew: bool = False
    """Whether the ttl of expired conversations starts anew; otherwise they are skipped."""
    by: Actor = COMMAND_LINE
    """The actor in the audit log."""
    quota: StorageQuota = UNLIMITED
    """The owner's storage quota."""


def ttl_of(text: str) -> int | None:
    """Parse ``86400`` or ``24h`` to whole seconds, ``never`` to None. Raises `ValueError`."""
    seconds = optional_duration(f"{text}s" if text.isdigit() else text)
    if seconds is not None and seconds > MAX_TTL_S:
        raise ValueError(_("write at most {days}d, or never", days=MAX_TTL_S // 86400))
    return None if seconds is None else max(int(seconds), 1)


@dataclass(frozen=True, slots=True)
class Record:
    """The bytes of a record and the line where it begins; ``body`` is None if it is too large."""

    line: int
    body: bytes | None


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that is not imported, and why; ``line`` counts from 1."""

    line: int
    reason: Text


class ImportedConversation(msgspec.Struct, frozen=True):
    """A conversation in a file. Each message is later than its parent."""

    line: int
    conversation: Conversation
    messages: list[Message]
    branch: frozenset[UUID]
    """The ids of messages on the current branch."""
    update: bool = False
    """Whether it replaces stored messages, as an increment does; otherwise it only adds missing ones."""

    @property
    def characters(self) -> int:
        """The length of its messages together."""
        return sum(len(message.content) + len(message.reasoning) for message in self.messages)

    @property
    def outside(self) -> set[UUID]:
        """The ids of messages that it refers to but lacks, so they must be stored already."""
        held = {message.id for message in self.messages}
        named = {message.parent_id for message in self.messages} | {self.conversation.current_id}
        return {id for id in named if id is not None} - held  # noqa: A001


@dataclass(frozen=True, slots=True)
class DeletedConversation:
    """A conversation that an increment deletes."""

    line: int
    id: UUID
    reason: Reason


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Content of another program that is skipped, counted by kind."""

    counts: Counter[str]


ConversationItem = ImportedConversation | DeletedConversation
Item = ConversationItem | LeftOut | BadRecord


def decoded(record: Record, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode a record. Raises `Refused`."""
    if record.body is None:
        raise Refused(_("it is larger than 64 MiB"))
    try:
        return decoder.decode(record.body)
    except msgspec.ValidationError as error:
        raise Refused(_("it is not as it should be: {reason}", reason=_told(error))) from error
    except (msgspec.DecodeError, UnicodeError) as error:
        raise Refused(_("it is not valid JSON: {reason}", reason=_told(error))) from error
    except RecursionError as error:
        raise Refused(_("it is nested too deeply")) from error


def _told(error: Exception) -> str:
    text = str(error)
    return text if len(text) <= _QUOTED else f"{text[: _QUOTED - 1]}…"


def path_to(tip: UUID | None, messages: Iterable[Message]) -> tuple[frozenset[UUID], bool]:
    """Return the ids from ``tip`` to the root, and whether all of them are among ``messages``."""
    parents = {message.id: message.parent_id for message in messages}
    found: set[UUID] = set()
    while tip in parents:
        found.add(tip)
        tip = parents[tip]
    return frozenset(found), tip is None


def forks_of(messages: Iterable[Message]) -> int:
    """Return how many messages have an older sibling."""
    parents = [message.parent_id for message in messages]
    return len(parents) - len(set(parents))


def require_storable(messages: Iterable[Message]) -> None:
    """Raise `Refused` if a message is too long for some database."""
    for message in messages:
        if not is_storable(message.content, message.reasoning):
            raise Refused(_("its message {id} is larger than 7 MiB", id=message.id))


def is_storable(*texts: str) -> bool:
    """Return whether every database can store a message with these texts."""
    return sum(map(len, texts)) <= MESSAGE_BYTES // 4 or sum(len(text.encode()) for text in texts) <= MESSAGE_BYTES


def with_renewed_ttl(conversation: Conversation, now: int) -> Conversation:
    """Return a conversation whose ttl starts at ``now``, in µs since 1970."""
    kept = conversation.pinned or conversation.ttl is None
    return replace(conversation, expires_at=None if kept else now + (conversation.ttl or 0) * 1_000_000)


def stable_id(at: int, *names: str) -> UUID:
    """Return a UUIDv7 of that time whose random bits are a hash of the names."""
    digest = int.from_bytes(hashlib.sha256("\0".join(names).encode()).digest()[:16], "big")
    random = digest & (0xFFF << 64 | (1 << 62) - 1)
    return UUID(int=(at // 1000 & (1 << 48) - 1) << 80 | 7 << 76 | 0b10 << 62 | random)


def derived_id(owner: str, id: UUID) -> UUID:
    """Return the replacement for an id that belongs to another owner. It is always the same for an owner."""
    return stable_id((id.int >> 80) * 1000, owner, str(id))


def with_own_ids(item: ImportedConversation, owner: str) -> ImportedConversation:
    """Return a conversation with derived ids."""
    named = {message.id for message in item.messages} | item.outside | item.branch
    ids: dict[UUID | None, UUID] = {id: derived_id(owner, id) for id in named}  # noqa: A001
    conversation = item.conversation
    new_id = derived_id(owner, conversation.id)
    messages = [
        replace(message, id=ids[message.id], conversation_id=new_id, parent_id=ids.get(message.parent_id))
        for message in item.messages
    ]
    return replace(
        item,
        conversation=replace(conversation, id=new_id, current_id=ids.get(conversation.current_id)),
        messages=messages,
        branch=frozenset(ids[id] for id in item.branch),  # noqa: A001
    )
