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
# Reasoning stands in the text itself: folded, quoted and escaped by Python's `html.escape`, or as JavaScript does it.
_OPENING, _CLOSING = '<details type="reasoning"', "</details>"
_SUMMARY = re.compile(r"\s*+(?:<summary>[^<]*+</summary>)?+")
_BLANK = re.compile(r"\s*+")
_QUOTED = re.compile(r"(?m)^> ?")
_ESCAPED = re.compile(r"&(?:amp|lt|gt|quot|#x27|#39);")


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
    said, thoughts = _parted(text)
    whole = message.done is not False
    return Said(
        role,
        said,
        "\n\n".join(filter(None, map(_unfolded, thoughts))),
        message.model if isinstance(message.model, str) else None,
        Status.COMPLETED if whole else Status.TRUNCATED,
        "stop" if whole else None,
    )


def _text(content: Any) -> str:
    """Return a content's text, which may be in parts."""
    parts = content if isinstance(content, list) else [content]
    found = (part.get("text") if isinstance(part, dict) else part for part in parts)
    return "\n".join(text for text in found if isinstance(text, str) and text)


def _parted(text: str) -> tuple[str, list[str]]:
    """Return a text without the reasoning in it, and the reasoning. What is never closed is text."""
    said, thoughts, at = [], [], 0
    while (
        (opening := text.find(_OPENING, at)) >= 0
        and (begin := text.find(">", opening)) >= 0
        and (end := text.find(_CLOSING, begin)) >= 0
    ):
        said.append(text[at:opening])
        thoughts.append(text[_end(_SUMMARY, text, begin + 1) : end])
        at = _end(_BLANK, text, end + len(_CLOSING))
    return "".join([*said, text[at:]]), thoughts


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Return where the match ends that begins there; the pattern matches nothing, too."""
    found = pattern.match(text, at)
    return at if found is None else found.end()


def _unfolded(quoted: str) -> str:
    return _ESCAPED.sub(lambda found: html.unescape(found[0]), _QUOTED.sub("", quoted.strip()))
