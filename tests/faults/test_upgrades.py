"""An upgrade of a large database survives kills, and other processes continue if the database allows it."""

from __future__ import annotations

import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field

import pytest

from chatkeep.domain.conversation import new_id
from chatkeep.errors import StoreUnavailable
from chatkeep.store import migrations
from chatkeep.store.engine import Database
from chatkeep.store.migrations import running
from chatkeep.store.sql import Contention, DriverConnection, Sql
from tests.faults.conftest import Record
from tests.faults.scale import Scale
from tests.faults.starting import WORDS, Place, begin, bring_to, contents, fill, is_sound, killed, succeeded, upgrade

RELEASED = [step.revision for step in running.steps()[:-1]]
pytestmark = [pytest.mark.promise(9), pytest.mark.everywhere]
_INSERT = Sql(
    "INSERT INTO messages (message_id, conversation_id, position, on_branch, role, content, reasoning, written,"
    " timestamp, status, cached)"
    " VALUES (:id, :conversation, 1000, 1, 'user', :text, '', 200, :at, 'completed', 0)"
)
_READ = Sql("SELECT content FROM messages WHERE conversation_id = :conversation ORDER BY timestamp DESC LIMIT 10")
_ANY = Sql("SELECT id FROM conversations LIMIT 1")


@pytest.fixture
def database_url(place: Place) -> str:
    """The URL of a database with the first schema."""
    url = place.new()
    bring_to(url, RELEASED[0])
    return url


def test_killed_upgrade_is_completed_by_the_next_one(
    place: Place, database_url: str, scale: Scale, figures: Record
) -> None:
    """Upgrades from every released schema, and kills each upgrade repeatedly until it is complete: some seconds."""
    conversations = scale.of(1_000, 100_000)
    fill(database_url, conversations, conversations)
    kills = amid = failures = upgrades = 0
    for revision in scale.of(["0001"], RELEASED):
        bring_to(database_url, revision)
        dice, ended = scale.random("upgrade", revision), kills + scale.of(2, 50)
        lasts, whole = seconds_of_an_upgrade(place, database_url), contents(database_url)
        while kills < ended:
            url = place.copy(database_url)
            upgrades += 1
            while kills < ended:
                [process] = begin(upgrade, url)
                time.sleep(dice.uniform(0, lasts / 4))  # several kills during all the steps
                kills += 1
                if not killed(process):
                    break
                amid += 1
            [process] = begin(upgrade, url)
            failures += not (succeeded(process) and is_sound(url) and contents(url) == whole)
            place.drop(url)
    figures(
        f"kill -9 of an upgrade with {conversations:,} conversations, from each released schema",
        upgrades=upgrades, kills=kills, amid_it=amid, failures=failures,
    )  # fmt: skip
    assert failures == 0


def test_upgrade_under_load_keeps_serving(place: Place, database_url: str, scale: Scale, figures: Record) -> None:
    """Fills a database, for some seconds."""
    messages = scale.of(20_000, 5_000_000)
    fill(database_url, messages // 10, messages)
    before = contents(database_url)
    with closing(Load(database_url)) as load:
        load.start()
        time.sleep(scale.of(0.2, 3))
        began = time.monotonic()
        with closing(Database(database_url)) as database:
            migrations.migrate(database, print)
        seconds = time.monotonic() - began
        time.sleep(scale.of(0.2, 3))
    assert is_sound(database_url)
    assert contents(database_url)[1] == before[1] + load.stored
    figures(
        f"an upgrade from schema {RELEASED[0]} with {messages:,} messages, under load",
        seconds=seconds, stored=load.stored, refused=load.refused, longest_write_s=load.longest_write,
        reads=load.reads, longest_read_s=load.longest_read,
    )  # fmt: skip
    assert load.stored
    place.drop(database_url)


@dataclass
class Load:
    """A client that stores and reads messages like the earlier version."""

    url: str
    stored: int = 0
    refused: int = 0
    reads: int = 0
    longest_write: float = 0.0
    longest_read: float = 0.0
    _over: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin."""
        self._database = Database(self.url)
        self._conversation: bytes = self._database.read(lambda connection: connection.rows(_ANY))[0][0]
        self._threads = [threading.Thread(target=work) for work in (self._write, self._read)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._database.close()

    def _write(self) -> None:
        while not self._over.wait(0.01):
            began = time.monotonic()
            try:
                with self._database.connection() as connection:
                    self._insert(connection)
                self.stored += 1
            except (StoreUnavailable, Contention):
                self.refused += 1
            self.longest_write = max(self.longest_write, time.monotonic() - began)

    def _insert(self, connection: DriverConnection) -> None:
        values = {"id": new_id().bytes, "conversation": self._conversation, "text": WORDS, "at": time.time_ns() // 1000}
        connection.begin()
        connection.change(_INSERT, **values)
        connection.commit()

    def _read(self) -> None:
        while not self._over.wait(0.01):
            began = time.monotonic()
            with suppress(StoreUnavailable):
                self._database.read(lambda connection: connection.rows(_READ, conversation=self._conversation))
                self.reads += 1
            self.longest_read = max(self.longest_read, time.monotonic() - began)


def seconds_of_an_upgrade(place: Place, url: str) -> float:
    """Return how long an undisturbed upgrade of a copy takes."""
    copied = place.copy(url)
    [process] = begin(upgrade, copied)
    began = time.monotonic()
    assert succeeded(process)
    place.drop(copied)
    return time.monotonic() - began
