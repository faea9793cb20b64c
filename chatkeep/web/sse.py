"""Turns' events as server-sent events (HTML Living Standard §9.2) and as one JSON answer."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from flask import Response

from chatkeep.languages import Language
from chatkeep.model import Delta, Message
from chatkeep.replies import End, Event
from chatkeep.web import problems, shapes
from chatkeep.web.responses import impatient

MEDIA_TYPE = "text/event-stream"
END_ID = "end"
WRITE_TIMEOUT_S = 10.0
# How soon an EventSource that lost its connection comes back.
RETRY = b"retry: 1000\n"
PING = b": ping\n\n"
_encode = msgspec.json.encode


def first_event(events: Iterator[Event]) -> Delta | End:
    """Return a reply's first event, for which it waits. Raises the problem of a reply that failed before it."""
    first = next(event for event in events if event is not None)
    if isinstance(first, End) and first.problem is not None:
        raise first.problem
    return first


def stream(
    start: shapes.Start, events: Iterator[Event], *, request_id: str, language: Language = "en", after: int = 0
) -> Iterator[bytes]:
    """Yield the frames of a stream; every delta's id is the number of the text's characters up to its end."""
    yield RETRY + _frame("start", _encode(start))
    shown = after
    for event in events:
        if event is None:
            yield PING
        elif isinstance(event, End):
            yield _last(event, start, request_id, language)
        else:
            shown += len(event.text)
            data = _encode(shapes.Delta(event.text, event.reasoning))
            yield b"event: delta\nid: %d\ndata: %s\n\n" % (shown, data)


def answer(events: Iterator[Event]) -> tuple[str, str, Message]:
    """Return a whole reply's text, reasoning and row. Raises the problem that it ended with."""
    texts, reasonings = [], []
    for event in events:
        if isinstance(event, Delta):
            texts.append(event.text)
            reasonings.append(event.reasoning)
        elif event is not None:
            if event.problem is not None:
                raise event.problem
            return "".join(texts), "".join(reasonings), _row(event)
    raise AssertionError("a reply's events end with End")


def response(frames: Iterator[bytes]) -> Response:
    """Return the response that streams frames; no proxy may hold them back."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    # Waitress buffers what a client leaves that reads nothing, up to a whole reply.
    return impatient(Response(frames, headers=headers, mimetype=MEDIA_TYPE), WRITE_TIMEOUT_S)


def _last(end: End, start: shapes.Start, request_id: str, language: Language) -> bytes:
    if end.problem is not None:
        problem = end.problem.about(start.conversation_id, start.message_id)
        return _frame("error", _encode(problems.shape(problem, request_id, language)), END_ID)
    row = _row(end)
    usage, created = shapes.usage_of(row.usage), shapes.time_text(row.timestamp)
    return _frame("done", _encode(shapes.Done(row.finish_reason, row.status, row.cached, usage, created)), END_ID)


def _row(end: End) -> Message:
    if end.message is None:
        raise AssertionError("a reply that ends without a problem has a row")
    return end.message


def _frame(event: str, data: bytes, id: str | None = None) -> bytes:
    line = f"id: {id}\n" if id is not None else ""
    return f"event: {event}\n{line}data: ".encode() + data + b"\n\n"
