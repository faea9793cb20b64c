"""The examples in the OpenAPI document: one for each schema, kind of file and problem.

A test checks that every example matches its schema, and that every route has examples.
"""

from __future__ import annotations

from typing import Any

import msgspec

from chatkeep import errors
from chatkeep.errors import FieldError, Problem
from chatkeep.i18n import verbatim
from chatkeep.web import problems
from chatkeep.web.schemas import (
    admin,
    audit,
    chat,
    common,
    conversations,
    end_users,
    exports,
    health,
    imports,
    jobs,
    keys,
    sharing,
    usage,
)

CONVERSATION = "01a202d1-2a30-79d4-9bd7-fd298a4c908a"
QUESTION = "01a202d1-2a30-7b1c-b055-0bd2d4f5a299"
REPLY = "01a202d1-2a30-7590-8d51-f3cf6a4d6704"
EXPORT = "01a2030e-44b1-7464-a2e8-617c1ab2e08b"
KEY = "01a21503-9c1f-7a52-8f0e-5b1c7a0d9e44"
TOKEN = "q7Kd2xVb9TgWmZ4cRj8LnYs3HfPuE6aQ"  # noqa: S105 - made up
IDS = {"conversation_id": CONVERSATION, "message_id": REPLY, "export_id": EXPORT, "key_id": KEY, "token": TOKEN}
_SPOKEN_AT, _EXPIRES_AT = "2026-11-22T10:33:11.984Z", "2026-11-23T10:33:13.655Z"
_SHA256 = "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7"
_USAGE = {"input_tokens": 24, "output_tokens": 17}
_SAID = "An old silent pond\nA frog jumps into the pond—\nSplash! Silence again."
_CONVERSATION: dict[str, Any] = {
    "object": "conversation", "id": CONVERSATION, "title": "What is a haiku?", "system": None, "ttl": 86400,
    "pinned": False, "metadata": {}, "message_count": 2, "current_id": REPLY, "created_at": _SPOKEN_AT,
    "last_active": "2026-11-22T10:33:13.655Z", "expires_at": _EXPIRES_AT,
}  # fmt: skip
_MESSAGE: dict[str, Any] = {
    "id": QUESTION, "parent_id": None, "position": 1, "role": "user", "content": "What is a haiku?", "reasoning": "",
    "status": "completed", "model": None, "finish_reason": None, "error": None, "error_detail": None, "usage": None,
    "cached": False,
    "timestamp": _SPOKEN_AT, "siblings": [QUESTION],
}  # fmt: skip
_ANSWER = _MESSAGE | {
    "id": REPLY, "parent_id": QUESTION, "position": 2, "role": "assistant", "content": _SAID, "model": "gpt-4o-mini",
    "finish_reason": "stop", "usage": _USAGE, "siblings": [REPLY],
}  # fmt: skip
_JOB = {
    "object": "export_job", "id": EXPORT, "status": "completed", "format": "ndjson", "compression": "zstd",
    "conversation_id": None, "start_date": None, "end_date": None, "since": None, "bom": False,
    "progress": {"conversations": 17, "messages": 204, "total_conversations": 17}, "size": 18211, "sha256": _SHA256,
    "cursor": "41", "error": None, "attempts": 1, "created_at": "2026-11-22T09:30:00.000Z",
    "started_at": "2026-11-22T09:30:00.600Z", "finished_at": "2026-11-22T09:30:00.700Z",
    "expires_at": "2026-11-23T09:30:00.700Z",
}  # fmt: skip
_KEY = {
    "object": "key", "id": KEY, "prefix": "ck_8Zx2mQ0a", "name": "our app", "account": "local",
    "scopes": ["chat", "read"], "end_user": False, "created_at": _SPOKEN_AT, "expires_at": None, "last_used_at": None,
    "revoked_at": None, "parent_id": None, "limits": {"requests_per_minute": 60},
}  # fmt: skip
_SHARE = {"object": "share", "conversation_id": CONVERSATION, "shared": True, "created_at": _EXPIRES_AT}
_USED = {"requests": 3, "input_tokens": 72, "output_tokens": 51, "cost": 0.000041}
_AUDITED: dict[str, Any] = {
    "object": "audit_entry",
    "id": 17,
    "at": _SPOKEN_AT,
    "account": "local",
    "key_id": KEY,
    "key": "ck_8Zx2mQ0a",
    "end_user": "0f3c2a9d6b1e4f708a5d9c2b7e61f4a3",
    "verb": "conversation.deleted",
    "what": {"conversation_id": CONVERSATION},
    "request_id": "1a96cf312e06400cbd58dfda6a73f6e2",
    "outcome": "done",
    "hash": _SHA256,
}
_EXPORTED = {
    "object": "export", "version": 1, "conversations": [],
    "end": {"object": "export.end", "conversations": 0, "messages": 0, "sha256": _SHA256},
}  # fmt: skip


