"""The JSON of conversations and their messages."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from chatkeep.conversations.service import Listed
from chatkeep.domain import conversation as model
from chatkeep.domain.conversation import Role, Status
from chatkeep.i18n import Language, translated
from chatkeep.i18n.stored import recognized
from chatkeep.store.conversations import Position, Sorting
from chatkeep.web.patterns import whole
from chatkeep.web.schemas.chat import FinishReason, Metadata, System, Ttl, Usage, usage_of
from chatkeep.web.schemas.common import After, Id, Limit, Page, Time, page_of, time_or_none, time_text

Title = Annotated[str, Meta(min_length=1, max_length=255, description="The conversation's title.")]
Search = Annotated[
    str,
    Meta(min_length=1, max_length=200, description="Return conversations whose title or messages contain each word."),
]
# An id, and where its conversation stood: `conversations.Position`.
PLACE = whole("[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(_[0-9]{1,18}(_[0-9]{1,18})?)?")
Place = Annotated[
    str,
    Meta(pattern=PLACE, description="The `last_id` of the previous page in the same `sort`, or a conversation's id."),
]


class ConversationChanges(Struct, forbid_unknown_fields=True):
    """What to change in a conversation; omitted fields stay as they are."""

    title: Title | UnsetType = UNSET
    system: System | UnsetType | None = UNSET
    ttl: Ttl | UnsetType | None = UNSET
    pinned: Annotated[bool, Meta(description="A pinned conversation doesn't expire.")] | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET
    current_id: Annotated[UUID, Meta(description="Any message of the branch to make the current one.")] | UnsetType = (
        UNSET
    )


class ListQuery(Struct, forbid_unknown_fields=True):
    """Which conversations to list."""

    limit: Limit = 20
    after: Place | None = None
    sort: Annotated[Sorting, Meta(description="Sort by last activity or by creation.")] = "activity"
    order: Annotated[Literal["asc", "desc"], Meta(description="`desc` is newest first.")] = "desc"
    q: Search | None = None
    pinned: Annotated[bool, Meta(description="Return only conversations that are pinned, or that are not.")] | None = (
        None
    )


class MessagesQuery(Struct, forbid_unknown_fields=True):
    """Which messages of a conversation to return."""

    limit: Limit = 100
    after: After | None = None
    order: Annotated[Literal["asc", "desc"], Meta(description="By time: `asc` is oldest first.")] = "asc"


class Message(Struct):
    """A user message or a reply."""

    id: Id
    parent_id: Id | None
    position: Annotated[int, Meta(description="The message's number in the conversation, from 1.")]
    role: Role
    content: str
    reasoning: str
    status: Status
    model: str | None
    finish_reason: FinishReason
    error: Annotated[str | None, Meta(description="The code of the problem that ended the reply.")]
    error_detail: Annotated[str | None, Meta(description="The problem's detail.")]
    usage: Usage | None
    cached: bool
    timestamp: Time
    siblings: Annotated[
        list[Id], Meta(description="Messages with the same parent, including this one: the newest 100 at most.")
    ]


class MessageList(Page[Message, Id], kw_only=True):
    """A page of messages."""


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


class ConversationList(Page[Conversation, Id], kw_only=True):
    """A page of conversations."""

    last_id: Annotated[str, Meta(description="The `after` of the next page.")] | None  # type: ignore[assignment]


def message_of(message: model.Message, siblings: list[UUID], language: Language) -> Message:
    """Return the JSON of a message."""
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
        error_detail=message.error_detail and translated(recognized(message.error_detail), language),
        usage=usage_of(message.usage),
        cached=message.cached,
        timestamp=time_text(message.timestamp),
        siblings=siblings,
    )


def messages_of(
    found: list[model.Message], siblings: dict[UUID, list[UUID]], language: Language, *, has_more: bool
) -> MessageList:
    """Return the JSON of a page of messages; a message that ``siblings`` doesn't name has none."""
    items = [message_of(message, siblings.get(message.id, [message.id]), language) for message in found]
    return page_of(MessageList, items, has_more=has_more)


def conversation_fields(conversation: model.Conversation) -> dict[str, Any]:
    """Return the fields of a conversation's JSON."""
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
        "expires_at": time_or_none(conversation.expires_at),
    }


def conversations_of(found: Listed) -> ConversationList:
    """Return the JSON of a page of conversations."""
    items = [Conversation(**conversation_fields(item)) for item in found.conversations]
    page = page_of(ConversationList, items, has_more=found.has_more)
    if page.data:
        page.last_id = _place(found.conversations[len(page.data) - 1], found)
    return page


def _place(conversation: model.Conversation, of: Listed) -> str:
    """Return where a conversation stands in a list, as `position_of` reads it."""
    if of.sort == "created":
        return str(conversation.id)
    return "_".join(map(str, (conversation.id, conversation.last_active, *([] if of.until is None else [of.until]))))


def position_of(place: str | None) -> Position | UUID | None:
    """Return where a page begins: behind the previous page's end, or behind a conversation."""
    if place is None:
        return None
    id, *numbers = place.split("_")  # noqa: A001 - as everywhere
    return Position(int(numbers[0]), UUID(id), *map(int, numbers[1:])) if numbers else UUID(id)
