"""What a file holds: bytes as they are found, and conversations as the readers hand them to the writer."""

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
# The database takes a row of 16 MiB at most, in which any character may need a second byte.
MESSAGE_BYTES = 7 * 1024 * 1024
# Characters of a decoder's error that are told: it may quote the file.
_QUOTED = 200


class Refused(Exception):
    """A record cannot be taken; the text says why, of "it"."""


class UnknownFile(Exception):
    """Nothing in a file can be imported; the text says why."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Whose conversations they become, and how long they are kept."""

    owner: str
    now: int
    """When the import began, in µs since 1970."""
    ttl: int | EllipsisType | None = ...
    """Seconds that every conversation of the file is kept from now on, None for ever. ``...`` keeps the ttl that the
    file gives it; other programs' files give none, so theirs do not expire."""
    renew: bool = False
    """Whether those that have expired get their ttl from now on; else they are left out."""
    by: Actor = COMMAND_LINE
    """Who imports."""
    quota: StorageQuota = UNLIMITED
    """What the owner may have stored."""


def ttl_of(text: str) -> int | None:
    """Return the whole seconds of ``86400`` or ``24h``, None for ``never``. Raises `ValueError`."""
    seconds = optional_duration(f"{text}s" if text.isdigit() else text)
    if seconds is not None and seconds > MAX_TTL_S:
        raise ValueError(_("write at most {days}d, or never", days=MAX_TTL_S // 86400))
    return None if seconds is None else max(int(seconds), 1)


@dataclass(frozen=True, slots=True)
class Record:
    """The bytes of one record and the line on which it begins; ``body`` is None where there are too many."""

    line: int
    body: bytes | None


@dataclass(frozen=True, slots=True)
class BadRecord:
    """What is not imported, and why; ``line`` counts from 1."""

    line: int
    reason: Text


class Incoming(msgspec.Struct, frozen=True):
    """A conversation of a file; each of its messages is later than its parent."""

    line: int
    conversation: Conversation
    messages: list[Message]
    branch: frozenset[UUID]
    """The messages that are on the current branch."""
    update: bool = False
    """Whether what is stored is replaced, as by an increment; else only what is missing is added."""

    @property
    def characters(self) -> int:
        """How long its messages are together."""
        return sum(len(message.content) + len(message.reasoning) for message in self.messages)

    @property
    def outside(self) -> set[UUID]:
        """The messages that it names and does not hold, so that they have to be stored already."""
        held = {message.id for message in self.messages}
        named = {message.parent_id for message in self.messages} | {self.conversation.current_id}
        return {id for id in named if id is not None} - held  # noqa: A001


@dataclass(frozen=True, slots=True)
class Gone:
    """A conversation that an increment says is not there any more."""

    line: int
    id: UUID
    reason: Reason


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What a conversation of another program holds and an import leaves out, counted by kind."""

    counts: Counter[str]


Item = Incoming | Gone | LeftOut | BadRecord


def decoded(record: Record, decoder: msgspec.json.Decoder[T]) -> T:
    """Return what a record holds. Raises `Refused`."""
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
    """Return the messages from ``tip`` back to the root, and whether all of them are among ``messages``."""
    parents = {message.id: message.parent_id for message in messages}
    found: set[UUID] = set()
    while tip in parents:
        found.add(tip)
        tip = parents[tip]
    return frozenset(found), tip is None


def forks_of(messages: Iterable[Message]) -> int:
    """Return how many messages have an elder sibling."""
    parents = [message.parent_id for message in messages]
    return len(parents) - len(set(parents))


def require_storable(messages: Iterable[Message]) -> None:
    """Raise `Refused` where a message is longer than what every database takes."""
    for message in messages:
        if not is_storable(message.content, message.reasoning):
            raise Refused(_("its message {id} is larger than 7 MiB", id=message.id))


def is_storable(*texts: str) -> bool:
    """Return whether every database takes a message with these texts."""
    return sum(map(len, texts)) <= MESSAGE_BYTES // 4 or sum(len(text.encode()) for text in texts) <= MESSAGE_BYTES


def renewed(conversation: Conversation, now: int) -> Conversation:
    """Return a conversation that expires its ttl after now, in µs since 1970."""
    kept = conversation.pinned or conversation.ttl is None
    return replace(conversation, expires_at=None if kept else now + (conversation.ttl or 0) * 1_000_000)


def lasting_id(at: int, *names: str) -> UUID:
    """Return a UUIDv7 of that time whose random part is a hash of the names."""
    digest = int.from_bytes(hashlib.sha256("\0".join(names).encode()).digest()[:16], "big")
    random = digest & (0xFFF << 64 | (1 << 62) - 1)
    return UUID(int=(at // 1000 & (1 << 48) - 1) << 80 | 7 << 76 | 0b10 << 62 | random)


def id_apart(owner: str, id: UUID) -> UUID:
    """Return what an id of a file becomes where it is somebody else's; for the same owner it is always the same."""
    return lasting_id((id.int >> 80) * 1000, owner, str(id))


def set_apart(item: Incoming, owner: str) -> Incoming:
    """Return a conversation of a file under ids of its own."""
    named = {message.id for message in item.messages} | item.outside | item.branch
    ids: dict[UUID | None, UUID] = {id: id_apart(owner, id) for id in named}  # noqa: A001
    conversation = item.conversation
    new_id = id_apart(owner, conversation.id)
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
