"""Read DeepSeek's ``conversations.json``: a tree like ChatGPT's, with messages made of fragments."""

from __future__ import annotations

from typing import Any

from chatkeep.domain.conversation import Role, Status
from chatkeep.i18n import _
from chatkeep.imports.foreign import Chat, Content, Node, SourceMessage, role_of
from chatkeep.imports.left_out import Kind, kind_of_type
from chatkeep.imports.loose import ident, idents, members, objects, text, text_in, time_us

SOURCE = "deepseek"
_REQUEST = "REQUEST"
_THOUGHTS = {"THINK", "REASON", "REASONING"}
_UNFINISHED = ("INCOMPLETE", "WIP")
_TOOLS = ("SEARCH", "TOOL", "READ", "OPEN", "BROWSE")


def fits(found: dict[str, Any]) -> bool:
    """Return whether an object is a conversation from DeepSeek."""
    if not isinstance(found.get("mapping"), dict):
        return False
    nodes = found["mapping"].values()
    return "inserted_at" in found or any("fragments" in members(members(node).get("message")) for node in nodes)


def chat_of(found: dict[str, Any]) -> Chat:
    """Return a conversation's tree."""
    return Chat(
        source=SOURCE,
        id=ident(found.get("id")),
        title=text(found.get("title")),
        created_at=time_us(found.get("inserted_at")),
        updated_at=time_us(found.get("updated_at")),
        current=ident(found.get("current_node")),
        nodes=_nodes(found["mapping"]),
        pinned=found.get("pinned") is True,
    )


def _nodes(mapping: dict[str, Any]) -> list[Node]:
    """Return the nodes of a tree. Older messages have no roles: below the root, questions and replies alternate."""
    levels: dict[str, int] = {}
    found: list[Node] = []
    for id, mapped in mapping.items():  # noqa: A001
        fields = members(mapped)
        levels[id] = levels.get(ident(fields.get("parent")), 0) + bool(fields.get("message"))
        found.append(_node(id, mapped, asks=levels[id] % 2 == 1))
    return found


def _node(id: str, mapped: Any, *, asks: bool) -> Node:
    fields = members(mapped)
    raw = fields.get("message")
    message, content = members(raw), Content()
    problem, said = None, None
    if not isinstance(mapped, dict | None) or not isinstance(raw, dict | None):
        problem = _("it is not an object")
    elif message and not _is_filled(message):
        problem = _("it has no content")
    elif message:
        said = _said(message, content, asks=asks)
    return Node(
        id,
        ident(fields.get("parent")) or None,
        time_us(message.get("inserted_at")),
        said,
        idents(fields.get("children")),
        content.left_out,
        problem,
    )


def _is_filled(message: dict[str, Any]) -> bool:
    return isinstance(message.get("fragments"), list) or bool(text(message.get("content")))


def _said(message: dict[str, Any], found: Content, *, asks: bool) -> SourceMessage:
    fragments = objects(message.get("fragments"))
    for fragment in fragments:
        _fragment(fragment, found)
    found.thoughts.append(text(message.get("reasoning_content")) or text(message.get("thinking_content")))
    found.texts.append(text(message.get("content")))
    for file in objects(message.get("files")):
        _file(file, found)
    asked = any(_type(fragment) == _REQUEST for fragment in fragments) if fragments else asks and not found.reasoning()
    role = role_of(text(message.get("role"))) or (Role.USER if asked else Role.ASSISTANT)
    if role is not Role.ASSISTANT:
        return SourceMessage(role, found.text())
    is_cut = message.get("status") in _UNFINISHED
    return SourceMessage(
        role,
        found.text(),
        found.reasoning(),
        text(message.get("model")) or None,
        Status.TRUNCATED if is_cut else Status.COMPLETED,
        None if is_cut else "stop",
        whole=True,
    )


def _file(file: dict[str, Any], found: Content) -> None:
    found.attach_file(text(file.get("file_name")) or text(file.get("name")), content=text(file.get("content")))


def _type(fragment: dict[str, Any]) -> str:
    return text(fragment.get("type")).upper()


def _fragment(fragment: dict[str, Any], found: Content) -> None:
    kind, said = _type(fragment), text_in(fragment.get("content"))
    if kind in _THOUGHTS:
        found.thoughts.append(said)
    elif kind.startswith(_TOOLS):
        found.leave_out(Kind.TOOL_CALL)
    elif kind == "FILE":
        _file(fragment, found)
    elif said:
        found.texts.append(said)
    elif kind not in {_REQUEST, "RESPONSE"} or fragment.get("content"):
        found.leave_out(kind_of_type(kind))
