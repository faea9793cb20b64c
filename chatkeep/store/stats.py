"""How much is kept: counted in pieces, so that a huge table keeps no snapshot open and no statement takes long.

A snapshot would keep SQLite's write-ahead log growing. A count reads its table from end to end, which no index can
spare it; that is why the tests that look for scans leave this module out.
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

# What one statement reads: well below a second, also where the table is not in memory.
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
    """How many conversations there are; times are µs since 1970, and of those that have not expired."""

    alive: int = 0
    pinned: int = 0
    expired: int = 0
    """Not deleted yet: the sweep will."""
    owners: set[str] = field(default_factory=set)
    oldest: int | None = None
    newest: int | None = None


@dataclass(slots=True)
class MessageCount:
    """How many messages there are, and the tokens of replies."""

    roles: Counter[str] = field(default_factory=Counter)
    replies: Counter[str] = field(default_factory=Counter)
    """By status."""
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Storage:
    """What the database takes, in bytes."""

    tables: int
    """The file of the embedded database; elsewhere an estimate of the server's."""
    log: int | None
    """The write-ahead log of the embedded database."""


def conversations(database: Database, now: int) -> ConversationCount:
    """Count conversations, those aside that have expired by ``now``. Raises `StoreUnavailable`."""
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
    """Return how many conversations are gone of which exports still tell."""
    return _number(connection, _TOMBSTONES)


def jobs(connection: Connection) -> dict[str, int]:
    """Return how many export jobs there are of each status."""
    return dict(connection.rows(_JOBS))


def storage(database: Database) -> Storage:
    """Return how much room the database takes. Raises `StoreUnavailable`."""
    tables = database.read(metrics.storage)
    if not database.embedded:
        return Storage(tables, log=None)
    log = Path(f"{database.url.database}-wal")
    return Storage(tables, log.stat().st_size if log.exists() else 0)


def _pieces(database: Database, sql: Sql, after: Any, **values: int) -> Iterator[tuple[Any, ...]]:
    """Yield the groups of every piece without the key, by which the next piece begins behind this one."""
    while rows := database.read(lambda connection: connection.rows(sql, after=after, **values), long=True):  # noqa: B023
        yield from (row[1:] for row in rows)
        after = max(row[0] for row in rows)


def _number(connection: Connection, sql: Sql) -> int:
    return int(connection.rows(sql)[0][0] or 0)
