"""A reply while it is generated: what was committed so far, and who follows it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from uuid import UUID

from chatkeep.cache import Answer
from chatkeep.errors import Problem, ProviderBroke, ProviderError, ProviderTimeout, ReplyInterrupted, problem_of_code
from chatkeep.model import Delta, Finish, Message, Status, now_us
from chatkeep.provider import Call
from chatkeep.store.leases import Lease
from chatkeep.store.messages import Progress

PING_S = 5.0


class Ending(Enum):
    """Why a reply is ended before the provider does."""

    STOPPED = "somebody asked to stop"
    SLOW_START = "the first token took too long"
    GAP = "the provider fell silent"
    TOTAL = "the reply took too long"
    TOO_LONG = "the reply grew too large"
    LOST = "its row was ended by somebody else, or deleted"
    SHUTDOWN = "the process stops"


@dataclass(frozen=True, slots=True)
class End:
    """The last event of a reply: its row as it is stored, and the problem, where it ended with one."""

    message: Message | None
    problem: Problem | None = None


Events = queue.SimpleQueue["Delta | End"]
Event = Delta | End | None
"""What followers get; None after `PING_S` of silence, so that a vanished client is noticed."""


class LiveReply:
    """A reply that this process generates. The journal's `Sink`."""

    def __init__(self, lease: Lease, message: Message) -> None:
        self.id: UUID = message.id
        self.lease = lease
        self.message = message
        self.leader: Lease | None = None
        """The reply that this one copies, because it answers the same question."""
        self.written = 0
        self.received = 0
        """Characters that the provider has sent, committed or not."""
        self.begun = self.heard = time.monotonic()
        self.ending: Ending | None = None
        self.call: Call | None = None
        self._lock = threading.Lock()
        self._texts: list[str] = []
        self._reasonings: list[str] = []
        self._end: End | None = None
        self._followers: list[queue.SimpleQueue[Delta | End]] = []

    def copy(self, leader: Lease | None) -> None:
        """Note which reply this one copies; None where it has a call of its own."""
        self.leader = leader
        self.message = replace(self.message, cached=leader is not None)

    @property
    def is_new_here(self) -> bool:
        """Whether no other reply of this process gives the same answer."""
        return self.leader is None or self.leader.worker_id != self.lease.worker_id

    def attach(self, call: Call) -> None:
        """Take the provider's call, to abort it when the reply is ended from outside."""
        self.call = call
        if self.ending is not None:
            call.abort()

    def end(self, why: Ending) -> None:
        """End the reply from outside; the first reason counts."""
        if self.ending is None:
            self.ending = why
        if self.call is not None:
            self.call.abort()

    def receive(self, delta: Delta) -> None:
        """Note that the provider sent something."""
        self.heard = time.monotonic()
        self.received += len(delta.text) + len(delta.reasoning)

    def committed(self, text: str, reasoning: str) -> None:
        """Show what the journal has stored."""
        delta = Delta(text, reasoning)
        with self._lock:
            self.written += len(text) + len(reasoning)
            self._texts.append(text)
            self._reasonings.append(reasoning)
            for follower in self._followers:
                follower.put(delta)

    def lost(self, _progress: Progress | None) -> None:
        """End the reply: its row takes no more text."""
        self.end(Ending.LOST)

    @property
    def text(self) -> str:
        """The committed text."""
        return "".join(self._texts)

    def close(self, end: End) -> None:
        """Tell followers that nothing more comes."""
        with self._lock:
            self._end = end
            for follower in self._followers:
                follower.put(end)

    def answer(self, stored: Message) -> Answer:
        """Return what to remember of the whole reply."""
        usage = stored.usage
        return Answer(
            conversation_id=self.message.conversation_id,
            reply_id=self.id,
            text=self.text,
            reasoning="".join(self._reasonings),
            model=stored.model,
            finish_reason=stored.finish_reason or "",
            input_tokens=usage.input_tokens if usage else None,
            output_tokens=usage.output_tokens if usage else None,
            stored_at=now_us(),
        )

    def follow(self, after: int = 0, events: Events | None = None) -> Iterator[Event]:
        """Yield the reply from ``after`` characters of its text on, up to its `End`.

        Reasoning comes whole where ``after`` is 0 and not at all otherwise: it precedes the text. An `End` that
        somebody puts into ``events`` ends the following, too.
        """
        events = queue.SimpleQueue() if events is None else events
        with self._lock:
            text, reasoning, end = "".join(self._texts), "".join(self._reasonings), self._end
            if end is None:
                self._followers.append(events)
        try:
            if text[after:] or (reasoning and not after):
                yield Delta(text[after:], "" if after else reasoning)
            yield from _skipping(_arriving(events, end), after - len(text))
        finally:
            with self._lock:
                if events in self._followers:
                    self._followers.remove(events)


