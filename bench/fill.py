"""Filling a SQLite store with conversations by the hundred thousand, past the API, which would take hours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import apsw
import sqlalchemy as sa

from chatkeep.model import new_id
from chatkeep.store import schema

LENGTH = 20  # messages of a conversation
APART_US = 100_000  # between the last activity of two conversations
BATCH = 5000  # conversations in one transaction
Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Template:
    """The rows of a real turn: whatever columns the schema has, these fill them rightly."""

    conversation: Values
    turn: list[Values]


def take_template(file: Path) -> Template:
    """Return the rows of the newest turn that a server stored in an otherwise idle file."""
    with connected(file) as connection:
        conversation = rows_of(connection, schema.conversations, "ORDER BY last_active DESC LIMIT 1")[0]
        own = f"WHERE conversation_id = x'{conversation['id'].hex()}' ORDER BY position"
        return Template(conversation, rows_of(connection, schema.messages, own))


def rows_of(connection: apsw.Connection, table: sa.Table, clause: str) -> list[Values]:
    """Return rows of a table, the columns by name."""
    names = [column.name for column in table.columns]
    found = connection.execute(f"SELECT {', '.join(names)} FROM {table.name} {clause}")  # noqa: S608 - nobody's input
    return [dict(zip(names, values, strict=True)) for values in found]


def fill(file: Path, template: Template, size: int) -> None:
    """Add conversations like the template until there are ``size`` messages; each is older than the one before."""
    with connected(file) as connection:
        have = count(connection)
        for first in range(have, size // LENGTH, BATCH):
            store(connection, template, range(first, min(first + BATCH, size // LENGTH)))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def store(connection: apsw.Connection, template: Template, numbers: range) -> None:
    """Store the conversations of some numbers in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    for number in numbers:
        conversation, messages = like(template, number)
        connection.execute(insert(schema.conversations, conversation), conversation)
        connection.executemany(insert(schema.messages, messages[0]), messages)
    connection.execute("COMMIT")


def insert(table: sa.Table, row: Values) -> str:
    """Return the statement that stores such a row."""
    return f"INSERT INTO {table.name} ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})"  # noqa: S608


def like(template: Template, number: int) -> tuple[Values, list[Values]]:
    """Return the rows of a new conversation: the template's, with ids, times and places of its own."""
    last_active = template.conversation["last_active"] - number * APART_US
    identity, parent, messages = new_id(last_active).bytes, None, []
    for index in range(LENGTH):
        own = template.turn[index % 2] | {
            "message_id": new_id(last_active).bytes,
            "conversation_id": identity,
            "parent_id": parent,
            "position": template.turn[0]["position"] + index,
            "timestamp": last_active - (LENGTH - 1 - index) * 1000,
        }
        del own["id"]  # the database counts
        messages.append(own)
        parent = own["message_id"]
    changed = {"id": identity, "current_id": parent, "message_count": LENGTH, "last_active": last_active}
    return template.conversation | changed | {"created_at": messages[0]["timestamp"]}, messages


def spread(file: Path, wanted: int) -> list[str]:
    """Return the ids of ``wanted`` conversations from all over the listing."""
    query = "SELECT id FROM conversations ORDER BY last_active LIMIT 1 OFFSET ?"
    with connected(file) as connection:
        offsets = [count(connection) * part // wanted for part in range(wanted)]
        return [str(UUID(bytes=one(connection, query, offset))) for offset in offsets]


def count(connection: apsw.Connection) -> int:
    """Return how many conversations there are."""
    return int(one(connection, "SELECT count(*) FROM conversations"))


def one(connection: apsw.Connection, query: str, *values: int) -> Any:
    """Return the only value that a query finds."""
    return connection.execute(query, values).fetchall()[0][0]


@contextmanager
def connected(file: Path) -> Iterator[apsw.Connection]:
    """Lend a connection to a database."""
    connection = apsw.Connection(str(file))
    try:
        yield connection
    finally:
        connection.close()
