"""Builders for the bytes of providers' answers: chunks, streams, completions and error responses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

SENTENCE = "Fog is a cloud that touches the ground."
PIECES = ("Fog is a ", "cloud that ", "touches the ground.")
THOUGHT = "They ask about fog."
USAGE = {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}
DONE = "[DONE]"
STREAM = "text/event-stream"
JSON = "application/json"


@dataclass(frozen=True)
class Answer:
    """The bytes of an answer, and the expected reply: its text, its end, and the error's message."""

    raw: bytes
    text: str = SENTENCE
    reasoning: str = ""
    status: str = "completed"
    reason: str | None = "stop"
    error: str | None = None
    told: str = ""
    usage: tuple[int, int] | None = (9, 12)
    calls: int = 1

    @property
    def is_learnt(self) -> bool:
        """Whether the cache may store it."""
        return (self.status, self.reason) == ("completed", "stop")


def chunk(delta: dict[str, Any] | None = None, reason: object = None, **fields: Any) -> dict[str, Any]:
    """Return a chunk of a stream."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": reason}
    return {"id": "c", "object": "chat.completion.chunk", "model": "m-1", "choices": [choice], **fields}


def says(*pieces: str) -> list[dict[str, Any]]:
    """Return chunks of a text."""
    return [chunk({"content": piece}) for piece in pieces]


def usage(told: object = USAGE) -> dict[str, Any]:
    """Return the chunk with the usage."""
    return {"object": "chat.completion.chunk", "model": "m-1", "choices": [], "usage": told}


def completion(message: dict[str, Any], reason: object = "stop", **fields: Any) -> dict[str, Any]:
    """Return a reply as one object."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
    return {"object": "chat.completion", "model": "m-1", "choices": [choice], "usage": USAGE, **fields}


def lines(*events: object) -> bytes:
    """Return an event stream: objects and texts as data, bytes unchanged."""
    return b"".join(event if isinstance(event, bytes) else b"data: " + _data(event) + b"\n\n" for event in events)


def _data(event: object) -> bytes:
    return event.encode() if isinstance(event, str) else json.dumps(event).encode()


def answer(body: bytes, kind: str = STREAM, status: str = "200 OK", *headers: str) -> bytes:
    """Return a response that ends with its connection."""
    head = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", *headers, "Connection: close"]
    return "\r\n".join([*head, "", ""]).encode() + body


def stream(*events: object) -> bytes:
    """Return a response that is an event stream."""
    return answer(lines(*events))


def good(*more: object) -> bytes:
    """Return a correct stream of the sentence, with ``more`` in between."""
    return lines(*says(*PIECES[:1]), *more, *says(*PIECES[1:]), chunk(reason="stop"), usage(), DONE)


def ends(reason: object, *pieces: str, **more: Any) -> bytes:
    """Return a stream of these pieces that ends with a finish reason."""
    return stream(*says(*pieces), chunk(reason=reason, **more), usage(), DONE)


def chunked(*events: object, end: bytes = b"") -> bytes:
    """Return a chunked response, without its last chunk unless ``end`` has it."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(lines(event)), lines(event)) for event in events)
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" + body + end


def status(line: str, body: bytes | dict[str, Any] | list[Any], kind: str = JSON) -> bytes:
    """Return a response with an error status."""
    return answer(body if isinstance(body, bytes) else json.dumps(body).encode(), kind, line)


def failed(raw: bytes, told: str, error: str = "provider_refused", **more: Any) -> Answer:
    """Return an answer that is an error before any text."""
    return Answer(
        raw, **{"text": "", "status": "failed", "reason": None, "usage": None, **more}, error=error, told=told
    )


def empty(raw: bytes, told: str, reason: str | None = "stop", **more: Any) -> Answer:
    """Return an answer without text."""
    return failed(raw, told, "empty_reply", reason=reason, **{"usage": (9, 12), **more})


PARTS: list[list[dict[str, Any]]] = [
    [{"type": "thinking", "thinking": [{"type": "text", "text": "They ask "}]}],
    [{"type": "thinking", "thinking": [{"type": "text", "text": "about fog."}]}],
    [{"type": "text", "text": PIECES[0]}],
    [{"type": "text", "text": PIECES[1]}, {"type": "text", "text": PIECES[2]}],
]
UNOPENED = f"{THOUGHT}\n</think>\n\n{SENTENCE}"
TOOL = {"index": 0, "id": "t", "type": "function", "function": {"name": "memory_search", "arguments": "{}"}}
INNER = '{"error":{"type":"invalid_request_error","message":"This model takes 1 image, not 3."}}'
NO_ERROR = {"message": "", "type": "", "param": "", "code": None}
NO_ROOM = "The prompt has 41000 tokens, there is room for 40960."
FULL = {"message": NO_ROOM, "code": 400}
ZERO = {"total_tokens": 0}
WHOLE = completion({"content": SENTENCE, "reasoning_content": THOUGHT})
REFUSED = "I will not help with that."
NOTHING = "without any text"
BAD_GATEWAY = b"<html>\n<head><title>502 Bad Gateway</title></head><body><h1>502</h1></body></html>"

ENDING = (chunk(reason="stop"), usage(), DONE)
