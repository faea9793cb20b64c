"""The JSON of the API: what requests may hold and what answers do. The OpenAPI document is made from these."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from chatkeep.conversations.service import Listed
from chatkeep.domain import conversation as model
from chatkeep.domain.conversation import MAX_TTL_S, PAGE_BYTES, Role, Status
from chatkeep.exports import dates
from chatkeep.runtime.i18n import Language, translated
from chatkeep.store.conversations import Position, Sorting
from chatkeep.web.patterns import whole

Item = TypeVar("Item", bound=Struct)
Title = Annotated[str, Meta(min_length=1, max_length=255, description="The conversation's title.")]
System = Annotated[str, Meta(max_length=100_000, description="The system prompt, sent before the messages.")]
Ttl = Annotated[
    int, Meta(ge=1, le=MAX_TTL_S, description="Seconds that the conversation is kept after its last activity.")
]
Metadata = Annotated[
    dict[str, Any], Meta(description="Anything that the application wants to keep here, up to 16 KiB.")
]
Id = Annotated[UUID, Meta(description="A UUIDv7.")]
Time = Annotated[str, Meta(description="RFC 3339 in UTC with milliseconds.", examples=["2026-11-22T09:30:00.000Z"])]
Limit = Annotated[
    int, Meta(ge=1, le=100, description="How many items to return at most; fewer if they have over 4 MiB.")
]
Search = Annotated[
    str, Meta(min_length=1, max_length=200, description="Keeps those whose title or text contains each of its words.")
]
Known = Annotated[int, Meta(ge=0, description="Characters of the reply's text that are known already.")]
After = Annotated[UUID, Meta(description="Begin behind the item with this id.")]
# Ids begin with the time of their creation, so they are places in a list by creation.
AfterCreated = Annotated[UUID, Meta(description="Begin behind this id, whether its item is still there or not.")]
# An id, and where its conversation stood: `conversations.Position`.
PLACE = whole("[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(_[0-9]{1,18}(_[0-9]{1,18})?)?")
Place = Annotated[
    str,
    Meta(
        pattern=PLACE,
        description="The `last_id` of the page before, in the same `sort`. By activity, the id of a conversation begins"
        " behind where it stands now; by creation, behind that id, whether the conversation is there or not.",
    ),
]


Said = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=1_000_000,
        description="What the user says. The whole body has at most `CHATKEEP_MAX_BODY` bytes, 1 MiB by default: that"
        " is 340,000 Chinese characters in UTF-8, and half as many where JSON escapes them.",
    ),
]
Streamed = Annotated[bool, Meta(description="Answer with a stream of events.")]
ModelName = Annotated[str, Meta(min_length=1, max_length=255, description="The model that answers.")]
Temperature = Annotated[
    float, Meta(ge=0, le=2, description="Left out, with a line in the log, for a model that takes only its default.")
]
MaxTokens = Annotated[int, Meta(ge=1, le=10_000_000, description="How long the reply may grow.")]
Cached = Annotated[
    bool, Meta(description="Whether an answer that was given to the same prompt before may be given again.")
]
OnDisconnect = Annotated[
    Literal["continue", "stop"], Meta(description="What becomes of the reply when the client goes away.")
]


class ChatRequest(Struct, forbid_unknown_fields=True):
    """A turn to take."""

    message: Said
    conversation_id: Id | None = None
    stream: Streamed = False
    model: ModelName | None = None
    system: System | UnsetType | None = UNSET
    temperature: Temperature | None = None
    max_tokens: MaxTokens | None = None
    cache: Cached = True
    on_disconnect: OnDisconnect = "continue"
    metadata: Metadata | UnsetType = UNSET
    ttl: Ttl | UnsetType | None = UNSET


class RegenerateRequest(Struct, forbid_unknown_fields=True):
    """How to regenerate a reply; every field may be left out."""

    stream: Streamed = False
    model: ModelName | None = None
    temperature: Temperature | None = None
    max_tokens: MaxTokens | None = None
    on_disconnect: OnDisconnect = "continue"


class EditRequest(RegenerateRequest, kw_only=True, forbid_unknown_fields=True):
    """What the user says instead."""

    message: Said
    cache: Cached = True


class ConversationChanges(Struct, forbid_unknown_fields=True):
    """What to change in a conversation; fields that are left out stay as they are."""

    title: Title | UnsetType = UNSET
    system: System | UnsetType | None = UNSET
    ttl: Ttl | UnsetType | None = UNSET
    pinned: Annotated[bool, Meta(description="A pinned conversation does not expire.")] | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET
    current_id: (
        Annotated[UUID, Meta(description="Any message of the branch that becomes the current one.")] | UnsetType
    ) = UNSET


class ListQuery(Struct, forbid_unknown_fields=True):
    """Which conversations to list."""

    limit: Limit = 20
    after: Place | None = None
    sort: Annotated[Sorting, Meta(description="By the newest activity, or by creation, which never changes.")] = (
        "activity"
    )
    order: Annotated[Literal["asc", "desc"], Meta(description="desc is newest first.")] = "desc"
    q: Search | None = None
    pinned: Annotated[bool, Meta(description="Keeps those that are pinned, or those that are not.")] | None = None


class MessagesQuery(Struct, forbid_unknown_fields=True):
    """Which messages of a conversation to return."""

    limit: Limit = 100
    after: After | None = None
    order: Annotated[Literal["asc", "desc"], Meta(description="By time; asc is oldest first.")] = "asc"


class FollowQuery(Struct, forbid_unknown_fields=True):
    """From where to follow a reply."""

    after: Known | None = None


Moment = Annotated[
    str,
    Meta(
        pattern=whole(dates.PATTERN),
        description="A day in UTC, or a time with its offset (RFC 3339; a + is written %2B); it is part of the range.",
        examples=["2026-11-22", "2026-11-22T09:30:00Z"],
    ),
]


FinishReason = Annotated[
    str | None,
    Meta(description="Why the reply ended: stop, length, content_filter, tool_calls, refusal, or the provider's word."),
]


class Usage(Struct):
    """Tokens as the provider counted them."""

    input_tokens: int
    output_tokens: int


class ChatAnswer(Struct):
    """A whole reply."""

    conversation_id: Id
    message_id: Id
    reply: str
    model: str | None
    finish_reason: FinishReason
    status: Status
    cached: bool
    usage: Usage | None
    created_at: Time
    reasoning: Annotated[str, Meta(description="What the model thought, where it says so.")] | UnsetType = UNSET


class Start(Struct):
    """The first event of a stream."""

    conversation_id: Id
    message_id: Id
    model: str | None
    cached: bool


class Done(Struct):
    """The last event of a stream."""

    finish_reason: FinishReason
    status: Status
    cached: bool
    usage: Usage | None
    created_at: Time


class Message(Struct):
    """A user message or a reply."""

    id: Id
    parent_id: Id | None
    position: Annotated[int, Meta(description="Counts the conversation's messages from 1.")]
    role: Role
    content: str
    reasoning: str
    status: Status
    model: str | None
    finish_reason: FinishReason
    error: Annotated[str | None, Meta(description="The code of the problem that ended the reply.")]
    error_detail: Annotated[str | None, Meta(description="What the problem said beyond its code.")]
    usage: Usage | None
    cached: bool
    timestamp: Time
    siblings: Annotated[
        list[Id],
        Meta(description="The messages with the same parent, this one included: the newest 100 where they are more."),
    ]


class MessageList(Struct, kw_only=True):
    """A page of messages."""

    object: Literal["list"] = "list"
    data: list[Message]
    first_id: Id | None
    last_id: Id | None
    has_more: bool


class Conversation(Struct, kw_only=True):
    """A conversation without its messages."""

    object: Literal["conversation"] = "conversation"
    id: Id
    title: str
    system: str | None
    ttl: int | None
    pinned: bool
    metadata: dict[str, Any]
    message_count: int
    current_id: Annotated[Id | None, Meta(description="The last message of the current branch.")]
    created_at: Time
    last_active: Time
    expires_at: Time | None


class ConversationWithMessages(Conversation, kw_only=True):
    """A conversation with a page of its messages."""

    messages: MessageList


class ConversationList(Struct, kw_only=True):
    """A page of conversations."""

    object: Literal["list"] = "list"
    data: list[Conversation]
    first_id: Id | None
    last_id: Annotated[str, Meta(description="Where this page ends: the `after` of the next one.")] | None
    has_more: bool


class Deleted(Struct):
    """What was deleted."""

    id: Id
    deleted: bool = True


class Stopped(Struct):
    """Whether a reply was being generated and is stopped now."""

    conversation_id: Id
    message_id: Id | None
    stopped: bool


class ProblemField(Struct):
    """What is wrong with one field."""

    field: str
    message: str


class ApiDocument(Struct):
    """A document of OpenAPI."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]


