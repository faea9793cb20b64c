"""Conversations as Claude, DeepSeek and LibreChat export them."""

from __future__ import annotations

import json
from typing import Any


def claude(*messages: Any, **fields: Any) -> dict[str, Any]:
    times = {"created_at": "2026-01-21T09:00:00.000000Z", "updated_at": "2026-01-21T09:02:00.000000Z"}
    return {"uuid": "c-1", "name": "Bread", "account": {}, "chat_messages": list(messages)} | times | fields


def block(id: str, sender: str, *content: Any, **fields: Any) -> dict[str, Any]:
    """Return a message of Claude's."""
    return {"uuid": id, "sender": sender, "text": "", "content": list(content), "attachments": [], "files": [],
            "created_at": f"2026-01-21T09:00:0{id[-1]}.5Z"} | fields  # fmt: skip


def says(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "citations": []}


def deepseek(*messages: Any, **fields: Any) -> dict[str, Any]:
    mapping: dict[str, Any] = {"root": {"id": "root", "parent": None, "children": ["1"], "message": None}}
    for number, one in enumerate(messages, 1):
        mapping[str(number)] = {"parent": str(number - 1) if number > 1 else "root", "message": one, "children": []}
    return {
        "id": "d-1",
        "title": "俳句",
        "inserted_at": "2026-03-01T10:00:00.000000+08:00",
        "mapping": mapping,
    } | fields


def fragments(*parts: tuple[str, str | None], **fields: Any) -> dict[str, Any]:
    made = [{"type": kind, "content": text} for kind, text in parts]
    return {"files": [], "model": "deepseek-reasoner", "inserted_at": "2026-03-01T10:00:05.000000+08:00",
            "fragments": made} | fields  # fmt: skip


NO_PARENT = "00000000-0000-0000-0000-000000000000"


def librechat(*messages: Any, **fields: Any) -> bytes:
    made = {"conversationId": "l-1", "endpoint": "openAI", "title": "Tea", "exportAt": "10:00:00 GMT+0000",
            "branches": True, "recursive": False, "options": {"model": "gpt-4o", "promptPrefix": "Be brief."},
            "messages": list(messages)}  # fmt: skip
    return json.dumps(made | fields).encode()


def line(id: str, parent: str, text: str, *, user: bool = False, **fields: Any) -> dict[str, Any]:
    """Return a message of LibreChat's."""
    return {"messageId": id, "parentMessageId": parent, "text": text, "sender": "User" if user else "GPT-4o",
            "isCreatedByUser": user, "createdAt": f"2026-02-01T10:00:0{id[-1]}.000Z"} | fields  # fmt: skip
