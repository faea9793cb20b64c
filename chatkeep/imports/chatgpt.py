"""A conversation of ChatGPT's ``conversations.json``."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from chatkeep.imports.foreign import Chat, Node, Said, microseconds
from chatkeep.model import Role, Status

SOURCE = "chatgpt"
_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT}
# How a reply ended, where it is not whole.
_CUT = {
    "max_tokens": (Status.TRUNCATED, "length"),
    "interrupted": (Status.STOPPED, None),
}


class Author(Struct):
    """Whom a message is from."""

    role: str = ""


class Content(Struct):
    """What is said; which members there are depends on the type."""

    content_type: str = ""
    parts: Any = None
    text: Any = None
    thoughts: Any = None


class Message(Struct):
    """A message."""

    author: Author
    content: Content
    create_time: float | None = None
    status: str | None = None
    metadata: dict[str, Any] | None = None


class Mapped(Struct):
    """A node of the tree; the root has no message."""

    message: Message | None = None
    parent: str | None = None


class Conversation(Struct):
    """A conversation; the older ones have their id under another name."""

    mapping: dict[str, Mapped]
    title: str | None = None
    create_time: float | None = None
    update_time: float | None = None
    current_node: str | None = None
    conversation_id: str | None = None
    id: str | None = None


def chat_of(found: Conversation) -> Chat:
    """Return a conversation's tree."""
    return Chat(
        source=SOURCE,
        id=found.conversation_id or found.id or "",
        title=found.title or "",
        created_at=microseconds(found.create_time),
        updated_at=microseconds(found.update_time),
        current=found.current_node,
        nodes=[_node(id, one) for id, one in found.mapping.items()],  # noqa: A001
    )


def _node(id: str, mapped: Mapped) -> Node:
    message = mapped.message
    if message is None:
        return Node(id, mapped.parent)
    return Node(id, mapped.parent, microseconds(message.create_time), _said(message))


def _said(message: Message) -> Said | None:
    """Return what a message says; None where it is not one of a person or the model, or is not shown."""
    role, metadata = _ROLES.get(message.author.role), message.metadata or {}
    if role is None or metadata.get("is_visually_hidden_from_conversation"):
        return None
    if role is Role.USER:
        return Said(role, _text(message.content))
    status, reason = _ending(message, metadata)
    model = metadata.get("model_slug")
    return Said(
        role,
        _text(message.content),
        _thoughts(message.content),
        model if isinstance(model, str) else None,
        status,
        reason,
    )


def _text(content: Content) -> str:
    if content.content_type == "code":
        return content.text if isinstance(content.text, str) else ""
    if content.content_type not in {"text", "multimodal_text"} or not isinstance(content.parts, list):
        return ""
    return "\n".join(filter(None, map(_spoken, content.parts)))


def _spoken(part: Any) -> str:
    """Return a part's text: it may be that, or what somebody said aloud; a picture has none."""
    text = part.get("text") if isinstance(part, dict) else part
    return text if isinstance(text, str) else ""


def _thoughts(content: Content) -> str:
    if content.content_type != "thoughts" or not isinstance(content.thoughts, list):
        return ""
    found = (one.get(name) for one in content.thoughts if isinstance(one, dict) for name in ("summary", "content"))
    return "\n\n".join(text for text in found if isinstance(text, str) and text)


def _ending(message: Message, metadata: dict[str, Any]) -> tuple[Status, str | None]:
    details = metadata.get("finish_details")
    if message.status == "in_progress":
        return Status.TRUNCATED, None
    return _CUT.get(details.get("type", "") if isinstance(details, dict) else "", (Status.COMPLETED, "stop"))
