"""Read ChatGPT's ``conversations.json``: a tree that mixes visible messages with those between model and tools."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from chatkeep.domain.conversation import Role, Status
from chatkeep.i18n import Text, _
from chatkeep.imports.foreign import Chat, Content, Node, SourceMessage, fenced, role_of
from chatkeep.imports.left_out import Kind, kind_of_type
from chatkeep.imports.loose import ident, idents, items, members, objects, text, text_in, texts, time_us

SOURCE = "chatgpt"
_TOOLS = {"tool", "function"}
_NO_RECIPIENT = {"", "all"}
_INTERPRETERS = ("python", "python_user_visible", "code_interpreter")
_CANVAS = "canmore."
# The endings of incomplete replies.
_CUT = {
    "max_tokens": (Status.TRUNCATED, "length"),
    "interrupted": (Status.STOPPED, None),
}
_UNFINISHED = {"in_progress", "finished_partial_completion"}
# Content types that are not part of the conversation.
_NOTES = {
    "user_editable_context": Kind.INSTRUCTIONS,
    "model_editable_context": Kind.MEMORY,
    "reasoning_recap": Kind.REASONING_RECAP,
}
_PARTS: dict[str, Kind] = {
    "image_asset_pointer": Kind.PICTURE,
    "image": Kind.PICTURE,
    "audio_asset_pointer": Kind.RECORDING,
    "real_time_user_audio_video_asset_pointer": Kind.RECORDING,
    "video_container_asset_pointer": Kind.VIDEO,
    "video_asset_pointer": Kind.VIDEO,
    "file": Kind.FILE,
}
# The mark of a citation or a widget, in private-use characters, or the older form 【4†source】.
_MARK = re.compile("\ue200([^\ue200\ue201]*+)\ue201|【[^【】†]*+†[^【】]*+】")
# A mark cut off at the end of a text. An unclosed one within a text is kept, because of the words after it.
_CUT_MARK = re.compile("\ue200[^\ue200\ue201\\s]*+\\Z")
_LEFT_OF_MARKS = re.compile("[\ue200-\ue20f]")
_SEPARATOR = "\ue202"
_LINKS = {"url", "link_title"}


def fits(found: dict[str, Any]) -> bool:
    """Return whether an object is a conversation from ChatGPT."""
    return isinstance(found.get("mapping"), dict)


def chat_of(found: dict[str, Any]) -> Chat:
    """Return a conversation's tree."""
    model = text(found.get("default_model_slug"))
    return Chat(
        source=SOURCE,
        id=ident(found.get("conversation_id")) or ident(found.get("id")),
        title=text(found.get("title")),
        created_at=time_us(found.get("create_time")),
        updated_at=time_us(found.get("update_time")),
        current=ident(found.get("current_node")),
        nodes=[_node(id, one, model) for id, one in members(found.get("mapping")).items()],  # noqa: A001
        pinned=found.get("is_starred") is True,
    )


def _node(id: str, mapped: Any, model: str) -> Node:
    fields = members(mapped)
    message = members(fields.get("message"))
    content = Content()
    problem = _problem(mapped, fields.get("message"))
    said = None if problem or not message else _said(message, model, content)
    return Node(
        id,
        ident(fields.get("parent")) or None,
        time_us(message.get("create_time")),
        said,
        idents(fields.get("children")),
        content.left_out,
        problem,
    )


def _problem(mapped: Any, message: Any) -> Text | None:
    """Return why a node cannot be read, or None. A root has no message."""
    if not isinstance(mapped, dict | None) or not isinstance(message, dict | None):
        return _("it is not an object")
    if not message:
        return None
    if not _author(message):
        return _("it has no author")
    content = message.get("content")
    if not content or not isinstance(content, dict | str):
        return _("it has no content")
    if isinstance(content, dict) and content.get("parts", "") is None and not _holds(content):
        return _("it has no text")
    return None


def _author(message: dict[str, Any]) -> str:
    author = message.get("author")
    return text(author) or text(members(author).get("role")) or text(message.get("role"))


def _holds(content: dict[str, Any]) -> bool:
    """Return whether a content has more than its type."""
    return any(value for name, value in content.items() if name != "content_type")


