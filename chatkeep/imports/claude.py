"""Read Claude's ``conversations.json``: a list of messages made of blocks. Newer exports name each one's parent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from chatkeep.domain.conversation import Role, Status
from chatkeep.i18n import _
from chatkeep.imports.foreign import Chat, Content, Node, SourceMessage, chained, fenced, role_of
from chatkeep.imports.left_out import Kind, kind_of_type
from chatkeep.imports.loose import ident, members, objects, parts, text, text_in, time_us

SOURCE = "claude"
_ENDINGS = {
    "max_tokens": (Status.TRUNCATED, "length"),
    "user_canceled": (Status.STOPPED, None),
    "refusal": (Status.COMPLETED, "content_filter"),
}
_PICTURES = {"image", "image_url"}
_FILES = {"document", "file", "container_upload"}
# Empty text, and counters of Claude's page.
_IGNORED = {"text", "token_budget"}
# The folder of files for the user; files elsewhere are the model's own.
_OUTPUTS = "/mnt/user-data/outputs/"
_PLAIN = {"", "md", "txt"}
_LANGUAGES = {"text/html": "html", "image/svg+xml": "svg", "application/vnd.ant.react": "jsx"}


def fits(found: dict[str, Any]) -> bool:
    """Return whether an object is a conversation from Claude."""
    return isinstance(found.get("chat_messages"), list)


def chat_of(found: dict[str, Any]) -> Chat:
    """Return a conversation's tree."""
    model = text(found.get("model"))
    return Chat(
        source=SOURCE,
        id=ident(found.get("uuid")) or ident(found.get("id")),
        title=text(found.get("name")),
        created_at=time_us(found.get("created_at")),
        updated_at=time_us(found.get("updated_at")),
        current=ident(found.get("current_leaf_message_uuid")),
        nodes=chained([_node(one, number, model) for number, one in enumerate(found["chat_messages"])]),
        pinned=found.get("is_starred") is True,
    )


def _node(message: Any, number: int, model: str) -> Node:
    fields, content = members(message), Content()
    problem, said = None, None
    sender = text(fields.get("sender")) or text(fields.get("role"))
    if not fields:
        problem = _("it is not an object")
    elif not sender:
        problem = _("it has no author")
    elif role := role_of(sender):
        said = _said(fields, role, model, content)
    else:
        content.leave_out(kind_of_type(sender))
    return Node(
        ident(fields.get("uuid")) or str(number),
        ident(fields.get("parent_message_uuid")) or None,
        time_us(fields.get("created_at")),
        said,
        left_out=content.left_out,
        problem=problem,
    )


def _said(message: dict[str, Any], role: Role, model: str, found: Content) -> SourceMessage:
    for block in parts(message.get("content")):
        _block(block, found)
    if not any(found.texts):
        found.texts.append(text(message.get("text")) or text(message.get("content")))
    _attach(message, found)
    if role is not Role.ASSISTANT:
        return SourceMessage(role, found.text())
    status, reason = _ENDINGS.get(text(message.get("stop_reason")), (Status.COMPLETED, "stop"))
    model = text(message.get("model")) or model
    return SourceMessage(role, found.text(), found.reasoning(), model or None, status, reason, whole=True)


def _block(block: Any, found: Content) -> None:
    fields = members(block)
    kind = text(fields.get("type"))
    if kind == "thinking":
        found.thoughts.append(text(fields.get("thinking")) or _summary(fields))
    elif kind.endswith("tool_result"):
        found.leave_out(Kind.TOOL_RESULT)
    elif kind.endswith("tool_use"):
        _call(fields, found)
    elif kind in _PICTURES:
        found.attach(Kind.PICTURE, text(fields.get("file_name")))
    elif kind in _FILES:
        found.attach(Kind.FILE, text(fields.get("file_name")) or text(fields.get("title")))
    elif said := text_in(block):
        found.texts.append(said)
    elif fields and kind not in _IGNORED:
        found.leave_out(kind_of_type(kind))


def _summary(fields: dict[str, Any]) -> str:
    return "\n\n".join(text(one.get("summary")) for one in objects(fields.get("summaries")))


def _call(fields: dict[str, Any], found: Content) -> None:
    """Read a call to a tool. An artifact or an output file becomes text."""
    given, document, language = members(fields.get("input")), "", ""
    if fields.get("name") == "artifacts":
        document = text(given.get("content")) or text(given.get("new_str"))
        language = text(given.get("language")) or _LANGUAGES.get(text(given.get("type")), "")
    elif fields.get("name") == "create_file" and text(given.get("path")).startswith(_OUTPUTS):
        document = text(given.get("file_text"))
        language = PurePosixPath(text(given.get("path"))).suffix.removeprefix(".")
    if document:
        found.texts.append(fenced(document, language) if language not in _PLAIN else document)
    else:
        found.leave_out(Kind.TOOL_CALL)


def _attach(message: dict[str, Any], found: Content) -> None:
    """Read the texts of attachments, and count the files without one."""
    named: set[str] = set()
    for file in objects(message.get("attachments")):
        name, content = text(file.get("file_name")), text(file.get("extracted_content"))
        named.add(name)
        found.attach_file(name, text(file.get("file_type")), content)
    for name, kind in _files(message):
        if not name or name not in named:
            found.attach_file(name, kind)


def _files(message: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield names and kinds of files. Newer exports have two lists, of which either may be incomplete."""
    lists = [objects(message.get("files")), objects(message.get("files_v2"))]
    named = [Counter(text(file.get("file_name")) for file in files) for files in lists]
    kinds = {text(file.get("file_name")): text(file.get("file_kind")) for files in lists for file in files}
    for name in (named[0] | named[1]).elements():
        yield name, kinds[name]
