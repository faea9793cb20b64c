"""Files to import with a phone number in every text."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import msgspec

from chatkeep.domain.conversation import Role, new_id
from chatkeep.imports import own

PHONE = "13812345678"


def own_export(form: str, *, since: str | None) -> bytes:
    """Return a chatkeep export with a phone number in every text of a user and a model."""
    conversation_id = str(new_id())
    said = [texts(own.Message, id=str(new_id()), parent_id=None, role=role) for role in Role]
    for position, message in enumerate(said, 1):
        message |= {"position": position, "timestamp": f"2026-11-22T09:30:0{position}Z", "object": "message"}
    times = dict.fromkeys(["created_at", "last_active"], "2026-11-22T09:30:00Z")
    talk = texts(own.Conversation, id=conversation_id, current_id=said[-1]["id"], expires_at=None, ttl=None, **times)
    talk |= {"object": "conversation", "message_count": len(said)}
    frame = {"object": "export", "version": 1} | ({"since": since} if since else {})
    if form == "json":
        return json.dumps(frame | {"conversations": [talk | {"messages": said}]}).encode()
    talk.pop("messages")
    lines = [frame, talk, *(message | {"conversation_id": conversation_id} for message in said)]
    return "\n".join(map(json.dumps, lines)).encode()


def texts(kind: type[msgspec.Struct], **known: Any) -> dict[str, Any]:
    """Return a record as JSON with a phone number in every text field."""
    filled: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        filled[field.name] = known.get(field.name)
        values: list[Any] = [PHONE, {"tel": PHONE}, [], 1, False, "completed"]
        for value in values:
            if field.name not in known and field.name != "conversation_id":
                with contextlib.suppress(msgspec.ValidationError):
                    filled[field.name] = msgspec.convert(value, field.type) and value
                    break
    return filled


def talk() -> dict[str, object]:
    """Return a conversation of ChatGPT's export."""
    mapping = {"a": node("user", None), "b": node("assistant", "a")}
    return {"id": "1", "title": PHONE, "create_time": time.time(), "mapping": mapping, "current_node": "b"}


def node(role: str, parent: str | None) -> dict[str, object]:
    """Return a message of ChatGPT's export."""
    content = {"content_type": "text", "parts": [f"call {PHONE}"]}
    name = "b" if parent else "a"
    message = {"id": name, "author": {"role": role}, "create_time": time.time(), "content": content}
    return {"id": name, "parent": parent, "children": [] if parent else ["b"], "message": message}
