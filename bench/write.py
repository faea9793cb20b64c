"""Cost of storing a turn, compared with the raw driver, and as the store grows."""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import apsw
import pymysql

from bench import databases, fill, servers, store
from bench.processes import BenchError, cpu_seconds
from bench.table import Report, Row, medians
from chatkeep.config.settings import Settings
from chatkeep.domain.conversation import new_id, now_us
from chatkeep.domain.quota import Defaults
from chatkeep.limiting.aggregator import UsageAggregator
from chatkeep.limiting.limiter import Admission, Limiter
from chatkeep.store import conversations, epochs, leases, messages
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.leases import Lease
from chatkeep.store.sql import DriverConnection, Sql
from chatkeep.store.transaction import Transaction
from chatkeep.turns.begin import TurnRequest, TurnStarter
from chatkeep.turns.cache import MemoryCache
from chatkeep.turns.rows import advanced, turn_rows
from tests.store.connections import PassingOn

RAW, STORE, TURN = "raw driver", "chatkeep.store", "TurnStarter.begin"
WAYS = (RAW, STORE, TURN)
QUESTION = "please explain in a few words how the quarterly plan is made and which tables it reads."
MODEL = "gpt-4o-mini"
ROUND = 50  # turns of one way before the next way
CONTEXT = 9  # messages to read: the tenth message of the prompt is the question
PARAMETER = re.compile(r"%\((\w+)\)s|:(\w+)")
FORGET_LEASES = Sql("DELETE FROM leases")
COLUMNS = {
    "messages": "messages",
    "way": "way",
    "turn_us": "CPU µs/turn",
    "ratio": "ratio to raw driver",
    "growth": "growth",
    "database_us": "database CPU µs/turn",
    "wall_us": "µs/turn",
}
NOTES = [
    "One turn in a conversation of 20 messages, in a transaction: the epoch, the conversation, its last messages,",
    "running replies to the same question, the lease, two messages, the conversation's new state.",
    f"{RAW}: the statements that {STORE} sends, recorded with their values, through apsw or PyMySQL alone.",
    f"{STORE}: the store's functions, which make those statements of plain values and plain values of rows.",
    f"{TURN}: all that the journal runs for a turn, the making of ids, prompt and its hash included.",
    "Growth is the cost relative to the smallest store. One connection, one thread, CPU time of the client only.",
]


def arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--messages", type=int, nargs="+", default=[10_000, 1_000_000],
        help="sizes, growing (10000 1000000); 10000000 takes minutes and 5 GB, on a server 20",
    )  # fmt: skip
    parser.add_argument("--turns", type=int, default=2000, help="turns of each way (2000)")
    databases.argument(parser)


def measure(options: Namespace) -> Report:
    """Measure the three ways at every size, in rounds."""
    with (
        servers.folder() as place,
        servers.upstream(place) as direct,
        databases.chosen(options.database) as database,
        contextlib.ExitStack() as stack,
    ):
        fill.check_room(place, sum(options.messages), copies=3 if database else 1)
        filled = list(store.filled(place, direct, options.messages))
        benches = [stack.enter_context(opened(one, database)) for one in filled]
        runs = [[row for bench in benches for row in bench.rows(options.turns)] for _ in range(options.runs)]
    rows = medians(runs)
    add_ratios(rows)
    parameters: Row = {"turns": options.turns, "database": options.database, "runs": options.runs}
    return Report("write", parameters, databases.shown(COLUMNS, options.database), rows, runs, NOTES)


class Statement(NamedTuple):
    """A statement with placeholders instead of names, and its values in order."""

    text: str
    values: tuple[Any, ...]
    reads: bool


def positional(text: str, values: dict[str, Any], place: str) -> tuple[str, tuple[Any, ...]]:
    """Return a statement in the form that the driver takes."""
    names = [first or second for first, second in PARAMETER.findall(text)]
    return PARAMETER.sub(place, text), tuple(values[name] for name in names)


class Recording(PassingOn):
    """Records every statement between `begin` and `commit`."""

    def __init__(self, connection: DriverConnection, *, embedded: bool) -> None:
        super().__init__(connection)
        self.said: list[Statement] = []
        self._embedded = embedded

    def rows(self, sql: Sql, **values: Any) -> list[tuple[Any, ...]]:
        """Run a query and return its rows."""
        self._keep(sql, values, reads=True)
        return super().rows(sql, **values)

    def change(self, sql: Sql, **values: Any) -> int:
        """Run an INSERT, UPDATE or DELETE and return the number of matched rows."""
        self._keep(sql, values, reads=False)
        return super().change(sql, **values)

    def commit(self) -> None:
        """Roll the transaction back. The recorded statements run later."""
        self.rollback()

    def _keep(self, sql: Sql, values: dict[str, Any], *, reads: bool) -> None:
        text, place = (sql.sqlite, "?") if self._embedded else (sql.mysql, "%s")
        self.said.append(Statement(*positional(text, values, place), reads))


