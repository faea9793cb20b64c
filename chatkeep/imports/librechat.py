"""Read a conversation of LibreChat: messages in a list, or nested in their parents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chatkeep.domain.conversation import Role, Status
from chatkeep.i18n import _
from chatkeep.imports.foreign import Chat, Content, Node, SourceMessage, chained
from chatkeep.imports.left_out import Kind, kind_of_type
from chatkeep.imports.loose import ident, items, members, objects, parts, text, text_in, time_us

SOURCE = "librechat"
# Old versions wrote the reasoning at the beginning of the text.
_THINKING, _THOUGHT = ":::thinking\n", "\n:::"
# The endings of incomplete replies.
_ENDINGS = {
    "unfinished": (Status.TRUNCATED, None),
    "incomplete": (Status.TRUNCATED, None),
    "length": (Status.TRUNCATED, "length"),
    "max_tokens": (Status.TRUNCATED, "length"),
}
_IGNORED = {"text", "agent_update", "summary"}


def fits(found: dict[str, Any]) -> bool:
    """Return whether an object is a conversation from LibreChat."""
    return "conversationId" in found and ("messages" in found or "messagesTree" in found)


def chat_of(found: dict[str, Any]) -> Chat:
    """Return a conversation's tree."""
    options = members(found.get("options"))
    model = text(options.get("model")) or text(found.get("model"))
    messages = found.get("messagesTree") or found.get("messages")
    nodes = [_node(id, parent, one, model) for id, parent, one in _placed(messages)]  # noqa: A001
    return Chat(
        source=SOURCE,
        id=ident(found.get("conversationId")),
        title=text(found.get("title")),
        created_at=time_us(found.get("createdAt")),
        updated_at=time_us(found.get("updatedAt")),
        current=None,
        nodes=chained(nodes),
        system=text(options.get("promptPrefix")) or text(options.get("system")),
    )


def _placed(messages: Any) -> Iterator[tuple[str, str | None, Any]]:
    """Yield messages, each after its parent, with their ids and those of their parents."""
    number = 0
    roots = items(messages) or ([messages] if messages else [])
    waiting: list[tuple[str | None, Any]] = [(None, one) for one in reversed(roots)]
    while waiting:
        above, message = waiting.pop()
        fields = members(message)
        id = ident(fields.get("messageId")) or f"#{number}"  # noqa: A001 - as everywhere
        number += 1
        yield id, ident(fields.get("parentMessageId")) or above, message
        waiting += [(id, child) for child in reversed(items(fields.get("children")))]


def _node(id: str, parent: str | None, message: Any, model: str) -> Node:
    fields, content = members(message), Content()
    role = _role(fields)
    problem, said = None, None
    if not fields:
        problem = _("it is not an object")
    elif role is None:
        problem = _("it has no author")
    else:
        said = _said(fields, role, model, content)
    return Node(id, parent, time_us(fields.get("createdAt")), said, left_out=content.left_out, problem=problem)


def _role(message: dict[str, Any]) -> Role | None:
    if isinstance(message.get("isCreatedByUser"), bool):
        return Role.USER if message["isCreatedByUser"] else Role.ASSISTANT
    sender = text(message.get("sender"))
    if not sender:
        return None
    return Role.USER if sender.lower() == "user" else Role.ASSISTANT


def _said(message: dict[str, Any], role: Role, model: str, found: Content) -> SourceMessage:
    for part in parts(message.get("content")):
        _part(part, found)
    if not any(found.texts):
        _parted(text(message.get("text")), found)
    for file in [*objects(message.get("files")), *objects(message.get("attachments"))]:
        found.attach_file(text(file.get("filename")), text(file.get("type")))
    if role is Role.USER:
        return SourceMessage(role, found.text())
    model = text(message.get("model")) or model
    if message.get("error"):
        return SourceMessage(role, "", found.reasoning(), model or None, Status.FAILED, None, found.text(), whole=True)
    cut = "unfinished" if message.get("unfinished") else text(message.get("finish_reason"))
    status, reason = _ENDINGS.get(cut, (Status.COMPLETED, "stop"))
    return SourceMessage(role, found.text(), found.reasoning(), model or None, status, reason, whole=True)


def _parted(said: str, found: Content) -> None:
    thought, closing, rest = said.removeprefix(_THINKING).partition(_THOUGHT)
    if said.startswith(_THINKING) and closing:
        found.thoughts.append(thought)
        said = rest.lstrip()
    found.texts.append(said)


def _part(part: Any, found: Content) -> None:
    fields = members(part)
    kind = text(fields.get("type"))
    if kind in {"think", "thinking", "reasoning"}:
        found.thoughts.append(text(fields.get("think")) or text(fields.get("thinking")) or text_in(part))
    elif kind == "tool_call":
        found.leave_out(Kind.TOOL_CALL)
    elif kind.startswith("image"):
        found.attach(Kind.PICTURE)
    elif said := text_in(part) or text(fields.get("error")):
        found.texts.append(said)
    elif fields and kind not in _IGNORED:
        found.leave_out(kind_of_type(kind))
