"""Follow a reply of another process by polling its row."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Iterator
from uuid import UUID

from chatkeep.domain.conversation import Delta, Message, Status
from chatkeep.errors import DatabaseRefused, NotFound, StoreUnavailable
from chatkeep.i18n import _
from chatkeep.store import messages
from chatkeep.store.engine import Database
from chatkeep.store.sql import Connection
from chatkeep.turns.live import PING_S, End, Event, Events
from chatkeep.turns.outcome import problem_of

POLL_S = 0.2


def follow_row(
    database: Database, conversation_id: UUID, reply_id: UUID, after: int = 0, events: Events | None = None
) -> Iterator[Event]:
    """Yield a reply's events from ``after`` characters of its text on, up to its `End`.

    An `End` that is put into ``events`` from outside ends the following as well.
    """
    events = queue.SimpleQueue() if events is None else events
    shown, reasoned, heard = after, 0, time.monotonic()
    row: Message | None = None
    while row is None or row.status is Status.GENERATING:
        try:
            row = _grown(database, conversation_id, reply_id, row) or row
        except (NotFound, DatabaseRefused) as problem:
            yield End(None, problem)
            return
        text = row.content[shown:] if row else ""
        reasoning = row.reasoning[reasoned:] if row and not after else ""
        if text or reasoning:
            shown, reasoned, heard = shown + len(text), reasoned + len(reasoning), time.monotonic()
            yield Delta(text, reasoning)
        elif time.monotonic() - heard >= PING_S:
            heard = time.monotonic()
            yield None
        if row is None or row.status is Status.GENERATING:
            with contextlib.suppress(queue.Empty):
                yield events.get(timeout=POLL_S)
                return
    yield End(row, problem_of(row))


def _grown(database: Database, conversation_id: UUID, reply_id: UUID, seen: Message | None) -> Message | None:
    """Return a reply's row if it has changed; None otherwise, or while the database is down. Raises `NotFound`."""

    def read(connection: Connection) -> Message | None:
        progress = messages.progress(connection, reply_id)
        if progress is None:
            raise NotFound(_("Reply not found. Its conversation may have expired or been deleted."))
        if seen and (progress.status, progress.written) == (seen.status, len(seen.content) + len(seen.reasoning)):
            return None
        return messages.get(connection, conversation_id, reply_id)

    with contextlib.suppress(StoreUnavailable):
        return database.read(read)
    return None
