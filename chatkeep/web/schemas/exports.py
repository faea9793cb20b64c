"""The JSON of exports, and of the files that are imported."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from chatkeep.domain.conversation import Role, Status
from chatkeep.web.schemas.chat import Usage
from chatkeep.web.schemas.common import Id, Moment

ExportFormat = Annotated[Literal["json", "csv", "ndjson", "md", "openai"], Meta(description="The file format.")]
Cursor = Annotated[
    str,
    Meta(
        max_length=64,
        description="The `cursor` of an earlier full export: export only what changed since then.",
        examples=["1027"],
    ),
]
Precise = Annotated[str, Meta(description="RFC 3339 in UTC with microseconds.")]


class ExportQuery(Struct, forbid_unknown_fields=True):
    """How to export."""

    format: ExportFormat = "json"
    bom: Annotated[bool, Meta(description="Begin a `csv` with a byte order mark, for Excel.")] = False


class ExportAllQuery(ExportQuery, forbid_unknown_fields=True):
    """Which conversations to export, and how."""

    start_date: Moment | None = None
    end_date: Moment | None = None
    cursor: Cursor | None = None


class ExportedMessage(Struct):
    """A message in an export; in `ndjson` it also has a `conversation_id`."""

    object: Literal["message"]
    id: Id
    parent_id: Id | None
    position: Annotated[int, Meta(description="The message's number in the conversation, from 1.")]
    timestamp: Precise
    on_branch: Annotated[bool, Meta(description="Whether the message is on the current branch.")]
    role: Role
    ai_generated: Annotated[bool, Meta(description="`true` for replies.")]
    status: Status
    model: str | None
    finish_reason: str | None
    error: Annotated[str | None, Meta(description="The code of the problem that ended the reply.")]
    error_detail: Annotated[str | None, Meta(description="The problem's detail.")]
    cached: bool
    usage: Usage | None
    content: str
    reasoning: str


class ExportedConversation(Struct):
    """A conversation in an export; in `ndjson` its messages are the lines that follow."""

    object: Literal["conversation"]
    id: Id
    title: str
    system: str | None
    ttl: int | None
    pinned: bool
    metadata: dict[str, Any]
    message_count: int
    current_id: Annotated[Id | None, Meta(description="The last message of the current branch.")]
    created_at: Precise
    last_active: Precise
    expires_at: Precise | None
    messages: list[ExportedMessage]


class Tombstone(Struct):
    """Says that a conversation was deleted or has expired."""

    object: Literal["tombstone"]
    id: Id
    reason: Literal["deleted", "expired"]
    deleted_at: Precise


class ExportEnd(Struct, kw_only=True):
    """The last line of an export in `json` or `ndjson`."""

    object: Literal["export.end"]
    conversations: int
    messages: int
    tombstones: Annotated[int, Meta(description="In incremental exports.")] | UnsetType = UNSET
    sha256: Annotated[str, Meta(description="The hash of every byte before this line.")]
    cursor: Annotated[str, Meta(description="The `cursor` for the next incremental export.")] | UnsetType = UNSET


class Export(Struct, kw_only=True):
    """Conversations with their messages; in an incremental export, only those that changed."""

    object: Literal["export"]
    version: int
    since: Annotated[str, Meta(description="In incremental exports: the cursor that was sent.")] | UnsetType = UNSET
    conversations: list[ExportedConversation]
    tombstones: (
        Annotated[list[Tombstone], Meta(description="In incremental exports: deleted and expired conversations.")]
        | UnsetType
    ) = UNSET
    end: ExportEnd
