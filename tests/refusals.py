"""The refusals of request dialects that the scripted provider can imitate, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Body = dict[str, Any]
Refusal = tuple[int, dict[str, Any]]


def refuse(names: str, body: Body) -> Refusal | None:
    """Return the status and body of the first refusal in ``names``, such as ``a+b``, that applies to the request."""
    found = ((REFUSALS | OF_CONTENT)[name] for name in names.split("+") if name)
    return next((refusal for is_refused, refusal in found if is_refused(body)), None)


def _has(field: str) -> Callable[[Body], bool]:
    return lambda body: field in body


def _role(name: str) -> Callable[[Body], bool]:
    return lambda body: any(message["role"] == name for message in body["messages"])


def _error(message: str, param: str | None = None, code: str | None = None, status: int = 400) -> Refusal:
    return status, {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def _validation(*place: str, said: str = "Extra inputs are not permitted") -> Refusal:
    return 422, {"detail": [{"type": "extra_forbidden", "loc": ["body", *place], "msg": said}]}


REFUSALS: dict[str, tuple[Callable[[Body], bool], Refusal]] = {
    # The name of the token limit
    "limit-renamed": (
        _has("max_tokens"),
        _error("'max_tokens' is unsupported here; 'max_completion_tokens' is its name", "max_tokens", "unsupported"),
    ),
    "limit-unknown": (_has("max_tokens"), _validation("max_tokens")),
    "limit-wrapped": (
        _has("max_tokens"),
        _error('the model said: {"param": "max_tokens", "hint": "use max_completion_tokens"}', status=500),
    ),
    # The usage of streams
    "usage-extra": (_has("stream_options"), _validation("stream_options")),
    "usage-argument": (_has("stream_options"), _error("Unrecognized request argument: stream_options")),
    "usage-field": (_has("stream_options"), (400, {"message": 'json: unknown field "stream_options"'})),
    # The system prompt
    "system-template": (_role("system"), (500, {"error": {"message": "System role not supported at row 1"}})),
    "system-value": (
        _role("system"),
        _error("'messages[0].role' does not support 'system' with this model", "messages[0].role", "unsupported_value"),
    ),
    "system-instruction": (_role("system"), _error("Developer instruction is not enabled for this model")),
    "system-literal": (_role("system"), _validation("messages", "0", "role", said="Input should be 'user'")),
    "system-chinese": (_role("system"), (400, {"error": {"code": "1214", "message": "角色信息不正确"}})),
    "developer-wanted": (_role("system"), _error("Unknown role 'system'. Use 'user', 'assistant' or 'developer'.")),
    # The temperature
    "temperature-default": (
        _has("temperature"),
        _error("'temperature' does not support 0.5; only the default (1) is", "temperature", "unsupported_value"),
    ),
    "temperature-deprecated": (_has("temperature"), _error("`temperature` is deprecated for this model.")),
    "temperature-proxied": (
        _has("temperature"),
        _error("Params: m doesn't support temperature=0.5, only 1.\n\nNo other model was tried after the error above."),
    ),
    "temperature-one": (
        lambda body: body.get("temperature", 1) != 1,
        (400, {"error": {"message": "invalid temperature: only 1 is allowed for this model"}}),
    ),
    # The stream
    "stream-unsupported": (
        _has("stream"),
        _error("'stream' does not support true with this model", "stream", "unsupported_value"),
    ),
}
# Refusals that no other dialect avoids.
OF_CONTENT: dict[str, tuple[Callable[[Body], bool], Refusal]] = {
    "flagged": (
        lambda body: any("flagged" in message["content"].split() for message in body["messages"]),
        _error("The prompt was flagged", code="content_policy_violation"),
    ),
}