def _page(*items: dict[str, Any]) -> dict[str, Any]:
    ids = {"first_id": items[0]["id"], "last_id": items[-1]["id"], "has_more": False}
    return {"object": "list", "data": list(items), **ids}


def _listed(conversation: dict[str, Any]) -> dict[str, Any]:
    return _page(conversation) | {"last_id": f"{conversation['id']}_1795343596064000"}


ANSWERS: dict[type[msgspec.Struct], Any] = {
    chat.ChatAnswer: {
        "conversation_id": CONVERSATION, "message_id": REPLY, "reply": _SAID, "model": "gpt-4o-mini",
        "finish_reason": "stop", "status": "completed", "cached": False, "usage": _USAGE, "created_at": _SPOKEN_AT,
    },
    chat.Stopped: {"conversation_id": CONVERSATION, "message_id": REPLY, "stopped": True},
    conversations.Conversation: _CONVERSATION,
    conversations.ConversationList: _listed(_CONVERSATION),
    conversations.ConversationWithMessages: _CONVERSATION | {"messages": _page(_MESSAGE, _ANSWER)},
    common.Deleted: {"id": CONVERSATION, "deleted": True},
    sharing.Share: _SHARE,
    sharing.NewShare: _SHARE | {
        "token": TOKEN, "path": f"/shared/{TOKEN}", "url": f"http://127.0.0.1:5010/shared/{TOKEN}",
    },
    sharing.SharedConversation: {
        "object": "shared_conversation",
        "title": "What is a haiku?",
        "messages": {
            "object": "list",
            "data": [
                {
                    "role": "user", "content": "What is a haiku?", "status": "completed", "finish_reason": None,
                    "cached": False,
                },
                {
                    "role": "assistant", "content": _SAID, "status": "completed", "finish_reason": "stop",
                    "cached": False,
                },
            ],
            "has_more": False,
        },
    },
    exports.Export: _EXPORTED,
    health.Health: {
        "status": "ok", "version": "0.1.0", "provider": "openai", "model": "gpt-4o-mini", "database": "ok",
        "cache": {"hits": 3, "misses": 38, "entries": 38, "bytes": 51200},
    },
    common.ApiDocument: {
        "openapi": "3.2.0", "info": {"title": "chatkeep", "version": "0.1.0"}, "paths": {}, "components": {},
    },
    health.Alive: {"status": "ok"},
    imports.Import: {
        "object": "import",
        "conversations": {"added": 1, "present": 0, "updated": 0, "deleted": 0, "expired": 0},
        "messages": 2, "left_out": [{"kind": "picture", "count": 2, "message": "2 pictures"}],
        "problem_count": 1, "problems": [{"line": 7, "message": "it has no id"}],
    },
    jobs.ExportJob: _JOB,
    jobs.ExportJobList: _page(_JOB),
    keys.Key: _KEY,
    keys.NewKey: _KEY | {"key": "ck_8Zx2mQ0a_W6N1tq4vYc0dPz7sK2hRb9mXe3uLf5gJ8aQiTnCo"},
    keys.KeyList: _page(_KEY),
    keys.SignedIn: {
        "object": "caller", "account": "local", "scopes": ["chat", "export", "read"], "end_user": False,
        "owner": "local", "name": "our app",
    },
    keys.SignedOut: {"signed_out": True},
    usage.UsageReport: {
        "object": "usage", "start_date": "2026-11-22", "end_date": "2026-11-23", "total": _USED,
        "data": [{"day": "2026-11-22", "model": "gpt-4o-mini", **_USED}], "has_more": False,
    },
    end_users.Erasure: {
        "object": "erasure", "id": "01a21571-0d4e-7c21-9b1f-3e8a6d5c0f27", "account": "local",
        "end_user": "0f3c2a9d6b1e4f708a5d9c2b7e61f4a3", "erased_at": _SPOKEN_AT, "conversations": 4, "messages": 20,
        "exports": 1, "idempotency_keys": 3, "keys": 0,
    },
    audit.AuditList: {
        "object": "list", "data": [_AUDITED], "first_id": 17, "last_id": 17, "has_more": False,
    },
    admin.Summary: {
        "object": "summary", "at": "2026-11-24T13:07:45.667Z", "conversations": 17, "storage_bytes": 241664,
        "replies_generating": 0, "workers": 2, "turns": {"completed": 40, "stopped": 1},
        "tokens": {"input": 2650, "output": 9012}, "cache_answers": {"hit": 3, "miss": 38},
        "provider_errors": {"provider_busy": 1}, "expired_conversations": 5,
    },
    admin.Series: {
        "object": "series", "name": "chatkeep_tokens_total", "from": "2026-11-24T13:00:00.000Z", "step": 60,
        "lines": [{"label": "input", "values": [120.0, 0.0]}, {"label": "output", "values": [560.0, 0.0]}],
    },
}  # fmt: skip
FILES = {
    "application/x-ndjson": '{"object":"export","version":1}\n{"object":"export.end","conversations":0,"messages":0}\n',
    "text/csv": "conversation_id,title,position,role,content\r\n"
    f"{CONVERSATION},What is a haiku?,1,user,What is a haiku?\r\n",
    "text/markdown": "# What is a haiku?\n\n**User**\n\nWhat is a haiku?\n",
    "application/jsonl": '{"messages":[{"role":"user","content":"What is a haiku?"},'
    '{"role":"assistant","content":"Three lines."}]}\n',
    "application/gzip": "(bytes)",
    "application/zstd": "(bytes)",
}
EVENTS: dict[str, dict[str, Any]] = {
    "start": {"conversation_id": CONVERSATION, "message_id": REPLY, "model": "gpt-4o-mini", "cached": False},
    "delta": {"text": "An old"},
    "done": {
        "finish_reason": "stop", "status": "completed", "cached": False, "usage": _USAGE, "created_at": _SPOKEN_AT,
    },
}  # fmt: skip
# Details of problems that say more than their title.
_DETAILS: dict[type[Problem], str] = {
    errors.MalformedJson: "JSON is malformed: expected ',' or '}' (byte 17).",
    errors.Unauthorized: errors.NO_ACCESS,
    errors.MissingScope: "This request requires one of these scopes: chat, read.",
    errors.KeyEnded: "Create a new key instead.",
    errors.ForeignOrigin: "This origin is not allowed. To allow it, add it to CHATKEEP_CORS_ORIGINS.",
    errors.UnknownHost: "Unknown host chat.example.com. To allow it, add it to CHATKEEP_HOSTS.",
    errors.NotFound: "Conversation not found. It may have expired or been deleted.",
    errors.RequestTimeout: "The body did not arrive within 10 s.",
    errors.TurnRunning: "Wait until the running reply ends, or stop it, before you send another message.",
    errors.ExportFinished: "The export is already completed. Send DELETE to remove it.",
    errors.ExportNotReady: "The export is running. Poll until its status is completed.",
    errors.BodyTooLarge: "The body exceeds 1048576 bytes (CHATKEEP_MAX_BODY).",
    errors.UnsupportedMediaType: "Send the body as JSON with the header Content-Type: application/json.",
    errors.RangeNotSatisfiable: "The file has 18211 bytes.",
    errors.InvalidFields: "limit: is unknown.",
    errors.IdempotencyKeyReused: "Send a different Idempotency-Key with a new request.",
    errors.RateLimited: "Rate limit exceeded for this key: 60 requests per minute. Retry in 42 s.",
    errors.QuotaExceeded: "Storage quota exceeded: 5000 of 5000 messages are stored."
    " Delete conversations, or wait until some expire.",
    errors.TooManyExports: "20 exports are unfinished. Wait until one finishes, or cancel one.",
    errors.InternalError: "The error is logged with the request's id.",
    errors.ProviderRefused: "The provider refused the credentials (401): check OPENAI_API_KEY.",
    errors.ContextTooLong: "The provider says that the prompt is longer than the model's context window.",
    errors.ProviderBroke: "The provider refuses connections: check OPENAI_BASE_URL and that the provider runs.",
    errors.EmptyReply: "The provider's content filter withheld the answer.",
    errors.ProviderQuotaExceeded: "The quota at the provider is used up: check the plan and the balance there.",
    errors.ProviderBusy: "The provider's rate limit is reached (429).",
    errors.ProviderTimeout: "The provider was given up: the provider fell silent for longer than CHATKEEP_GAP_TIMEOUT.",
    errors.ReplyInterrupted: "What was shown is kept; ask again to get a whole reply.",
    errors.ExportFileMissing: "Another host has made it; hosts that serve together must share the folder"
    " CHATKEEP_DATA_DIR.",
}


def problem(kind: type[Problem]) -> Any:
    """Return the example of a problem."""
    wrong = [FieldError("limit", verbatim("is unknown"))] if kind is errors.InvalidFields else []
    made = kind(verbatim(_DETAILS[kind]) if kind in _DETAILS else None, errors=wrong)
    return msgspec.to_builtins(problems.shape(made, "1a96cf312e06400cbd58dfda6a73f6e2"))


def stream() -> str:
    """Return a stream with every event as sent over the wire; a real one ends with one of the last two."""
    events = [*EVENTS.items(), ("error", problem(errors.ProviderTimeout))]
    ids = {"delta": f"id: {len(EVENTS['delta']['text'])}\n", "done": "id: end\n"}
    return "".join(
        f"event: {name}\n{ids.get(name, '')}data: {msgspec.json.encode(value).decode()}\n\n" for name, value in events
    )
