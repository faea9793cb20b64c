"""The rows that a turn adds to a conversation. Pure: no I/O and no clock."""

from __future__ import annotations

from uuid import UUID

from msgspec.structs import replace

from chatkeep.domain.conversation import Conversation, Message, Role, Status, expiry, new_id
from chatkeep.turns.cache import Answer

TITLE_LENGTH = 80


def title_of(message: str) -> str:
    """Return a conversation's title: the first line of its first message, shortened."""
    lines = message.strip().splitlines()
    line = " ".join(lines[0].split()) if lines else ""
    return line if len(line) <= TITLE_LENGTH else f"{line[: TITLE_LENGTH - 1]}…"


def turn_rows(
    conversation: Conversation, said: str | None, reply_id: UUID, model: str, now: int
) -> tuple[Message | None, Message]:
    """Return the user message and the reply, later than the rest of the conversation even if the clock went back.

    ``said`` is None to regenerate a reply: its parent is then the message that was answered before.
    """
    at = max(now, conversation.last_active + 1)
    if said is None:
        return None, _reply(conversation, conversation.current_id, reply_id, model, at + 1, added=1)
    asked = Message(
        id=new_id(),
        conversation_id=conversation.id,
        parent_id=conversation.current_id,
        position=conversation.message_count + 1,
        role=Role.USER,
        content=said,
        timestamp=at,
    )
    return asked, _reply(conversation, asked.id, reply_id, model, at + 1, added=2)


def advanced(conversation: Conversation, reply: Message) -> Conversation:
    """Return a conversation with a new turn at its end."""
    moved = replace(conversation, last_active=reply.timestamp, message_count=reply.position, current_id=reply.id)
    return replace(moved, expires_at=expiry(moved))


def repeated(reply: Message, answer: Answer) -> Message:
    """Return a reply with a cached answer."""
    return replace(
        reply, content=answer.text, reasoning=answer.reasoning, status=Status.COMPLETED,
        finish_reason=answer.finish_reason, usage=answer.usage, model=answer.model, cached=True,
    )  # fmt: skip


def _reply(
    conversation: Conversation, parent_id: UUID | None, id: UUID, model: str, timestamp: int, *, added: int
) -> Message:
    return Message(
        id=id,
        conversation_id=conversation.id,
        parent_id=parent_id,
        position=conversation.message_count + added,
        role=Role.ASSISTANT,
        content="",
        timestamp=timestamp,
        status=Status.GENERATING,
        model=model,
    )
