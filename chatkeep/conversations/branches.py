"""The current branch of a conversation: which part of the tree is shown, and switching it.

Each message knows whether it is on the branch, so a switch changes every row that leaves or joins it. Many are changed
in several transactions: first the branch shrinks from its end to the fork, then it grows along the new way. So the
branch is valid after each of them, and a switch that breaks off leaves one that ends too early.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice, takewhile
from uuid import UUID

from msgspec.structs import replace

from chatkeep.domain.conversation import Conversation, Message, now_us
from chatkeep.errors import NO_CONVERSATION, NotFound, TurnRunning, stored_in_part
from chatkeep.i18n import _
from chatkeep.store import conversations, leases, messages
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.messages import ROWS, Step
from chatkeep.store.sql import Connection
from chatkeep.store.transaction import Transaction

PAGE = 2_000
_BEFORE_ALL = -(2**63)
# Somebody else may have switched between our look and our writing.
_TRIES = 3
IN_PART = _("The database failed while switching the branch. The change may be partial. Retry the request.")


@dataclass(frozen=True)
class Route:
    """The way to a message from where its branch leaves the current one; oldest first."""

    fork: Step | None
    """The last message that both have; None where they have none."""
    joining: tuple[UUID, ...]

    @property
    def tip(self) -> UUID | None:
        """The message that it leads to."""
        return self.joining[-1] if self.joining else self.fork_id

    @cached_property
    def places(self) -> dict[UUID | None, int]:
        """How many messages have joined where one of the way is the branch's end."""
        return {self.fork_id: 0} | {one: place for place, one in enumerate(self.joining, 1)}

    @property
    def fork_id(self) -> UUID | None:
        """The id of the last message that both branches have."""
        return self.fork.id if self.fork else None


class Astray(Exception):
    """The current branch does not lead to where a route begins any more."""


def portion(
    connection: Connection, conversation: Conversation, tip: UUID | None, *, skip: int, limit: int
) -> list[Message]:
    """Return messages from the first to ``tip``, oldest first, without the first ``skip``, at most ``limit``.

    Cheap as long as ``tip`` is on the current branch; else all messages are read that have left it.
    """
    if tip is None:
        return []
    route = route_to(connection, conversation.id, tip)
    found: list[Message] = []
    before = 0
    if route.fork is not None:
        until, forked = route.fork.timestamp, conversation.forks > 0
        found = messages.span(connection, conversation.id, until, skip=skip, limit=limit, forked=forked)
    if route.joining and len(found) < limit:
        before = messages.count_until(connection, conversation.id, route.fork.timestamp) if route.fork else 0
        start = max(0, skip - before)
        found += messages.some(connection, list(route.joining[start : start + limit - len(found)]))
    return found


def route_to(connection: Connection, conversation_id: UUID, tip: UUID | None) -> Route:
    """Return the way to a message from the current branch."""
    joining: list[UUID] = []
    for step in messages.above(connection, conversation_id, tip, steps=1):
        if step.on_branch:
            return Route(step, tuple(joining[::-1]))
        joining.append(step.id)
    return Route(None, tuple(joining[::-1]))


def newest_end(database: Database, conversation: Conversation, chosen: UUID) -> UUID | None:
    """Return the end of a message's newest branch: its newest child, of that the newest one, and so on.

    None where there is no such message. Raises `StoreUnavailable`.
    """
    after = database.read(lambda connection: messages.timestamp_of(connection, conversation.id, chosen))
    if after is None:
        return None
    if not conversation.forks:
        return conversation.current_id
    newest, below = {}, {chosen}
    for step in _later(database, conversation, after):
        if step.parent_id in below:
            below.add(step.id)
            newest[step.parent_id] = step.id
    tip = chosen
    while tip in newest:
        tip = newest[tip]
    return tip


def _later(database: Database, conversation: Conversation, after: int) -> Iterator[Step]:
    """Yield the messages of a conversation behind a time, and let others have their turn between two pages."""
    read = partial(messages.later, conversation_id=conversation.id, limit=PAGE)
    while page := database.read(partial(read, after=after), long=_is_long(conversation)):
        yield from page
        after = page[-1].timestamp
        time.sleep(0)


def switch(database: Database, journal: Journal, conversation: Conversation, tip: UUID | None) -> None:
    """Make the messages from the first to ``tip`` the current branch, in as many transactions as that takes.

    Raises `NotFound`, `TurnRunning`, `StoreUnavailable`.
    """
    for _attempt in range(_TRIES):
        find = partial(route_to, conversation_id=conversation.id, tip=tip)
        route = database.read(find, long=_is_long(conversation))
        step = partial(_step, owner=conversation.owner, id=conversation.id, route=route)
        try:
            _repeat(journal, step)
        except Astray:
            continue
        return
    raise TurnRunning(_("Another request is changing the branch. Retry."), retry_after=1)


