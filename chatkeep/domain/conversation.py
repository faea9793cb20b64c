"""Plain values that the packages pass to each other."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID, SafeUUID

import msgspec

# The owner of all data while the server needs no key.
OPEN_OWNER = "local"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_TTL_S = 10 * 365 * 86400
# The maximum size of a page of a list: the server holds it in memory until the client has read it.
PAGE_BYTES = 4 * 1024**2
# Finish reasons. A reply with one of CUT is incomplete.
STOP = "stop"
LENGTH = "length"
CONTENT_FILTER = "content_filter"  # a filter removed content
TOOL_CALLS = "tool_calls"  # the model called a tool
REFUSAL = "refusal"  # the text is the model's refusal
CUT = frozenset({LENGTH, CONTENT_FILTER, TOOL_CALLS})


class Role(StrEnum):
    """Who a message is from."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class Status(StrEnum):
    """Where a reply stands; every status but ``generating`` is final."""

    GENERATING = "generating"
    COMPLETED = "completed"  # the provider finished it, and it has text
    STOPPED = "stopped"  # a user or an application stopped it
    TRUNCATED = "truncated"  # the provider or a limit ended it after some text
    FAILED = "failed"  # no text arrived
    INTERRUPTED = "interrupted"  # the process that generated it ended


class Usage(msgspec.Struct, frozen=True):
    """The tokens of a turn, as counted by the provider."""

    input_tokens: int
    output_tokens: int


class Delta(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A piece of a reply: text for the reader, or reasoning that led to it."""

    text: str = ""
    reasoning: str = ""


class Finish(msgspec.Struct, frozen=True):
    """The provider's last event of a reply."""

    reason: str
    usage: Usage | None = None
    model: str | None = None
    screened: bool = False
    """Whether a redaction policy ended the reply."""
    tool: str | None = None
    """The name of the tool that the model called; empty if it has none."""


class PromptMessage(msgspec.Struct, frozen=True):
    """One message of a prompt."""

    role: Role
    content: str


class Said(NamedTuple):
    """A stored message that a prompt is built from, with the code and finish reason that ended it."""

    role: Role
    content: str
    error: str | None = None
    finish_reason: str | None = None


class Prompt(msgspec.Struct, frozen=True):
    """A request to the provider."""

    model: str
    messages: tuple[PromptMessage, ...]
    temperature: float | None = None
    max_tokens: int | None = None


class Message(msgspec.Struct, frozen=True):
    """A stored user message or reply. Times are µs since 1970 in UTC."""

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
    """The detail of that problem, in English; None if it is the code's title."""
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
    """Return when a conversation expires, in µs since 1970; None if it does not."""
    if conversation.pinned or conversation.ttl is None:
        return None
    return conversation.last_active + conversation.ttl * 1_000_000


def now_us() -> int:
    """Return the wall clock in µs since 1970, UTC, for stored and shown times; never use it for deadlines."""
    return time.time_ns() // 1000


def moment(at_us: int) -> datetime:
    """Convert µs since 1970 to UTC; on Windows `datetime.fromtimestamp` fails after the year 3000."""
    return _EPOCH + timedelta(microseconds=at_us)


def new_id(at_us: int | None = None) -> UUID:
    """Return a UUIDv7 (RFC 9562 §5.7) of now, or of ``at_us``; the random part begins with the microseconds."""
    us = now_us() if at_us is None else at_us
    millis, rest = divmod(us, 1000)
    value = (millis & (1 << 48) - 1) << 80 | 7 << 76 | (rest << 2) << 64
    value |= 0b10 << 62 | int.from_bytes(os.urandom(8), "big") >> 2
    return _uuid(value)


def id_of(raw: bytes) -> UUID:
    """Return the id with these 16 bytes."""
    return _uuid(int.from_bytes(raw, "big"))


def _uuid(value: int) -> UUID:
    """Build a UUID without the constructor's checks, four times as fast: a request has dozens."""
    made = UUID.__new__(UUID)
    object.__setattr__(made, "int", value)
    object.__setattr__(made, "is_safe", SafeUUID.unknown)
    return made