def _said(message: dict[str, Any], model: str, found: Content) -> SourceMessage | None:
    """Convert a message; None if it has nothing for the user."""
    metadata = members(message.get("metadata"))
    author = _author(message)
    content = message["content"]
    content = content if isinstance(content, dict) else {"content_type": "text", "parts": [content]}
    kind = text(content.get("content_type"))
    if kind in _NOTES:
        found.leave_out(_NOTES[kind])
        return None
    if metadata.get("is_visually_hidden_from_conversation"):
        _hide(content, found)
        return None
    if author in _TOOLS and not metadata.get("is_async_task_result_message"):
        return _shown_by_tool(content, metadata, found)
    role = Role.ASSISTANT if author in _TOOLS else role_of(author)
    if role is None:
        found.leave_out(kind_of_type(author))
        return None
    if role is Role.ASSISTANT:
        return _reply(message, content, metadata, model, found)
    _fill(content, found)
    _attach(metadata, found)
    return SourceMessage(role, found.text("\n"))


def _hide(content: dict[str, Any], found: Content) -> None:
    hidden = Content()
    _fill(content, hidden)
    if hidden.text() or hidden.reasoning():
        found.leave_out(Kind.HIDDEN)


def _shown_by_tool(content: dict[str, Any], metadata: dict[str, Any], found: Content) -> SourceMessage | None:
    """Convert a tool's message. Its pictures are for the user, the rest is for the model."""
    pictures = [part for part in objects(content.get("parts")) if _PARTS.get(_type(part)) is Kind.PICTURE]
    plots = objects(members(metadata.get("aggregate_result")).get("messages"))
    plots = [plot for plot in plots if plot.get("message_type") == "image"]
    for _picture in [*pictures, *plots]:
        found.attach(Kind.PICTURE)
    if not pictures:
        found.leave_out(Kind.TOOL_RESULT)
    return SourceMessage(Role.ASSISTANT, found.text("\n")) if found.text() else None


def _reply(
    message: dict[str, Any], content: dict[str, Any], metadata: dict[str, Any], model: str, found: Content
) -> SourceMessage | None:
    recipient = text(message.get("recipient"))
    if recipient not in _NO_RECIPIENT:
        _call(recipient, content, found)
    elif message.get("channel") == "analysis":
        said = Content()
        _fill(content, said)
        found.thoughts += [*said.thoughts, *said.texts]
    else:
        _fill(content, found)
    status, reason = _ending(message, metadata)
    return SourceMessage(
        Role.ASSISTANT,
        _cited(found.text("\n"), metadata),
        found.reasoning(),
        text(metadata.get("model_slug")) or model or None,
        status,
        reason,
    )


def _call(recipient: str, content: dict[str, Any], found: Content) -> None:
    """Read a call to a tool. A canvas document becomes text, and code becomes reasoning."""
    said = _code(content)
    if recipient.startswith(_CANVAS):
        found.texts.append(_document(said))
    elif recipient.split(".", maxsplit=1)[0] in _INTERPRETERS and said:
        found.thoughts.append(fenced(said, "python"))
    else:
        found.leave_out(Kind.MEMORY if recipient == "bio" else Kind.TOOL_CALL)


def _document(call: str) -> str:
    """Return the text that a call writes to the canvas, or else the call itself."""
    try:
        fields = members(json.loads(call, strict=False))
    except (ValueError, RecursionError):
        return call
    language = text(fields.get("type")).partition("code/")[2]
    content = text(fields.get("content"))
    if content:
        return fenced(content, language) if language else content
    changes = [text(one.get("replacement")) for one in objects(fields.get("updates"))]
    comments = [text(one.get("comment")) for one in objects(fields.get("comments"))]
    return "\n\n".join(filter(None, [*changes, *comments])) or call


def _fill(content: dict[str, Any], found: Content) -> None:
    """Read a content by its type. Unknown types are read as text."""
    kind = text(content.get("content_type"))
    _RULES.get(kind, _other)(content, found)


def _text(content: dict[str, Any], found: Content) -> None:
    parts = content.get("parts")
    for part in items(parts) or [parts, content.get("text")]:
        _part(part, found)


def _part(part: Any, found: Content) -> None:
    fields = members(part)
    kind = _type(fields)
    said = text_in(part) or text(fields.get("content")) or "\n".join(texts(fields.get("parts")))
    if said:
        found.texts.append(said)
    elif kind in _PARTS:
        found.attach(_PARTS[kind], text(fields.get("name")))
    elif fields and kind not in {"text", "audio_transcription"}:
        found.leave_out(kind_of_type(kind))