class Problem(Struct, omit_defaults=True):
    """An error as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    code: Annotated[str, Meta(description="Stable; meant for programs.")]
    request_id: str
    errors: list[ProblemField] = []
    conversation_id: Id | None = None
    message_id: Id | None = None


def time_text(at: int) -> str:
    """Return µs since 1970 as RFC 3339 text."""
    seconds, rest = divmod(at, 1_000_000)
    return f"{_second_text(seconds)}.{rest // 1000:03d}Z"


@lru_cache(4096)
def _second_text(seconds: int) -> str:
    return f"{model.moment(seconds * 1_000_000):%Y-%m-%dT%H:%M:%S}"


def usage_of(usage: model.Usage | None) -> Usage | None:
    """Return the shape of usage."""
    return None if usage is None else Usage(usage.input_tokens, usage.output_tokens)


def message_of(message: model.Message, siblings: list[UUID], language: Language) -> Message:
    """Return the shape of a message."""
    return Message(
        id=message.id,
        parent_id=message.parent_id,
        position=message.position,
        role=message.role,
        content=message.content,
        reasoning=message.reasoning,
        status=message.status,
        model=message.model,
        finish_reason=message.finish_reason,
        error=message.error,
        error_detail=message.error_detail and translated(message.error_detail, language),
        usage=usage_of(message.usage),
        cached=message.cached,
        timestamp=time_text(message.timestamp),
        siblings=siblings,
    )


def messages_of(
    found: list[model.Message], siblings: dict[UUID, list[UUID]], language: Language, *, has_more: bool
) -> MessageList:
    """Return the shape of a page of messages; one without an entry in ``siblings`` has none."""
    schemas = [message_of(message, siblings.get(message.id, [message.id]), language) for message in found]
    data, is_cut = fitting(schemas)
    return MessageList(data=data, first_id=_id(data, 0), last_id=_id(data, -1), has_more=has_more or is_cut)


def fitting(items: list[Item]) -> tuple[list[Item], bool]:
    """Return the first items whose JSON fits into an answer, one at least, and whether others are left."""
    left = PAGE_BYTES
    for index, item in enumerate(items):
        left -= len(msgspec.json.encode(item))
        if left < 0:
            shown = items[: max(index, 1)]
            return shown, len(shown) < len(items)
    return items, False


def conversation_fields(conversation: model.Conversation) -> dict[str, Any]:
    """Return the fields of a conversation's shape."""
    return {
        "id": conversation.id,
        "title": conversation.title,
        "system": conversation.system,
        "ttl": conversation.ttl,
        "pinned": conversation.pinned,
        "metadata": conversation.metadata,
        "message_count": conversation.message_count,
        "current_id": conversation.current_id,
        "created_at": time_text(conversation.created_at),
        "last_active": time_text(conversation.last_active),
        "expires_at": None if conversation.expires_at is None else time_text(conversation.expires_at),
    }


def conversations_of(found: Listed) -> ConversationList:
    """Return the shape of a page of conversations."""
    data, is_cut = fitting([Conversation(**conversation_fields(item)) for item in found.conversations])
    last = _place(found.conversations[len(data) - 1], found) if data else None
    return ConversationList(data=data, first_id=_id(data, 0), last_id=last, has_more=found.has_more or is_cut)


def _place(conversation: model.Conversation, of: Listed) -> str:
    """Return what `position_of` reads: where a conversation stands in a list."""
    if of.sort == "created":
        return str(conversation.id)
    return "_".join(map(str, (conversation.id, conversation.last_active, *([] if of.until is None else [of.until]))))


def position_of(place: str | None) -> Position | UUID | None:
    """Return where a page begins, by the end of the one before, or by a conversation's id."""
    if place is None:
        return None
    id, *numbers = place.split("_")  # noqa: A001 - as everywhere
    return Position(int(numbers[0]), UUID(id), *map(int, numbers[1:])) if numbers else UUID(id)


def _id(data: Sequence[Message | Conversation], index: int) -> UUID | None:
    """Return the id of one of a page's items, None on an empty page."""
    return data[index].id if data else None
