"""The plain values that the parts hand to each other."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID, SafeUUID

import msgspec

# Until keys exist everybody who reaches the server is this owner.
OPEN_OWNER = "local"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_TTL_S = 10 * 365 * 86400
# A page of a list ends before it is larger: the server holds it until its client has taken it.
PAGE_BYTES = 4 * 1024**2
# Finish reasons. A reply with one of CUT is not whole.
STOP = "stop"
LENGTH = "length"
CONTENT_FILTER = "content_filter"  # it held what may not be shown
TOOL_CALLS = "tool_calls"  # the model called a tool instead of going on
REFUSAL = "refusal"  # its text is the model's refusal
CUT = frozenset({LENGTH, CONTENT_FILTER, TOOL_CALLS})


class Role(StrEnum):
    """Who a message is from."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class Status(StrEnum):
    """Where a reply stands; every status but ``generating`` is final."""

    GENERATING = "generating"
    COMPLETED = "completed"  # the provider says that it is whole, and there is text
    STOPPED = "stopped"  # somebody asked to stop
    TRUNCATED = "truncated"  # the provider or a limit ended it too early, after some text
    FAILED = "failed"  # no text came at all
    INTERRUPTED = "interrupted"  # the process that generated it is gone


class Usage(msgspec.Struct, frozen=True):
    """Tokens that a reply cost, as counted by the provider."""

    input_tokens: int
    output_tokens: int


class Delta(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A piece of a reply: text for the reader, or reasoning that led to it."""

    text: str = ""
    reasoning: str = ""


class Finish(msgspec.Struct, frozen=True):
    """The provider's own word that the reply has ended; nothing follows it."""

    reason: str
    usage: Usage | None = None
    model: str | None = None
    screened: bool = False
    """Whether the reply ends by our word: it held what may not be shown."""
    tool: str | None = None
    """The name of a tool that the model called; empty if it gave none."""


class PromptMessage(msgspec.Struct, frozen=True):
    """One message of a prompt."""

    role: Role
    content: str


class Said(NamedTuple):
    """What a prompt is built from: a stored message, with the problem's code and the finish reason that ended it."""

    role: Role
    content: str
    error: str | None = None
    finish_reason: str | None = None


class Prompt(msgspec.Struct, frozen=True):
    """What is sent to the provider."""

    model: str
    messages: tuple[PromptMessage, ...]
    temperature: float | None = None
    max_tokens: int | None = None


class Message(msgspec.Struct, frozen=True):
    """A user message or a reply, as it is stored. Times are µs since 1970 in UTC."""

    id: UUID
    conversation_id: UUID
    parent_id: UUID | None
    position: int
    role: Role
    content: str
    timestamp: int
    status: Status = Status.COMPLETED
    reasoning: str = ""
    model: str | None = None
    finish_reason: str | None = None
    error: str | None = None
    """The code of the problem that ended a reply."""
    error_detail: str | None = None
    """What that problem said, in English; None if it said no more than its code."""
    usage: Usage | None = None
    cached: bool = False


class Conversation(msgspec.Struct, frozen=True):
    """A conversation without its messages. Times are µs since 1970 in UTC; ``ttl`` is in seconds."""

    id: UUID
    owner: str
    title: str
    created_at: int
    last_active: int
    message_count: int = 0
    current_id: UUID | None = None
    forks: int = 0
    system: str | None = None
    ttl: int | None = None
    expires_at: int | None = None
    pinned: bool = False
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)


def expiry(conversation: Conversation) -> int | None:
    """Return when a conversation expires by its ttl and its last activity, in µs since 1970; None where it is kept."""
    if conversation.pinned or conversation.ttl is None:
        return None
    return conversation.last_active + conversation.ttl * 1_000_000


def now_us() -> int:
    """Return the wall clock in µs since 1970, UTC: for what is stored and shown, never for deadlines."""
    return time.time_ns() // 1000


def moment(at_us: int) -> datetime:
    """Return µs since 1970 as a time in UTC; `datetime.fromtimestamp` ends with the year 3000 on Windows."""
    return _EPOCH + timedelta(microseconds=at_us)


def new_id(at_us: int | None = None) -> UUID:
    """Return a UUIDv7 (RFC 9562 §5.7) of now, or of ``at_us``; the µs within the millisecond lead its random part."""
    us = now_us() if at_us is None else at_us
    millis, rest = divmod(us, 1000)
    value = (millis & (1 << 48) - 1) << 80 | 7 << 76 | (rest << 2) << 64
    value |= 0b10 << 62 | int.from_bytes(os.urandom(8), "big") >> 2
    return _uuid(value)


def id_of(raw: bytes) -> UUID:
    """Return the id that is stored as these 16 bytes."""
    return _uuid(int.from_bytes(raw, "big"))


def _uuid(value: int) -> UUID:
    """Return a UUID without the checks of its constructor, four times as quick: there are dozens in a request."""
    made = UUID.__new__(UUID)
    object.__setattr__(made, "int", value)
    object.__setattr__(made, "is_safe", SafeUUID.unknown)
    return made
