"""The JSON of shared conversations."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, Struct

from chatkeep.conversations import sharing
from chatkeep.domain.conversation import Message, Role, Status
from chatkeep.web.schemas.chat import FinishReason
from chatkeep.web.schemas.common import Id, Limit, Time, fitting, time_or_none, time_text

MOST_MESSAGES = 1_000_000


class Share(Struct, kw_only=True):
    """Whether a conversation is shared."""

    object: Literal["share"] = "share"
    conversation_id: Id
    shared: bool
    created_at: Annotated[Time | None, Meta(description="When the link was created. It shows the messages up to then.")]


class NewShare(Share, kw_only=True):
    """A new link."""

    token: Annotated[str, Meta(description="The secret in the link, shown only once.")]
    path: Annotated[str, Meta(description="The path of the page.")]
    url: Annotated[str, Meta(description="The link: `CHATKEEP_PUBLIC_URL`, or this request's host, plus the path.")]


class SharedQuery(Struct, forbid_unknown_fields=True):
    """Which messages of a shared conversation to return."""

    limit: Limit = 100
    after: Annotated[int, Meta(ge=0, le=MOST_MESSAGES, description="Number of messages to skip.")] = 0


class SharedMessage(Struct):
    """A message of a shared conversation."""

    role: Role
    content: str
    status: Status
    finish_reason: FinishReason
    cached: bool


class SharedMessages(Struct, kw_only=True):
    """A page of messages of a shared conversation."""

    object: Literal["list"] = "list"
    data: list[SharedMessage]
    has_more: bool


class SharedConversation(Struct, kw_only=True):
    """A shared conversation."""

    object: Literal["shared_conversation"] = "shared_conversation"
    title: str
    messages: SharedMessages


def share_of(conversation_id: UUID, since: int | None) -> Share:
    """Return the JSON of whether a conversation is shared."""
    return Share(conversation_id=conversation_id, shared=since is not None, created_at=time_or_none(since))


def new_share_of(made: sharing.NewShare, path: str, url: str) -> NewShare:
    """Return the JSON of a new link."""
    return NewShare(
        conversation_id=made.share.conversation_id,
        shared=True,
        created_at=time_text(made.share.created_at),
        token=made.token,
        path=path,
        url=url,
    )


def shared_of(found: sharing.SharedReading) -> SharedConversation:
    """Return the JSON of what a link shows."""
    data, is_cut = fitting([_message_of(message) for message in found.messages])
    shown = SharedMessages(data=list(data), has_more=found.has_more or is_cut)
    return SharedConversation(title=found.title, messages=shown)


def _message_of(message: Message) -> SharedMessage:
    return SharedMessage(message.role, message.content, message.status, message.finish_reason, message.cached)