def _arriving(events: Events, end: End | None) -> Iterator[Event]:
    """Yield events as they come, up to the end; None after every `PING_S` without any."""
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


def _skipping(events: Iterator[Event], ahead: int) -> Iterator[Event]:
    """Yield events without the first ``ahead`` characters of their text: the follower knows more than was written."""
    for event in events:
        if ahead <= 0 or not isinstance(event, Delta):
            yield event
            continue
        if event.text[ahead:]:
            yield Delta(event.text[ahead:])
        ahead -= len(event.text)


class CopyCall:
    """A `Call` whose reply is another one's: the same question is being answered already.

    ``follow`` yields that reply's events, until somebody puts an `End` into the queue that it is given.
    """

    def __init__(self, follow: Callable[[Events], Iterator[Event]]) -> None:
        self._follow = follow
        self._events: Events = queue.SimpleQueue()

    def __iter__(self) -> Iterator[Delta | Finish]:
        """Yield what the other reply has and gets.

        What the provider does to that reply it does to this one, too. Where the reply ends for another reason (it was
        stopped or deleted, or its process is gone), nothing is yielded if it had said nothing so far: then somebody
        else can ask. Raises `ProviderError` where it ends without being whole, otherwise.
        """
        said = False
        for event in self._follow(self._events):
            if isinstance(event, Delta):
                said = True
                yield event
            elif event is not None:
                yield from _last(event, said=said)

    def abort(self) -> None:
        """End the copying; the other reply goes on."""
        self._events.put(End(None))


def _last(end: End, *, said: bool) -> Iterator[Finish]:
    row = end.message
    if isinstance(end.problem, ProviderError):
        raise end.problem
    if row is not None and row.status is Status.COMPLETED:
        yield Finish(row.finish_reason or "stop", row.usage, row.model)
    elif said:
        raise ProviderBroke("The reply to the same question, asked at the same time, was not finished.")


def outcome(reply: LiveReply, finish: Finish | None, problem: Problem | None) -> tuple[Message, Problem | None]:
    """Return how a reply ends: its row's final values, and the problem that followers are told.

    The provider's finish reason wins over whatever came at the same moment, and nothing else makes a reply completed.
    """
    if finish is not None:
        row = replace(reply.message, status=Status.COMPLETED, finish_reason=finish.reason, usage=finish.usage)
        return replace(row, model=finish.model or row.model), None
    if reply.ending is Ending.STOPPED:
        return replace(reply.message, status=Status.STOPPED), None
    if reply.ending is Ending.TOO_LONG:
        return replace(reply.message, status=Status.TRUNCATED, finish_reason="length"), None
    if reply.ending in {Ending.LOST, Ending.SHUTDOWN}:
        gone = ReplyInterrupted("What was shown is kept; ask again to get a whole reply.")
        return replace(reply.message, status=Status.INTERRUPTED, error=gone.code), gone
    if reply.ending is not None:
        problem = ProviderTimeout(f"The provider was given up: {reply.ending.value}.")
    problem = problem or ProviderBroke("The provider ended the reply without a finish reason.")
    status = Status.TRUNCATED if reply.received else Status.FAILED
    return replace(reply.message, status=status, error=problem.code), problem


def problem_of(message: Message) -> Problem | None:
    """Return the problem that a stored reply ended with."""
    return problem_of_code(message.error) if message.error else None
