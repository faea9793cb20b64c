"""Parse server-sent events incrementally: bytes in, whole events out. Pure: no I/O."""

from __future__ import annotations

import msgspec

from chatkeep.errors import ProviderBroke
from chatkeep.i18n import _

BUFFER_LIMIT = 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_IGNORED = {b"", b"id", b"retry"}


class Event(msgspec.Struct, frozen=True, gc=False):
    """A dispatched event; ``name`` is empty if it has no event field."""

    data: bytes
    name: bytes = b""


class EventReader:
    """Parses one event stream: `feed` it data, split anywhere.

    Follows the HTML standard, with tolerance for providers: the last event may lack its blank line, ``error`` may be a
    field, and an event without data may be bare words or JSON.
    """

    __slots__ = ("_at_event", "_begun", "_buffer", "_limit", "_searched", "_was_cr")

    def __init__(self, limit: int = BUFFER_LIMIT) -> None:
        """Set the most bytes of an unfinished event."""
        self._limit = limit
        self._buffer = bytearray()
        self._searched = 0
        self._begun = False
        self._was_cr = False
        self._at_event = False

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that ``chunk`` completes. Raises `ProviderBroke` if one exceeds the limit."""
        # A fast path: nearly every read is one whole single-line event.
        if (
            self._at_event
            and chunk.startswith(b"data: ")
            and chunk.endswith(b"\n\n")
            and chunk.find(b"\n") == len(chunk) - 2
            and b"\r" not in chunk
        ):
            return [Event(chunk[6:-2])]
        if not chunk:
            return []
        self._buffer += self._normalise(chunk)
        events = self._take_events()
        self._at_event = self._begun and not self._buffer and not self._was_cr
        return events

    def close(self) -> list[Event]:
        """Return the last event if it lacks its blank line."""
        return self.feed(b"\n\n")

    def _normalise(self, chunk: bytes) -> bytes:
        """Return the chunk with LF line ends, also if a CRLF is split between two reads."""
        if not self._begun:
            chunk = self._without_bom(chunk)
        if self._was_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._was_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in chunk else chunk

    def _without_bom(self, chunk: bytes) -> bytes:
        head = bytes(self._buffer) + chunk
        self._buffer.clear()
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._buffer += head
            return b""
        self._begun = True
        return head.removeprefix(_BOM)

    def _take_events(self) -> list[Event]:
        end = self._buffer.rfind(b"\n\n", max(0, self._searched - 1))
        if end < 0:
            self._searched = len(self._buffer)
            self._check_size()
            return []
        frames = bytes(self._buffer[:end]).split(b"\n\n")
        del self._buffer[: end + 2]
        self._searched = len(self._buffer)
        self._check_size()
        return [event for frame in frames if (event := _parse(frame))]

    def _check_size(self) -> None:
        if len(self._buffer) > self._limit:
            raise ProviderBroke(
                _("The provider sent over {bytes} bytes without the end of an event.", bytes=self._limit)
            )


def _parse(frame: bytes) -> Event | None:
    """Return the event of the lines between two blank lines, or None if they have no data."""
    if frame.startswith(b"data: ") and b"\n" not in frame:
        return Event(frame[6:])
    data, bare, name = [], [], b""
    for line in frame.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
        elif field == b"error":
            data.append(value.removeprefix(b" "))
            name = field
        elif field not in _IGNORED:
            bare.append(line)
    data = data or bare
    return Event(b"\n".join(data), name) if data else None
