"""Count rows in pieces, so that no snapshot stays open and no statement takes long.

A snapshot would keep SQLite's write-ahead log growing. A count has to read the whole table, so the tests of query plans
leave this module out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chatkeep.domain.conversation import Role
from chatkeep.store import metrics
from chatkeep.store.engine import Database
from chatkeep.store.sql import Connection, Sql

# The most rows of a statement: well below a second, even if the table is not in memory.
CONVERSATIONS = 20_000
MESSAGES = 20_000

_CONVERSATIONS = Sql(
    "SELECT MAX(id), owner, expires_at <= :now AS expired, COUNT(*), SUM(pinned), MIN(last_active), MAX(last_active)"
    " FROM (SELECT id, owner, expires_at, pinned, last_active FROM conversations WHERE id > :after"
    " ORDER BY id LIMIT :limit) piece GROUP BY owner, expired"
)
_MESSAGES = Sql(
    "SELECT MAX(id), `role`, status, COUNT(*), SUM(cached), SUM(input_tokens), SUM(output_tokens)"
    " FROM (SELECT id, `role`, status, cached, input_tokens, output_tokens FROM messages WHERE id > :after"
    " ORDER BY id LIMIT :limit) piece GROUP BY `role`, status"
)
_RUNNING = Sql("SELECT COUNT(*) FROM leases")
_TOMBSTONES = Sql("SELECT COUNT(*) FROM tombstones WHERE owner <> ''")  # without fences
_JOBS = Sql("SELECT status, COUNT(*) FROM export_jobs GROUP BY status")


@dataclass(slots=True)
class ConversationCount:
    """Counts of conversations. Times are µs since 1970, of those that have not expired."""

    alive: int = 0
    pinned: int = 0
    expired: int = 0
    """Expired but not swept yet."""
    owners: set[str] = field(default_factory=set)
    oldest: int | None = None
    newest: int | None = None


@dataclass(slots=True)
class MessageCount:
    """Counts of messages and tokens."""

    roles: Counter[str] = field(default_factory=Counter)
    replies: Counter[str] = field(default_factory=Counter)
    """By status."""
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Storage:
    """The size of the database in bytes."""

    tables: int
    """The file of the embedded database; else the server's estimate."""
    log: int | None
    """The embedded database's write-ahead log."""


def conversations(database: Database, now: int) -> ConversationCount:
    """Count conversations. Raises `StoreUnavailable`."""
    count = ConversationCount()
    for owner, expired, *figures in _pieces(database, _CONVERSATIONS, b"", limit=CONVERSATIONS, now=now):
        if expired:
            count.expired += figures[0]
        else:
            count.owners.add(owner)
            _add_alive(count, *figures)
    return count


def _add_alive(count: ConversationCount, number: int, pinned: int, oldest: int, newest: int) -> None:
    count.alive += number
    count.pinned += int(pinned)
    count.oldest = oldest if count.oldest is None else min(count.oldest, oldest)
    count.newest = newest if count.newest is None else max(count.newest, newest)


def messages(database: Database) -> MessageCount:
    """Count messages. Raises `StoreUnavailable`."""
    count = MessageCount()
    for role, status, number, cached, input_tokens, output_tokens in _pieces(database, _MESSAGES, 0, limit=MESSAGES):
        count.roles[role] += number
        if role == Role.ASSISTANT:
            count.replies[status] += number
        count.cached += int(cached)
        count.input_tokens += int(input_tokens or 0)
        count.output_tokens += int(output_tokens or 0)
    return count


def running(connection: Connection) -> int:
    """Return how many replies are being generated."""
    return _number(connection, _RUNNING)


def tombstones(connection: Connection) -> int:
    """Return the number of tombstones."""
    return _number(connection, _TOMBSTONES)


def jobs(connection: Connection) -> dict[str, int]:
    """Return the number of export jobs by status."""
    return dict(connection.rows(_JOBS))


def storage(database: Database) -> Storage:
    """Return the size of the database. Raises `StoreUnavailable`."""
    tables = database.read(metrics.storage)
    if not database.embedded:
        return Storage(tables, log=None)
    log = Path(f"{database.url.database}-wal")
    return Storage(tables, log.stat().st_size if log.exists() else 0)


def _pieces(database: Database, sql: Sql, after: Any, **values: int) -> Iterator[tuple[Any, ...]]:
    """Yield the groups of every piece, without the key that continues the next piece."""
    while rows := database.read(lambda connection: connection.rows(sql, after=after, **values), long=True):  # noqa: B023
        yield from (row[1:] for row in rows)
        after = max(row[0] for row in rows)


def _number(connection: Connection, sql: Sql) -> int:
    return int(connection.rows(sql)[0][0] or 0)