def _repeat(journal: Journal, step: Callable[[Transaction], bool]) -> None:
    """Take steps until one is the last, and pause in between as long as it took, so that others get their share."""
    began = time.monotonic()
    with stored_in_part(IN_PART):
        while not journal.write(step):
            time.sleep(time.monotonic() - began)
            began = time.monotonic()


def _step(connection: Transaction, owner: str, id: UUID, route: Route) -> bool:
    found = conversations.lock(connection, owner, id, now_us())
    if found is None:
        raise NotFound(NO_CONVERSATION)
    if leases.of_conversation(connection, id) is not None:
        raise TurnRunning(_("Wait until the running reply ends, or stop it, before you change the branch."))
    moved, whole = advance(connection, found, route)
    conversations.update(connection, moved)
    return whole


def make_way(database: Database, journal: Journal, owner: str, id: UUID, replaced: UUID) -> Conversation | None:
    """Switch to before the message ``replaced``, if one transaction couldn't; return the conversation as it was, if so.

    Raises `NotFound`, `TurnRunning`, `StoreUnavailable`.
    """
    found = database.read(lambda connection: conversations.get(connection, owner, id, now_us()))
    if found is None or not _is_long(found):
        return None

    def look(connection: Connection) -> Step | None:
        step = next(messages.above(connection, id, replaced, steps=1), None)
        return step if step and _is_far(connection, found, step.parent_id) else None

    step = database.read(look, long=True)
    if step is None:
        return None
    switch(database, journal, found, step.parent_id)
    return found


def _is_long(conversation: Conversation) -> bool:
    return conversation.message_count > ROWS


def _is_far(connection: Connection, conversation: Conversation, tip: UUID | None) -> bool:
    route = route_to(connection, conversation.id, tip)
    leaving = islice(messages.above(connection, conversation.id, conversation.current_id, steps=1), ROWS + 1)
    parted = sum(1 for _ in takewhile(lambda step: step.id != route.fork_id, leaving))
    return len(route.joining) + parted > ROWS


def switched(connection: Transaction, conversation: Conversation, tip: UUID | None) -> Conversation:
    """Make the messages from the first to ``tip`` the current branch of a locked conversation, and return it."""
    route, whole = route_to(connection, conversation.id, tip), False
    while not whole:
        conversation, whole = advance(connection, conversation, route)
    return conversation


def correct(run: Callable[[Callable[[Transaction], int]], int], conversation_id: UUID, route: Route) -> None:
    """Let a route be the way of the branch, whatever is on it behind where the route begins.

    ``run`` returns what is done with a connection, in a transaction each time.
    """
    after = route.fork.timestamp if route.fork else _BEFORE_ALL
    while run(partial(messages.leave_branch, conversation_id=conversation_id, after=after)) == ROWS:
        pass
    for begin in range(0, len(route.joining), ROWS):
        run(partial(messages.join_branch, ids=route.joining[begin : begin + ROWS]))


def advance(connection: Transaction, conversation: Conversation, route: Route) -> tuple[Conversation, bool]:
    """Bring a locked conversation's branch nearer to the end of a route, by `ROWS` messages at most.

    Returns what the conversation becomes, and whether it is there. Raises `Astray`.
    """
    room = ROWS
    if conversation.current_id not in route.places:
        conversation, room = _shortened(connection, conversation, route)
        if conversation.current_id != route.fork_id:
            return conversation, False
    begun = route.places[conversation.current_id]
    some = route.joining[begun : begun + room]
    messages.join_branch(connection, some)
    whole = begun + len(some) == len(route.joining)
    return replace(conversation, current_id=some[-1]) if some else conversation, whole


def _shortened(connection: Transaction, conversation: Conversation, route: Route) -> tuple[Conversation, int]:
    """Take up to `ROWS` messages off the branch's end; return what is left of both."""
    if route.fork and not next(messages.above(connection, conversation.id, route.fork.id, steps=1)).on_branch:
        raise Astray
    leaving: list[Step] = []
    end: Step | None = None
    for step in messages.above(connection, conversation.id, conversation.current_id, steps=1):
        if step.id == route.fork_id or len(leaving) == ROWS:
            end = step
            break
        leaving.append(step)
    after = end.timestamp if end else _BEFORE_ALL
    if leaving:
        messages.leave_branch(connection, conversation.id, after, leaving[0].timestamp)
    # Whatever is off the branch, somebody has to look for it: also where a fork is only about to come.
    forks = max(conversation.forks, 1)
    return replace(conversation, current_id=end.id if end else None, forks=forks), ROWS - len(leaving)
