"""A reply while this process generates it: its committed text and its followers."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Protocol
from uuid import UUID

import msgspec
from msgspec.structs import replace

from chatkeep.domain.conversation import (
    CONTENT_FILTER,
    Delta,
    Finish,
    Message,
    Prompt,
    now_us,
)
from chatkeep.errors import (
    Problem,
    ProviderBroke,
    ProviderError,
)
from chatkeep.i18n import _
from chatkeep.provider import Call, Receive
from chatkeep.runtime.concurrency import short_lock
from chatkeep.store.leases import Lease
from chatkeep.store.messages import Progress
from chatkeep.turns.cache import Answer

PING_S = 5.0
MOST_PIECES = 16


class StopReason(Enum):
    """Why a reply ends before the provider ends it."""

    STOPPED = "a stop was requested"
    SLOW_START = _("the first token took longer than CHATKEEP_FIRST_TOKEN_TIMEOUT")
    GAP = _("the provider fell silent for longer than CHATKEEP_GAP_TIMEOUT")
    TOTAL = _("the reply took longer than CHATKEEP_REPLY_TIMEOUT")
    TOO_LONG = _("the reply grew too large")
    LOST = "another process has ended or deleted its row"
    REFUSED = "the database does not take its text"
    SHUTDOWN = "the process stops"


class End(msgspec.Struct, frozen=True):
    """The last event of a reply: its row as stored, with all text, and the problem that it ended with, if any."""

    message: Message | None
    problem: Problem | None = None


Event = Delta | End | None
"""What followers receive; None after `PING_S` of silence, so that a disconnected client is noticed."""


class Events(Protocol):
    """A follower's events in order: a queue, or anything else with its methods."""

    def put(self, event: Delta | End, /) -> None:
        """Add an event without blocking."""

    def get(self, *, timeout: float) -> Delta | End:
        """Return the next event; raise `queue.Empty` if none arrives within ``timeout`` seconds."""


class FinalOnly:
    """Events for a follower that needs only the whole reply: just the end, which holds all text, wakes it."""

    def __init__(self) -> None:
        self._ends: queue.SimpleQueue[End] = queue.SimpleQueue()

    def put(self, event: Delta | End) -> None:
        """Keep the end."""
        if isinstance(event, End):
            self._ends.put(event)

    def get(self, *, timeout: float) -> End:
        """Return the end; raise `queue.Empty` if it does not arrive within ``timeout`` seconds."""
        return self._ends.get(timeout=timeout)


class LiveReply:
    """A reply that this process generates. The journal's `Sink`."""

    def __init__(self, lease: Lease, message: Message) -> None:
        self.id: UUID = message.id
        self.lease = lease
        self.message = message
        self.key_id: UUID | None = None
        """The key of the request."""
        self.leader: Lease | None = None
        """The running reply to the same question, which this one copies."""
        self.prompt: Prompt | None = None
        """The last prompt that the provider was sent; None before the first."""
        self.written = 0
        self.received = 0
        """Characters received from the provider, committed or not."""
        self.has_text = False
        """Whether any text has arrived that is not whitespace."""
        self.has_reasoned = False
        """Whether any reasoning has arrived that is not whitespace."""
        self.begun = self.heard = time.monotonic()
        self.ending: StopReason | None = None
        self.refusal: Problem | None = None
        """The database's refusal of a part of the text."""
        self.call: Call | None = None
        self._lock = short_lock()
        self._texts: list[str] = []
        self._reasonings: list[str] = []
        self._end: End | None = None
        self._followers: list[Events] = []

    def copy(self, leader: Lease | None) -> None:
        """Set the reply that this one copies; None if it asks the provider itself."""
        self.leader = leader
        self.message = replace(self.message, cached=leader is not None)

    @property
    def is_new_here(self) -> bool:
        """Whether no other reply of this process has the same answer."""
        return self.leader is None or self.leader.worker_id != self.lease.worker_id

    def attach(self, call: Call) -> None:
        """Set the provider's call, which `end` aborts."""
        self.call = call
        if self.ending is not None:
            call.abort()

    def end(self, why: StopReason) -> None:
        """End the reply before the provider does; the first reason counts."""
        if self.ending is None:
            self.ending = why
        if self.call is not None:
            self.call.abort()

    def receive(self, delta: Delta) -> None:
        """Note a delta from the provider."""
        self.heard = time.monotonic()
        self.received += len(delta.text) + len(delta.reasoning)
        self.has_text = self.has_text or bool(delta.text.strip())
        self.has_reasoned = self.has_reasoned or bool(delta.reasoning.strip())

    def committed(self, delta: Delta) -> None:
        """Hand a committed delta to the followers."""
        with self._lock:
            self.written += len(delta.text) + len(delta.reasoning)
            _add(self._texts, delta.text)
            _add(self._reasonings, delta.reasoning)
            for follower in self._followers:
                follower.put(delta)

    def lost(self, _progress: Progress | None) -> None:
        """End the reply, because its row accepts no more text."""
        self.end(StopReason.LOST)

    def refused(self, problem: Problem) -> None:
        """End the reply, because it cannot become whole."""
        self.refusal = problem
        self.end(StopReason.REFUSED)

    @property
    def text(self) -> str:
        """The committed text."""
        return "".join(self._texts)

    @property
    def reasoning(self) -> str:
        """The committed reasoning."""
        return "".join(self._reasonings)

    def close(self, end: End) -> None:
        """Hand the end to the followers."""
        with self._lock:
            self._end = end
            for follower in self._followers:
                follower.put(end)

    def answer(self, stored: Message) -> Answer:
        """Return the whole reply for the cache."""
        usage = stored.usage
        return Answer(
            conversation_id=self.message.conversation_id,
            reply_id=self.id,
            text=self.text,
            reasoning=self.reasoning,
            model=stored.model,
            finish_reason=stored.finish_reason or "",
            input_tokens=usage.input_tokens if usage else None,
            output_tokens=usage.output_tokens if usage else None,
            stored_at=now_us(),
        )

    def follow(self, after: int = 0, events: Events | None = None) -> Iterator[Event]:
        """Yield the reply from ``after`` characters of its text on, up to its `End`.

        Reasoning precedes the text: it is yielded whole if ``after`` is 0, otherwise not at all. An `End` that is put
        into ``events`` from outside ends the following as well.
        """
        events = queue.SimpleQueue() if events is None else events
        with self._lock:
            text, reasoning, end = self.text, self.reasoning, self._end
            follower = events if after <= len(text) else _Ahead(events, after - len(text))
            if end is None:
                self._followers.append(follower)
        try:
            if text[after:] or (reasoning and not after):
                yield Delta(text[after:], "" if after else reasoning)
            yield from _arriving(events, end)
        finally:
            with self._lock:
                if follower in self._followers:
                    self._followers.remove(follower)


