"""All increments taken during writes together equal the tables."""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from uuid import UUID

from chatkeep.config.settings import Settings
from chatkeep.conversations import service
from chatkeep.conversations.service import Changes
from chatkeep.domain.conversation import now_us
from chatkeep.domain.quota import Defaults
from chatkeep.errors import NotFound, TurnRunning
from chatkeep.exports import Export, cursor_epoch
from chatkeep.exports.formats import make
from chatkeep.limiting.aggregator import UsageAggregator
from chatkeep.limiting.limiter import Limiter
from chatkeep.provider.demo import DemoProvider
from chatkeep.retention import sweeper
from chatkeep.runtime.metrics import Registry
from chatkeep.store import migrations
from chatkeep.store.engine import Database
from chatkeep.store.exports import Selection
from chatkeep.store.journal import Journal
from chatkeep.turns.begin import Turn, TurnRequest
from chatkeep.turns.cache import MemoryCache
from chatkeep.turns.service import Turns
from tests.copies import Copy
from tests.faults import rows
from tests.faults.conftest import Record
from tests.faults.scale import Scale
from tests.http.api import eventually

OWNER = "me"


class Writer(threading.Thread):
    """A writer with its own journal that makes every kind of change, also to data of other writers."""

    def __init__(self, url: str, dice: random.Random, known: list[Turn]) -> None:
        super().__init__(daemon=True)
        self.done = 0
        self.ending = threading.Event()
        self._dice = dice
        self._known = known
        self._database = Database(url)
        self._journal = Journal(self._database)
        settings = Settings(database_url=url, cache_size=0)
        limiter = Limiter(Defaults(), (), self._journal, UsageAggregator())
        self._turns = Turns(
            settings, self._database, self._journal, DemoProvider(pace=0), MemoryCache(0, 0), limiter, Registry()
        )
        self._deeds = [self._begin, self._go_on, self._regenerate, self._edit, self._entitle, self._remove, self._sweep]

    def run(self) -> None:
        while not self.ending.is_set():
            (deed,) = self._dice.choices(self._deeds, weights=[4, 8, 2, 2, 4, 1, 1])
            with suppress(NotFound, TurnRunning, IndexError):  # another writer was faster, or there is no turn yet
                deed()
                self.done += 1
        assert eventually(lambda: not self._turns.live, 10)
        self._journal.close()
        self._database.close()

    def _take(self, message: str = "", **fields: UUID | int | None) -> None:
        request = TurnRequest(OWNER, message or f"say {self._dice.random()}", max_tokens=5, **fields)  # type: ignore[arg-type]
        turn = self._turns.begin_turn(request)
        self._known.append(turn)
        if self._dice.random() < 0.5:
            for _ in self._turns.follow_begun(turn):
                pass

    def _begin(self) -> None:
        self._take(ttl=self._dice.choice([None, None, 1]))

    def _go_on(self) -> None:
        self._take(conversation_id=self._one().conversation_id)

    def _regenerate(self) -> None:
        turn = self._one()
        self._take(conversation_id=turn.conversation_id, regenerate=turn.reply_id)

    def _edit(self) -> None:
        turn = self._one()
        reply = service.require_message(self._database, OWNER, turn.conversation_id, turn.reply_id)
        self._take(conversation_id=turn.conversation_id, edit=reply.parent_id)

    def _entitle(self) -> None:
        changes = Changes(title=f"title {self._dice.random()}", pinned=self._dice.random() < 0.5)
        service.change_conversation(self._database, self._journal, OWNER, self._one().conversation_id, changes)

    def _remove(self) -> None:
        service.delete_conversation(self._journal, OWNER, self._one().conversation_id)

    def _sweep(self) -> None:
        sweeper.sweep(self._journal, now_us())

    def _one(self) -> Turn:
        """Return one of the last turns of all writers."""
        return self._dice.choice(self._known[-40:])


def take(database: Database, copied: Copy) -> dict[str, int]:
    """Update a copy with an increment, and return its size."""
    since = cursor_epoch(database, copied.cursor) if copied.cursor else None
    return copied.take(b"".join(Export(database, Selection(OWNER, since=since), make("ndjson"))))


def test_all_increments_together_equal_the_tables(database_url: str, scale: Scale, figures: Record) -> None:
    """Writes for some seconds, or half a minute."""
    database, copied, known, counts = Database(database_url), Copy(), list[Turn](), list[dict[str, int]]()
    migrations.migrate(database)
    take(database, copied)  # before the first row, because the first export has no tombstones of earlier deletions
    amount = 4 if database.embedded else 16
    writers = [Writer(database_url, scale.random("writer", number), known) for number in range(amount)]
    for writer in writers:
        writer.start()
    deadline = time.monotonic() + scale.of(6, 30)
    while time.monotonic() < deadline:
        counts.append(take(database, copied))
    for writer in writers:
        writer.ending.set()
    for writer in writers:
        writer.join(30)
    time.sleep(1.1)  # for the shortest ttl
    sweep(database)
    counts.append(take(database, copied))
    stored, ever = rows.read(database_url), {str(turn.conversation_id) for turn in known}
    lost = differences(copied, stored)
    figures(
        "increments while others write",
        writers=amount,
        changes=sum(writer.done for writer in writers),
        increments=len(counts),
        conversations=len(ever),
        tombstones=len(copied.gone),
        differences=len(lost),
    )
    assert lost == []
    assert ever == copied.conversations.keys() | copied.gone.keys()
    anew = Copy()
    take(database, anew)
    assert (copied.conversations, copied.messages) == (anew.conversations, anew.messages)
    database.close()


def sweep(database: Database) -> None:
    journal = Journal(database)
    sweeper.sweep(journal, now_us())
    journal.close()


def differences(copied: Copy, stored: rows.Rows) -> list[str]:
    """Return the differences between the tables and the copy."""
    tips = {id: (one["message_count"], one["current_id"]) for id, one in copied.conversations.items()}  # noqa: A001
    names = ("conversation_id", "parent_id", "position", "role", "content", "reasoning", "status", "finish_reason")
    ours = {(key, *(one[name] for name in names)) for key, one in copied.messages.items()}
    theirs = {(row["id"], *(row[name] for name in names)) for row in map(asdict, stored.messages)}
    return [str(item) for item in {*tips.items()} ^ {*stored.conversations.items()}] + [str(x) for x in ours ^ theirs]
