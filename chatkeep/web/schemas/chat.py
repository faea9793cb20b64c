"""The JSON of turns: what a request for a reply may hold, and replies whole and as events."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from chatkeep.domain import conversation as model
from chatkeep.domain.conversation import MAX_TTL_S, Status
from chatkeep.web.schemas.common import Id, Time

System = Annotated[str, Meta(max_length=100_000, description="The system prompt, sent before the messages.")]
Ttl = Annotated[
    int,
    Meta(
        ge=1,
        le=MAX_TTL_S,
        description="Seconds until the conversation expires after its last activity; `null` keeps it.",
    ),
]
Metadata = Annotated[dict[str, Any], Meta(description="Your own JSON object, up to 16 KiB.")]
Text = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=1_000_000,
        description="The user's message. The whole body is limited by `CHATKEEP_MAX_BODY`, 1 MiB by default.",
    ),
]
Streamed = Annotated[bool, Meta(description="Answer with a stream of events.")]
ModelName = Annotated[
    str, Meta(min_length=1, max_length=255, description="The model that answers; `CHATKEEP_MODEL` by default.")
]
Temperature = Annotated[float, Meta(ge=0, le=2, description="Not sent to models that refuse it; the log then says so.")]
MaxTokens = Annotated[int, Meta(ge=1, le=10_000_000, description="Maximum length of the reply.")]
Cached = Annotated[bool, Meta(description="Whether a cached answer to the same prompt may be returned.")]
OnDisconnect = Annotated[
    Literal["continue", "stop"], Meta(description="Whether to finish the reply after the client disconnects.")
]
CharactersRead = Annotated[int, Meta(ge=0, description="Number of characters of the reply that you already have.")]
FinishReason = Annotated[
    str | None,
    Meta(
        description="`stop`, `length`, `content_filter`, `tool_calls`, `refusal`, or another value from the provider."
    ),
]


class ChatRequest(Struct, forbid_unknown_fields=True):
    """A message to send."""

    message: Text
    conversation_id: Annotated[Id, Meta(description="The conversation to continue; without it, a new one.")] | None = (
        None
    )
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
    """How to regenerate a reply."""

    stream: Streamed = False
    model: ModelName | None = None
    temperature: Temperature | None = None
    max_tokens: MaxTokens | None = None
    on_disconnect: OnDisconnect = "continue"


class EditRequest(RegenerateRequest, kw_only=True, forbid_unknown_fields=True):
    """The new text of a user message."""

    message: Text
    cache: Cached = True


class FollowQuery(Struct, forbid_unknown_fields=True):
    """Where in the reply to begin."""

    after: CharactersRead | None = None


class Usage(Struct):
    """Token counts from the provider."""

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
    reasoning: Annotated[str, Meta(description="The model's reasoning, if the provider sends it.")] | UnsetType = UNSET


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


class Stopped(Struct):
    """Whether a running reply was stopped."""

    conversation_id: Id
    message_id: Id | None
    stopped: bool


def usage_of(usage: model.Usage | None) -> Usage | None:
    """Return the JSON of usage."""
    return None if usage is None else Usage(usage.input_tokens, usage.output_tokens)
