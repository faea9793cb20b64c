"""Read a chat of Open WebUI. A reply's text is in ``content``, in newer versions in the items of ``output``."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

from chatkeep.domain.conversation import Role, Status
from chatkeep.i18n import _
from chatkeep.imports.foreign import Chat, Content, Node, SourceMessage, chained, fenced, role_of
from chatkeep.imports.left_out import Kind, kind_of_type
from chatkeep.imports.loose import ident, idents, items, members, objects, text, text_in, texts, time_us

SOURCE = "open-webui"
# Reasoning and tools are folded into the text. Reasoning is quoted, and escaped in Python's or JavaScript's way.
_OPENING = re.compile(r'<details type="(reasoning|tool_calls|code_interpreter)"')
_CLOSING = "</details>"
_SUMMARY = re.compile(r"\s*+(?:<summary>[^<]*+</summary>)?+")
_BLANK = re.compile(r"\s*+")
_QUOTED = re.compile(r"(?m)^(?:>|&gt;) ?")
_ESCAPED = re.compile(r"&(?:amp|lt|gt|quot|#x27|#39);")
_TOOLS = {"tool", "function"}
_TEXTS = {"text", "output_text", "refusal"}
_PICTURES = {"image", "image_url", "input_image", "output_image"}


def fits(found: dict[str, Any]) -> bool:
    """Return whether an object is a chat from Open WebUI. The oldest have no wrapper."""
    chat = members(found.get("chat"))
    return "messages" in chat or "history" in chat or "messages" in members(found.get("history"))


def chat_of(found: dict[str, Any]) -> Chat:
    """Return a chat's tree."""
    chat = members(found.get("chat")) or found
    history = members(chat.get("history"))
    model = next(iter(texts(chat.get("models"))), "")
    return Chat(
        source=SOURCE,
        id=ident(found.get("id")) or ident(chat.get("id")),
        title=text(found.get("title")) or text(chat.get("title")),
        created_at=time_us(found.get("created_at")) or time_us(chat.get("timestamp")),
        updated_at=time_us(found.get("updated_at")),
        current=ident(history.get("currentId")),
        nodes=_nodes(history.get("messages"), chat.get("messages"), model),
        pinned=found.get("pinned") is True,
        system=text(members(chat.get("params")).get("system")) or text(chat.get("system")),
    )


def _nodes(tree: Any, branch: Any, model: str) -> list[Node]:
    """Return the messages of a tree, or else those of a list."""
    if tree and isinstance(tree, dict):
        return [_node(id, message, model) for id, message in tree.items()]  # noqa: A001 - as everywhere
    listed = enumerate(items(tree) or items(branch))
    return chained([_node(ident(members(one).get("id")) or str(number), one, model) for number, one in listed])


def _node(id: str, message: Any, model: str) -> Node:
    fields, content = members(message), Content()
    problem, said = None, None
    if not isinstance(message, dict | None):
        problem = _("it is not an object")
    elif fields and not text(fields.get("role")):
        problem = _("it has no author")
    elif fields:
        said = _said(fields, model, content)
    return Node(
        id,
        ident(fields.get("parentId")) or None,
        time_us(fields.get("timestamp")),
        said,
        idents(fields.get("childrenIds")),
        content.left_out,
        problem,
    )


def _said(message: dict[str, Any], model: str, found: Content) -> SourceMessage | None:
    author = text(message.get("role"))
    role = role_of(author)
    if role is None:
        found.leave_out(Kind.TOOL_RESULT if author in _TOOLS else kind_of_type(author))
        return None
    _fill(message, role, found)
    _attach(message, found)
    if role is not Role.ASSISTANT:
        return SourceMessage(role, found.text("\n"))
    status, reason, error = _ending(message, found)
    model = text(message.get("model")) or model
    return SourceMessage(role, found.text("\n"), found.reasoning(), model or None, status, reason, error, whole=True)


