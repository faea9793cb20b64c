"""The JSON of shared conversations."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, Struct

from chatkeep.conversations import sharing
from chatkeep.domain.conversation import Message, Role, Status
from chatkeep.web.schemas.chat import FinishReason, Id, Limit, Time, fitting, time_text

MOST_MESSAGES = 1_000_000


class Share(Struct, kw_only=True):
    """Whether a conversation is shared."""

    object: Literal["share"] = "share"
    conversation_id: Id
    shared: bool
    created_at: Annotated[Time | None, Meta(description="When the link was made, and so what it shows.")]


class NewShare(Share, kw_only=True):
    """A link that was just made."""

    token: Annotated[str, Meta(description="What lets in, which is shown only now.")]
    path: Annotated[str, Meta(description="Where the server shows it to people.")]
    url: Annotated[
        str, Meta(description="The whole link: CHATKEEP_PUBLIC_URL, or else this request's host, and the path.")
    ]


class SharedQuery(Struct, forbid_unknown_fields=True):
    """Which messages of a shared conversation to return."""

    limit: Limit = 100
    after: Annotated[int, Meta(ge=0, le=MOST_MESSAGES, description="How many of the first messages to leave out.")] = 0


class SharedMessage(Struct):
    """A message as readers of a link see it."""

    role: Role
    content: str
    status: Status
    finish_reason: FinishReason
    cached: bool


class SharedMessages(Struct, kw_only=True):
    """A page of them."""

    object: Literal["list"] = "list"
    data: list[SharedMessage]
    has_more: bool


class SharedConversation(Struct, kw_only=True):
    """A conversation as readers of a link see it."""

    object: Literal["shared_conversation"] = "shared_conversation"
    title: str
    messages: SharedMessages


def share_of(conversation_id: UUID, since: int | None) -> Share:
    """Return the shape of a conversation's link, or of there being none."""
    shared, created_at = since is not None, None if since is None else time_text(since)
    return Share(conversation_id=conversation_id, shared=shared, created_at=created_at)


def new_share_of(made: sharing.NewShare, path: str, url: str) -> NewShare:
    """Return the shape of a link that was just made."""
    return NewShare(
        conversation_id=made.share.conversation_id,
        shared=True,
        created_at=time_text(made.share.created_at),
        token=made.token,
        path=path,
        url=url,
    )


def shared_of(found: sharing.SharedReading) -> SharedConversation:
    """Return the shape of what a link shows."""
    data, is_cut = fitting([_message_of(message) for message in found.messages])
    shown = SharedMessages(data=data, has_more=found.has_more or is_cut)
    return SharedConversation(title=found.title, messages=shown)


def _message_of(message: Message) -> SharedMessage:
    return SharedMessage(message.role, message.content, message.status, message.finish_reason, message.cached)
