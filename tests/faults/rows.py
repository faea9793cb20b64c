"""The rows of a database, read without chatkeep's code."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import apsw
import pymysql
from sqlalchemy.engine import make_url

PRODUCTS = ("SQLite", "MariaDB", "MySQL")
Query = Callable[[str], list[tuple[Any, ...]]]


@dataclass(frozen=True, slots=True)
class Message:
    """A row of ``messages``."""

    id: str
    conversation_id: str
    parent_id: str | None
    position: int
    role: str
    content: str
    reasoning: str
    written: int
    timestamp: int
    status: str
    finish_reason: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a database: conversations as (count, current id), leases as (conversation, reply)."""

    conversations: dict[str, tuple[int, str | None]]
    messages: list[Message]
    leases: list[tuple[str, str]]
    keys: list[tuple[str, str]]

    def by_conversation(self) -> dict[str, list[Message]]:
        """Return the messages of each conversation by position."""
        found = defaultdict(list)
        for message in sorted(self.messages, key=lambda message: message.position):
            found[message.conversation_id].append(message)
        return found


def read(url: str) -> Rows:
    """Return a snapshot of the database at ``url``."""
    with closing(_connect(url)) as connection:
        query = _query(connection)
        query("BEGIN")
        return Rows(
            {text(key): (count, text(tip)) for key, count, tip in query(_CONVERSATIONS)},
            [Message(*(text(value) for value in row)) for row in query(_MESSAGES)],
            [(text(row[0]), text(row[1])) for row in query("SELECT conversation_id, reply_id FROM leases")],
            [(text(row[0]), text(row[1])) for row in query("SELECT `key`, reply_id FROM idempotency_keys")],
        )


def generating(url: str) -> set[str]:
    """Return the ids of replies without a final status."""
    with closing(_connect(url)) as connection:
        found = _query(connection)("SELECT message_id FROM messages WHERE status = 'generating'")
    return {str(UUID(bytes=row[0])) for row in found}


def product(url: str) -> str:
    """Return which of `PRODUCTS` the database at ``url`` is."""
    if url.startswith("sqlite"):
        return "SQLite"
    with closing(_connect(url)) as connection:
        return "MariaDB" if "MariaDB" in _query(connection)("SELECT VERSION()")[0][0] else "MySQL"


def connections(url: str) -> int:
    """Return the number of other connections to the database at ``url``."""
    place = "information_schema.processlist WHERE db"
    if product(url) == "MySQL":  # which fails there on statements with emoji
        place = "performance_schema.threads WHERE processlist_db"
    with closing(_connect(url)) as connection:
        found = _query(connection)(f"SELECT COUNT(*) FROM {place} = DATABASE()")  # noqa: S608 - our own words
    return int(found[0][0]) - 1


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Lock the rows of generating replies."""
    with closing(_connect(url)) as connection:
        query = _query(connection)
        if isinstance(connection, apsw.Connection):
            query("BEGIN IMMEDIATE")
        else:
            query("BEGIN")
            query("SELECT id FROM messages WHERE status = 'generating' FOR UPDATE")
        yield
        query("ROLLBACK")


def text(value: Any) -> Any:
    """Return an id as text, and other values unchanged."""
    return str(UUID(bytes=value)) if isinstance(value, bytes) else value


_CONVERSATIONS = "SELECT id, message_count, current_id FROM conversations"
_MESSAGES = (
    "SELECT message_id, conversation_id, parent_id, `position`, `role`, content, reasoning, written, timestamp, status,"
    " finish_reason, error FROM messages"
)


def _connect(url: str) -> apsw.Connection | pymysql.Connection[Any]:
    place = make_url(url)
    if place.get_backend_name() == "sqlite":
        connection = apsw.Connection(place.database or "", flags=apsw.SQLITE_OPEN_READWRITE)
        connection.set_busy_timeout(10_000)
        return connection
    return pymysql.Connection(
        host=place.host,
        port=place.port or 3306,
        user=place.username,
        password=place.password or "",
        database=place.database,
        charset="utf8mb4",
        ssl_disabled=True,
    )


def _query(connection: apsw.Connection | pymysql.Connection[Any]) -> Query:
    def query(sql: str) -> list[tuple[Any, ...]]:
        if isinstance(connection, apsw.Connection):
            return connection.execute(sql).fetchall()
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    return query