def _fill(message: dict[str, Any], role: Role, found: Content) -> None:
    output = objects(message.get("output")) if role is Role.ASSISTANT else []
    for item in output:
        _item(item, found)
    said = text_in(message.get("content"))
    if output and said.strip() and isinstance(message.get("originalContent"), str):
        found.texts.clear()  # the user has edited the reply, which changes only ``content``
    if any(found.texts):
        return
    if role is Role.ASSISTANT:
        said = _unfold(said, found)
    found.texts.append(said)
    for part in objects(message.get("content")):
        if _is_picture(part):
            found.attach(Kind.PICTURE)
    found.texts.append(text(members(message.get("merged")).get("content")))
    for part in objects(message.get("content_list")):  # chats of Qwen and Z.ai
        thinks = text(part.get("phase")).startswith("think")
        (found.thoughts if thinks else found.texts).append(text(part.get("content")))


def _item(item: dict[str, Any], found: Content) -> None:
    """Read an item of ``output``: those of OpenAI's Responses API and some more."""
    kind = text(item.get("type"))
    if kind in _ITEMS:
        _ITEMS[kind](item, found)
    elif kind.endswith("_output"):
        found.leave_out(Kind.TOOL_RESULT)
    elif kind.endswith("_call"):
        found.leave_out(Kind.TOOL_CALL)
    elif said := text_in(item.get("content")) or text_in(item.get("text")):
        found.texts.append(said)
    else:
        found.leave_out(kind_of_type(kind))


def _message(item: dict[str, Any], found: Content) -> None:
    for part in items(item.get("content")) or [item.get("content")]:
        _part(part, found)


def _reasoning(item: dict[str, Any], found: Content) -> None:
    found.thoughts.append(text_in(item.get("content")) or text_in(item.get("summary")))


def _code(item: dict[str, Any], found: Content) -> None:
    found.thoughts.append(fenced(text(item.get("code")), text(item.get("lang")) or "python"))


def _picture(_: dict[str, Any], found: Content) -> None:
    found.attach(Kind.PICTURE)


_ITEMS: dict[str, Callable[[dict[str, Any], Content], None]] = {
    "message": _message,
    "reasoning": _reasoning,
    "code_interpreter": _code,
    "open_webui:code_interpreter": _code,
    "image_generation_call": _picture,
}


def _part(part: Any, found: Content) -> None:
    fields = members(part)
    if said := text_in(part) or text(fields.get("refusal")):
        found.texts.append(said)
    elif _is_picture(fields):
        found.attach(Kind.PICTURE)
    elif fields and text(fields.get("type")) not in _TEXTS:
        found.leave_out(kind_of_type(text(fields.get("type"))))


def _is_picture(part: dict[str, Any]) -> bool:
    return text(part.get("type")) in _PICTURES


def _attach(message: dict[str, Any], found: Content) -> None:
    for file in objects(message.get("files")):
        inner = members(file.get("file"))
        name = text(file.get("name")) or text(inner.get("filename"))
        media_type = text(file.get("content_type")) or text(members(inner.get("meta")).get("content_type"))
        found.attach_file(name, "image" if text(file.get("type")) == "image" else media_type)


def _ending(message: dict[str, Any], found: Content) -> tuple[Status, str | None, str | None]:
    """Return a reply's status, finish reason and error message."""
    if error := message.get("error"):
        status = Status.TRUNCATED if any(found.texts) else Status.FAILED
        told = members(error)
        return status, None, text(error) or text_in(told.get("content")) or text(told.get("message"))
    if message.get("done") is False:
        return Status.TRUNCATED, None, None
    return Status.COMPLETED, "stop", None


def _unfold(said: str, found: Content) -> str:
    """Return a text without its folded blocks. An unclosed block is text."""
    kept, at = [], 0
    while (
        (opening := _OPENING.search(said, at))
        and (begin := said.find(">", opening.end())) >= 0
        and (end := said.find(_CLOSING, begin)) >= 0
    ):
        kept.append(said[at : opening.start()])
        folded = said[_end(_SUMMARY, said, begin + 1) : end]
        if opening[1] == "tool_calls":
            found.leave_out(Kind.TOOL_CALL)
        else:
            found.thoughts.append(_unquoted(folded) if opening[1] == "reasoning" else folded.strip())
        at = _end(_BLANK, said, end + len(_CLOSING))
    return "".join([*kept, said[at:]])


def _end(pattern: re.Pattern[str], said: str, at: int) -> int:
    """Return the end of a match. The patterns match the empty string."""
    found = pattern.match(said, at)
    return at if found is None else found.end()


def _unquoted(folded: str) -> str:
    return _ESCAPED.sub(lambda found: html.unescape(found[0]), _QUOTED.sub("", folded.strip()))
