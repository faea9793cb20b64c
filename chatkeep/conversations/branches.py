"""Read and switch the current branch of a conversation's message tree.

Each row says whether it is on the branch, so a switch updates every row that leaves or joins it, in several
transactions if there are many. First the branch shrinks from its end to the fork, then it grows along the new route. So
it is valid after each transaction, and a failed switch leaves a branch that ends too early.
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
# Another request may switch the branch between our read and our write.
_TRIES = 3
IN_PART = _("The database failed while switching the branch. The change may be partial. Retry the request.")


@dataclass(frozen=True)
class Route:
    """The path to a message from the fork where its branch leaves the current one, oldest first."""

    fork: Step | None
    """The last message on both branches; None if there is none."""
    joining: tuple[UUID, ...]

    @property
    def tip(self) -> UUID | None:
        """The message at the end of the route."""
        return self.joining[-1] if self.joining else self.fork_id

    @cached_property
    def places(self) -> dict[UUID | None, int]:
        """For each message of the route, how many have joined if the branch ends there."""
        return {self.fork_id: 0} | {one: place for place, one in enumerate(self.joining, 1)}

    @property
    def fork_id(self) -> UUID | None:
        """The id of the fork."""
        return self.fork.id if self.fork else None


class BranchMoved(Exception):
    """The current branch no longer contains the fork of a route."""


def messages_to(
    connection: Connection, conversation: Conversation, tip: UUID | None, *, skip: int, limit: int
) -> list[Message]:
    """Return up to ``limit`` messages from the first to ``tip``, oldest first, after the first ``skip``.

    Cheap if ``tip`` is on the current branch; otherwise all messages between it and the fork are read.
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
        found += messages.get_many(connection, list(route.joining[start : start + limit - len(found)]))
    return found


def route_to(connection: Connection, conversation_id: UUID, tip: UUID | None) -> Route:
    """Return the route to a message from the current branch."""
    joining: list[UUID] = []
    for step in messages.ancestors(connection, conversation_id, tip, steps=1):
        if step.on_branch:
            return Route(step, tuple(joining[::-1]))
        joining.append(step.id)
    return Route(None, tuple(joining[::-1]))


def newest_end(database: Database, conversation: Conversation, chosen: UUID) -> UUID | None:
    """Return the end of a message's newest branch: follow the newest child of each message.

    Returns None if the message does not exist. Raises `StoreUnavailable`.
    """
    after = database.read(lambda connection: messages.timestamp_of(connection, conversation.id, chosen))
    if after is None:
        return None
    if not conversation.forks:
        return conversation.current_id
    newest, below = {}, {chosen}
    for step in _messages_after(database, conversation, after):
        if step.parent_id in below:
            below.add(step.id)
            newest[step.parent_id] = step.id
    tip = chosen
    while tip in newest:
        tip = newest[tip]
    return tip


def _messages_after(database: Database, conversation: Conversation, after: int) -> Iterator[Step]:
    """Yield the messages newer than a time, and yield to other threads between pages."""
    read = partial(messages.newer, conversation_id=conversation.id, limit=PAGE)
    while page := database.read(partial(read, after=after), long=_is_long(conversation)):
        yield from page
        after = page[-1].timestamp
        time.sleep(0)


def switch(database: Database, journal: Journal, conversation: Conversation, tip: UUID | None) -> None:
    """Make the messages from the first to ``tip`` the current branch, in several transactions if needed.

    Raises `NotFound`, `TurnRunning`, `StoreUnavailable`.
    """
    for _attempt in range(_TRIES):
        find = partial(route_to, conversation_id=conversation.id, tip=tip)
        route = database.read(find, long=_is_long(conversation))
        step = partial(_step, owner=conversation.owner, id=conversation.id, route=route)
        try:
            _repeat(journal, step)
        except BranchMoved:
            continue
        return
    raise TurnRunning(_("Another request is changing the branch. Retry."), retry_after=1)


def _repeat(journal: Journal, step: Callable[[Transaction], bool]) -> None:
    """Run a step until it returns True. Pause after each as long as it took, so that other writers get their share."""
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


def switch_before(database: Database, journal: Journal, owner: str, id: UUID, replaced: UUID) -> Conversation | None:
    """Switch to before the message ``replaced`` if that needs several transactions. Return the old conversation then.

    Raises `NotFound`, `TurnRunning`, `StoreUnavailable`.
    """
    found = database.read(lambda connection: conversations.get(connection, owner, id, now_us()))
    if found is None or not _is_long(found):
        return None

    def look(connection: Connection) -> Step | None:
        step = next(messages.ancestors(connection, id, replaced, steps=1), None)
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
    leaving = islice(messages.ancestors(connection, conversation.id, conversation.current_id, steps=1), ROWS + 1)
    parted = sum(1 for _ in takewhile(lambda step: step.id != route.fork_id, leaving))
    return len(route.joining) + parted > ROWS


def switch_locked(connection: Transaction, conversation: Conversation, tip: UUID | None) -> Conversation:
    """Make the messages from the first to ``tip`` the current branch of a locked conversation. Return it."""
    route, whole = route_to(connection, conversation.id, tip), False
    while not whole:
        conversation, whole = advance(connection, conversation, route)
    return conversation


def rebuild(run: Callable[[Callable[[Transaction], int]], int], conversation_id: UUID, route: Route) -> None:
    """Make the branch follow a route, whatever it contains after the fork.

    ``run`` runs a function with a connection in a transaction, and returns its result.
    """
    after = route.fork.timestamp if route.fork else _BEFORE_ALL
    while run(partial(messages.leave_branch, conversation_id=conversation_id, after=after)) == ROWS:
        pass
    for begin in range(0, len(route.joining), ROWS):
        run(partial(messages.join_branch, ids=route.joining[begin : begin + ROWS]))


def advance(connection: Transaction, conversation: Conversation, route: Route) -> tuple[Conversation, bool]:
    """Move a locked conversation's branch towards the end of a route, by at most `ROWS` messages.

    Returns the changed conversation, and whether it has reached the end. Raises `BranchMoved`.
    """
    room = ROWS
    if conversation.current_id not in route.places:
        conversation, room = _shorten(connection, conversation, route)
        if conversation.current_id != route.fork_id:
            return conversation, False
    begun = route.places[conversation.current_id]
    some = route.joining[begun : begun + room]
    messages.join_branch(connection, some)
    whole = begun + len(some) == len(route.joining)
    return replace(conversation, current_id=some[-1]) if some else conversation, whole


def _shorten(connection: Transaction, conversation: Conversation, route: Route) -> tuple[Conversation, int]:
    """Take up to `ROWS` messages off the end of the branch. Return the conversation and how many of `ROWS` are left."""
    if route.fork and not next(messages.ancestors(connection, conversation.id, route.fork.id, steps=1)).on_branch:
        raise BranchMoved
    leaving: list[Step] = []
    end: Step | None = None
    for step in messages.ancestors(connection, conversation.id, conversation.current_id, steps=1):
        if step.id == route.fork_id or len(leaving) == ROWS:
            end = step
            break
        leaving.append(step)
    after = end.timestamp if end else _BEFORE_ALL
    if leaving:
        messages.leave_branch(connection, conversation.id, after, leaving[0].timestamp)
    # Messages are off the branch now, so readers have to look for siblings.
    forks = max(conversation.forks, 1)
    return replace(conversation, current_id=end.id if end else None, forks=forks), ROWS - len(leaving)