def _type(fields: dict[str, Any]) -> str:
    return text(fields.get("content_type")) or text(fields.get("type"))


def _code(content: dict[str, Any]) -> str:
    return text(content.get("text")) or "\n".join(texts(content.get("parts")))


def _fenced_code(content: dict[str, Any], found: Content) -> None:
    language, code = text(content.get("language")), _code(content)
    found.texts.append(fenced(code, language) if language not in {"", "unknown"} and code else code)


def _thoughts(content: dict[str, Any], found: Content) -> None:
    for thought in objects(content.get("thoughts")):
        found.thoughts += [text(thought.get("summary")), text(thought.get("content"))]


def _other(content: dict[str, Any], found: Content) -> None:
    before = len(found.texts), found.left_out.total()
    _text(content, found)
    if (len(found.texts), found.left_out.total()) == before:
        said = next(filter(None, (text(content.get(name)) for name in ("content", "result", "output_str"))), "")
        found.texts.append(said)
        if not said and _holds(content):
            found.leave_out(kind_of_type(text(content.get("content_type"))))


_RULES: dict[str, Callable[[dict[str, Any], Content], None]] = {
    "text": _text,
    "multimodal_text": _text,
    "code": _fenced_code,
    "thoughts": _thoughts,
}


def _attach(metadata: dict[str, Any], found: Content) -> None:
    """Count the files of a question. Its pictures are also parts of its content."""
    shown = found.left_out[Kind.PICTURE]
    for file in objects(metadata.get("attachments")):
        media_type = text(file.get("mime_type")) or text(file.get("mimeType"))
        if shown and media_type.startswith("image"):
            shown -= 1
        else:
            found.attach_file(text(file.get("name")), media_type)


def _ending(message: dict[str, Any], metadata: dict[str, Any]) -> tuple[Status, str | None]:
    kind = text(members(metadata.get("finish_details")).get("type"))
    if kind in _CUT:
        return _CUT[kind]
    return (Status.TRUNCATED, None) if text(message.get("status")) in _UNFINISHED else (Status.COMPLETED, "stop")


def _cited(said: str, metadata: dict[str, Any]) -> str:
    """Replace the marks that only ChatGPT's page understands by links."""
    references = {_cited_by(one, said): members(one.get("metadata")) for one in objects(metadata.get("citations"))}
    references |= {text(one.get("matched_text")): one for one in objects(metadata.get("content_references"))}
    marked = _MARK.sub(lambda found: _link(found, references), said)
    return _LEFT_OF_MARKS.sub("", _CUT_MARK.sub("", marked))


def _cited_by(citation: dict[str, Any], said: str) -> str:
    """Return the mark of a citation, which older versions give by its offsets."""
    begin, end = citation.get("start_ix"), citation.get("end_ix")
    return said[begin:end] if isinstance(begin, int) and isinstance(end, int) else ""


def _link(found: re.Match[str], references: dict[str, dict[str, Any]]) -> str:
    mark, inner = found[0], found[1]
    if mark in references:
        shown = _shown(references[mark])
        if shown or inner is None:
            return shown
    return mark if inner is None else _named(inner.split(_SEPARATOR))


def _shown(reference: dict[str, Any]) -> str:
    """Return a reference's own text, or else links to its pages."""
    if shown := text(reference.get("alt")):
        return shown
    pages = [*objects(reference.get("items")), reference]
    links = [f"[{text(page.get('title')) or page['url']}]({page['url']})" for page in pages if text(page.get("url"))]
    return f"({', '.join(links)})" if links else text(reference.get("name"))


def _named(fields: list[str]) -> str:
    """Return the text of a mark: a name, a link, or "" for a citation."""
    if fields[0] in _LINKS and len(fields) > 1:
        return f"[{fields[1]}]({fields[2]})" if fields[2:] and fields[0] == "url" else fields[1]
    if "entity" not in fields[0] or len(fields) == 1:
        return ""
    try:
        named = texts(json.loads(fields[1]))
    except (ValueError, RecursionError):
        return fields[1]
    return named[min(1, len(named) - 1)] if named else ""