def take(connection: Transaction, owner: str, conversation_id: UUID) -> None:
    """Store a turn as `TurnStarter.begin` does, with the store's functions only."""
    now, reply_id = now_us(), new_id()
    conversation = conversations.lock(connection, owner, conversation_id, now)
    if conversation is None:
        raise BenchError("a conversation that was filled in is gone")
    asked, reply = turn_rows(conversation, QUESTION, reply_id, MODEL, now)
    messages.latest(connection, conversation_id, reply.timestamp, CONTEXT)
    leases.acquire(connection, Lease(conversation_id, reply_id, reply_id, stop=False), question_of(reply_id))
    conversations.update(connection, advanced(conversation, reply))
    for message in filter(None, (asked, reply)):
        messages.insert(connection, message)


def question_of(reply_id: UUID) -> bytes:
    """Return a hash like that of a prompt. Every turn asks a different question."""
    return hashlib.sha256(reply_id.bytes).digest()


def in_transaction(connection: DriverConnection, work: Callable[[Transaction], object]) -> None:
    """Run one operation as the journal does."""
    connection.begin()
    work(Transaction(connection, epochs.hold(connection)))
    connection.commit()


class Raw:
    """A connection of the driver."""

    def __init__(self, database: Database) -> None:
        self._lent = database.engine.raw_connection()
        driver: Any = self._lent.driver_connection
        self._run = _apsw(driver.raw) if database.embedded else _pymysql(driver)
        self._begin = "BEGIN IMMEDIATE" if database.embedded else "BEGIN"

    def store(self, turn: list[Statement]) -> None:
        """Run recorded statements in one transaction."""
        run = self._run
        run(self._begin, (), False)  # noqa: FBT003 - part of a statement, not a flag
        for statement in turn:
            run(*statement)
        run("COMMIT", (), False)  # noqa: FBT003 - the same

    def close(self) -> None:
        """Close the connection."""
        self._lent.close()


Run = Callable[[str, tuple[Any, ...], bool], object]


def _apsw(raw: apsw.Connection) -> Run:
    execute = raw.execute
    return lambda text, values, reads: execute(text, values).fetchall() if reads else execute(text, values)


def _pymysql(raw: pymysql.Connection[Any]) -> Run:
    cursor = raw.cursor()
    return lambda text, values, reads: cursor.fetchall() if cursor.execute(text, values) and reads else None


class Clocks(NamedTuple):
    """Seconds: this program's CPU time, the time, and the database's CPU time."""

    own: float
    wall: float
    database: float