def _add(pieces: list[str], piece: str) -> None:
    """Append to a text in few pieces: a string for every token would take several times the memory of the text."""
    if piece:
        pieces.append(piece)
        if len(pieces) >= MOST_PIECES:
            pieces[:] = ["".join(pieces)]


def _arriving(events: Events, end: End | None) -> Iterator[Event]:
    """Yield events as they arrive, up to the end; None after every `PING_S` without one."""
    while end is None:
        try:
            event = events.get(timeout=PING_S)
        except queue.Empty:
            yield None
            continue
        if isinstance(event, End):
            end = event
        else:
            yield event
    yield end


class _Ahead:
    """Skips the first characters that arrive, because the follower has them: it has seen more than was committed."""

    def __init__(self, events: Events, ahead: int) -> None:
        self._events = events
        self._ahead = ahead

    def put(self, event: Delta | End) -> None:
        if self._ahead > 0 and isinstance(event, Delta):
            known, self._ahead = self._ahead, self._ahead - len(event.text)
            if not event.text[known:]:
                return
            event = Delta(event.text[known:])
        self._events.put(event)

    def get(self, *, timeout: float) -> Delta | End:
        return self._events.get(timeout=timeout)


class FollowerCall:
    """A `Call` that copies the running reply to the same question.

    ``follow`` yields that reply's events until an `End` is put into the queue that it gets.
    """

    def __init__(self, follow: Callable[[Events], Iterator[Event]]) -> None:
        self._follow = follow
        self._events: Events = queue.SimpleQueue()

    def deliver(self, receive: Receive) -> None:
        """Pass the other reply's deltas to ``receive``.

        An end or an error from the provider applies to this reply as well. If the other reply ends for another reason
        (it was stopped or deleted, or its process died) before its first text, nothing is delivered, so that this one
        can ask. After text, raises `ProviderError` if the other reply does not become whole.
        """
        said = False
        for event in self._follow(self._events):
            if isinstance(event, Delta):
                said = True
                receive(event)
            elif event is not None:
                _deliver_last(event, receive, said=said)

    def abort(self) -> None:
        """Stop copying; the other reply continues."""
        self._events.put(End(None))


def _deliver_last(end: End, receive: Receive, *, said: bool) -> None:
    row = end.message
    if isinstance(end.problem, ProviderError):
        if row is not None and row.finish_reason and end.problem.finish is None:
            end.problem.finish = Finish(row.finish_reason, row.usage, row.model)
        raise end.problem
    if row is not None and end.problem is None and row.finish_reason:
        screened = row.finish_reason == CONTENT_FILTER
        receive(Finish(row.finish_reason, row.usage, row.model, screened=screened))
    elif said:
        raise ProviderBroke(_("The reply to the same question, asked at the same time, was not finished."))
