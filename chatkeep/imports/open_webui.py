"""A chat of Open WebUI's export."""

from __future__ import annotations

import html
import re
from typing import Any

from msgspec import Struct

from chatkeep.imports.foreign import Chat, Node, Said, microseconds
from chatkeep.model import Role, Status

SOURCE = "open-webui"
_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT}
# Reasoning stands in the text itself: folded, quoted and escaped.
_REASONING = re.compile(r'<details type="reasoning"[^>]*>\s*(?:<summary>[^<]*</summary>)?(.*?)</details>\s*', re.DOTALL)
_QUOTED = re.compile(r"(?m)^> ?")


class Message(Struct, rename="camel"):
    """A message."""

    role: str = ""
    content: Any = None
    parent_id: str | None = None
    timestamp: float | None = None
    model: Any = None
    done: Any = True


class History(Struct, rename="camel"):
    """The tree."""

    messages: dict[str, Message]
    current_id: str | None = None


class Inner(Struct):
    """What the page keeps of a chat."""

    history: History
    title: str | None = None


class Conversation(Struct):
    """A chat."""

    chat: Inner
    id: str = ""
    title: str | None = None
    created_at: float | None = None
    updated_at: float | None = None
    pinned: bool | None = None


def chat_of(found: Conversation) -> Chat:
    """Return a chat's tree."""
    history = found.chat.history
    return Chat(
        source=SOURCE,
        id=found.id,
        title=found.title or found.chat.title or "",
        created_at=microseconds(found.created_at),
        updated_at=microseconds(found.updated_at),
        current=history.current_id,
        nodes=[
            Node(id, one.parent_id, microseconds(one.timestamp), _said(one))
            for id, one in history.messages.items()  # noqa: A001
        ],
        pinned=bool(found.pinned),
    )


def _said(message: Message) -> Said | None:
    role, text = _ROLES.get(message.role), _text(message.content)
    if role is not Role.ASSISTANT:
        return None if role is None else Said(role, text)
    thoughts = [_unfolded(found) for found in _REASONING.findall(text)]
    whole = message.done is not False
    return Said(
        role,
        _REASONING.sub("", text),
        "\n\n".join(filter(None, thoughts)),
        message.model if isinstance(message.model, str) else None,
        Status.COMPLETED if whole else Status.TRUNCATED,
        "stop" if whole else None,
    )


def _text(content: Any) -> str:
    """Return a content's text, which may be in parts."""
    parts = content if isinstance(content, list) else [content]
    found = (part.get("text") if isinstance(part, dict) else part for part in parts)
    return "\n".join(text for text in found if isinstance(text, str) and text)


def _unfolded(quoted: str) -> str:
    return html.unescape(_QUOTED.sub("", quoted.strip()))