@dataclass(slots=True)
class Bench:
    """A store of one size, opened in all ways."""

    messages: int
    owner: str
    ids: list[UUID]
    database: Database
    server: databases.Server | None
    taking: TurnStarter
    limiter: Limiter
    connection: DriverConnection
    raw: Raw
    asked: int = field(default=0, init=False)
    rounds: int = field(default=0, init=False)

    def rows(self, turns: int) -> list[Row]:
        """Return the figures of one run: all ways in rounds, so that other load affects them equally."""
        self.check()
        size = min(ROUND, len(self.ids) // len(WAYS))
        spent: dict[str, list[Clocks]] = {way: [] for way in WAYS}
        for _ in range(math.ceil(turns / size)):
            for way in WAYS:
                spent[way].append(self.round(way, size))
            self.rounds += 1
        return [self.row(way, spent[way], size * len(spent[way])) for way in WAYS]

    def row(self, way: str, spent: list[Clocks], turns: int) -> Row:
        """Return the figures of one way."""
        own_us, wall_us, database_us = (sum(seconds) * 1e6 / turns for seconds in zip(*spent, strict=True))
        return {
            "messages": self.messages,
            "way": way,
            "turn_us": own_us,
            "database_us": database_us if self.server else None,
            "wall_us": wall_us,
        }

    def round(self, way: str, size: int) -> Clocks:
        """Take ``size`` turns in one way, each in another conversation. Return their cost."""
        works = self.prepared(way, self.some(way, size))
        before = self.clocks()
        for work in works:
            work()
        after = self.clocks()
        self.forget_leases()
        return Clocks(*(end - start for start, end in zip(before, after, strict=True)))

    def some(self, way: str, size: int) -> list[UUID]:
        """Return separate conversations for this way, because shared ones would be in memory the second time."""
        own = self.ids[WAYS.index(way) :: len(WAYS)]
        return [own[number % len(own)] for number in range(self.rounds * size, (self.rounds + 1) * size)]

    def prepared(self, way: str, ids: list[UUID]) -> list[Callable[[], object]]:
        """Return a call for each turn."""
        if way == RAW:
            return [partial(self.raw.store, self.recorded(self.stored(one))) for one in ids]
        work = self.stored if way == STORE else self.taken
        return [partial(in_transaction, self.connection, work(one)) for one in ids]

    def stored(self, one: UUID) -> Callable[[Transaction], object]:
        """Return a turn's work with the store's functions."""
        return lambda connection: take(connection, self.owner, one)

    def taken(self, one: UUID) -> Callable[[Transaction], object]:
        """Return a turn's work for the journal."""
        self.asked += 1  # every question is different
        request = TurnRequest(owner=self.owner, message=f"{self.asked}: {QUESTION}", conversation_id=one)
        return lambda transaction: self.taking.begin(
            transaction, request, Admission(self.limiter, self.owner, None), new_id(), MODEL
        )

    def recorded(self, work: Callable[[Transaction], object]) -> list[Statement]:
        """Return the statements of a turn's transaction, which is rolled back."""
        recording = Recording(self.connection, embedded=self.database.embedded)
        in_transaction(recording, work)
        return recording.said

    def check(self) -> None:
        """Raise `BenchError` unless the store's functions are called here as `TurnStarter.begin` calls them."""
        by_store, by_taking = (self.recorded(work(self.ids[0])) for work in (self.stored, self.taken))
        if [one.text for one in by_store] != [one.text for one in by_taking]:
            raise BenchError(f"{TURN} sends other statements than bench/write.py: {by_taking}")

    def clocks(self) -> Clocks:
        """Return the readings of the clocks."""
        return Clocks(time.process_time(), time.monotonic(), cpu_seconds(self.server.pid) if self.server else 0.0)

    def forget_leases(self) -> None:
        """Release the leases, so that every conversation can take a turn again."""
        self.connection.begin()
        self.connection.change(FORGET_LEASES)
        self.connection.commit()


@contextmanager
def opened(filled: store.Store, server: databases.Server | None) -> Iterator[Bench]:
    """Open a filled store, copied to the database server if there is one."""
    file = servers.sqlite_file(filled.place)
    owner, ids = known(file, limit=100_000)
    url = server.copy(file) if server else servers.sqlite_url(filled.place)
    database, settings = Database(url), Settings(database_url=url, model=MODEL)
    journal = Journal(database)
    limiter = Limiter(Defaults(), (), journal, UsageAggregator())
    taking = TurnStarter(settings, MemoryCache(settings.cache_size, settings.cache_ttl), new_id())
    raw = Raw(database)
    try:
        with database.connection() as connection:
            yield Bench(filled.messages, owner, ids, database, server, taking, limiter, connection, raw)
    finally:
        raw.close()
        journal.close()
        database.close()


def known(file: Path, limit: int) -> tuple[str, list[UUID]]:
    """Return the owner and ids of filled-in conversations, spread over the store."""
    query = (
        "SELECT owner, id FROM conversations WHERE message_count >= :length"
        " AND rowid % (SELECT 1 + max(rowid) / :limit FROM conversations) = 0"
    )
    with fill.connected(file) as connection:
        found = connection.execute(query, {"length": fill.LENGTH, "limit": limit}).fetchall()
    return str(found[0][0]), [UUID(bytes=bytes(identity)) for _, identity in found]  # type: ignore[arg-type]


def add_ratios(rows: list[Row]) -> None:
    """Add the cost relative to the raw driver, and to the smallest store, to every row."""
    for row in rows:
        raw = next(one for one in rows if one["messages"] == row["messages"] and one["way"] == RAW)
        first = next(one for one in rows if one["way"] == row["way"])
        row["ratio"] = float(row["turn_us"] or 0) / float(raw["turn_us"] or 1)
        row["growth"] = float(row["turn_us"] or 0) / float(first["turn_us"] or 1)
