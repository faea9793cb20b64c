"""Render a turn's events as server-sent events (HTML Living Standard §9.2)."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Request, Response

from chatkeep.domain.conversation import Delta, Message
from chatkeep.errors import Unauthorized
from chatkeep.exports.formats.text import encode
from chatkeep.i18n import Language
from chatkeep.turns.live import End, Event
from chatkeep.web import problems
from chatkeep.web.responses import StreamResponse
from chatkeep.web.schemas import chat
from chatkeep.web.schemas.common import time_text

MEDIA_TYPE = "text/event-stream"
END_ID = "end"
# The delay before an EventSource reconnects.
RETRY = b"retry: 1000\n"
PING = b": ping\n\n"
_HEADERS = (("Content-Type", f"{MEDIA_TYPE}; charset=utf-8"), ("X-Accel-Buffering", "no"))


def first_event(events: Iterator[Event]) -> Delta | End:
    """Wait for a reply's first event and return it. Raises the problem of a reply that failed without one."""
    first = next(event for event in events if event is not None)
    if isinstance(first, End) and first.problem is not None:
        raise first.problem
    return first


class SSEEncoder:
    """Encodes the frames of one stream. A delta's id is the number of characters of the text up to its end."""

    def __init__(self, start: chat.Start, *, request_id: str, language: Language = "en", after: int = 0) -> None:
        self._start = start
        self._request_id = request_id
        self._language = language
        self._offset = after
        self.is_begun = False
        """Whether the server has sent the first frame: it requests each frame after sending the previous one."""

    def stream(self, events: Iterator[Event], first: Delta | End | None = None) -> Iterator[bytes]:
        """Yield the stream's frames; the event ``first`` is sent together with the start."""
        yield RETRY + _frame("start", encode(self._start)) + (self._of(first) if first else b"")
        self.is_begun = True
        for event in events:
            yield self._of(event)

    def _of(self, event: Event) -> bytes:
        if event is None:
            return PING
        return self._last(event) if isinstance(event, End) else self.of(event)

    def of(self, delta: Delta) -> bytes:
        """Return the frame of the next delta."""
        self._offset += len(delta.text)
        return b"event: delta\nid: %d\ndata: %b\n\n" % (self._offset, encode(delta))

    def _last(self, end: End) -> bytes:
        if end.problem is not None:
            problem = end.problem.about(self._start.conversation_id, self._start.message_id)
            # A caller whose key was revoked has not seen the end, and may resume with another key.
            last = None if isinstance(problem, Unauthorized) else END_ID
            return _frame("error", encode(problems.shape(problem, self._request_id, self._language)), last)
        row = whole(end)
        usage, created = chat.usage_of(row.usage), time_text(row.timestamp)
        return _frame("done", encode(chat.Done(row.finish_reason, row.status, row.cached, usage, created)), END_ID)


def answer(events: Iterator[Event]) -> Message:
    """Return the complete reply. Raises the problem with which it ended."""
    end = next(event for event in events if isinstance(event, End))
    if end.problem is not None:
        raise end.problem
    return whole(end)


def whole(end: End) -> Message:
    """Return the message of a reply that ended without a problem."""
    if end.message is None:
        raise AssertionError("a reply that ends without a problem has a row")
    return end.message


def is_preferred(request: Request) -> bool:
    """Return whether the client prefers a stream of events."""
    # Most requests accept anything; this check is cheaper than parsing the header.
    if MEDIA_TYPE not in request.environ.get("HTTP_ACCEPT", ""):
        return False
    accepted = request.accept_mimetypes
    return accepted.best == MEDIA_TYPE and accepted.quality(MEDIA_TYPE) > 0


def response(frames: Iterator[bytes]) -> Response:
    """Return a streamed response that proxies don't buffer."""
    return StreamResponse(frames, _HEADERS)


def _frame(event: str, data: bytes, id: str | None = None) -> bytes:
    line = f"id: {id}\n" if id is not None else ""
    return f"event: {event}\n{line}data: ".encode() + data + b"\n\n"
