"""Fill a SQLite store with hundreds of thousands of conversations. The API would take hours."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import apsw
import sqlalchemy as sa

from bench.processes import BenchError
from chatkeep.store import schema

LENGTH = 20  # messages of a conversation
APART_US = 100_000  # between the last activity of two conversations
TURN_US = 30_000_000  # between two turns of a conversation
BATCH = 500  # conversations in one transaction
NEWEST = 1_000_000  # the number of the conversation that has the template's time
MESSAGE_BYTES = 450  # in the file, indexes included
QUESTION, ANSWER = 90, 480  # characters at most
TEXTS = 1 << 16  # different texts of each kind: more than a compressor's window
TEXT = (
    "a haiku is the poem of three short lines that begins with an old pond and ends where a frog jumps into water"
    ' she said: "five, seven" `print(17)` \n\n- first \n- next 🐸'
    " 俳句 是 一种 日本 短诗 由 十七个 音节 组成 古池 蛙 跳入 水声"
)
# A field of a line for LOAD DATA.
ESCAPED = r"replace(replace(replace({0}, '\', '\\'), char(9), '\t'), char(10), '\n')"
SPREAD = 0x9E3779B97F4A7C15  # odd, so that different numbers stay different
Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Template:
    """The rows of a real turn, which have the right values in every column, and texts to vary them."""

    conversation: Values
    turn: list[Values]
    texts: list[list[str]] = field(default_factory=lambda: [_texts(QUESTION), _texts(ANSWER)])


def take_template(file: Path) -> Template:
    """Return the rows of the newest turn that a server stored in an otherwise idle file."""
    with connected(file) as connection:
        conversation = rows_of(connection, schema.conversations, "ORDER BY last_active DESC LIMIT 1")[0]
        own = f"WHERE conversation_id = x'{conversation['id'].hex()}' ORDER BY position"
        return Template(conversation, rows_of(connection, schema.messages, own))


def rows_of(connection: apsw.Connection, table: sa.Table, clause: str) -> list[Values]:
    """Return rows of a table, the columns by name."""
    names = [column.name for column in table.columns]
    found = connection.execute(f"SELECT {', '.join(names)} FROM {table.name} {clause}")  # noqa: S608 - no input of users
    return [dict(zip(names, values, strict=True)) for values in found]


def check_room(place: Path, messages: int, copies: float = 1) -> None:
    """Raise `BenchError` if the disk has no space for ``copies`` stores of this size."""
    needed, free = messages * MESSAGE_BYTES * copies, shutil.disk_usage(place).free
    if needed > free:
        raise BenchError(f"{place} has {free / 1e9:.1f} GB free, and this needs {needed / 1e9:.1f}; set TMPDIR")


def fill(file: Path, template: Template, size: int) -> None:
    """Add conversations like the template until the store has ``size`` messages, each newer than the one before."""
    with connected(file) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -200000")
        with without_indexes(connection):
            for first in range(count(connection), size // LENGTH, BATCH):
                store(connection, template, range(first, min(first + BATCH, size // LENGTH)))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


@contextmanager
def without_indexes(connection: apsw.Connection) -> Iterator[None]:
    """Drop the indexes during the block. To build them at the end costs a third."""
    found = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    ).fetchall()
    for name, _ in found:
        connection.execute(f"DROP INDEX {name}")
    yield
    for _, statement in found:
        connection.execute(str(statement))


def store(connection: apsw.Connection, template: Template, numbers: range) -> None:
    """Store a range of conversations in one transaction."""
    conversations, messages = [], []
    for number in numbers:
        conversation, spoken = like(template, number)
        conversations.append(conversation)
        messages += spoken
    connection.execute("BEGIN IMMEDIATE")
    insert(connection, schema.conversations, conversations)
    insert(connection, schema.messages, messages)
    connection.execute("COMMIT")


def insert(connection: apsw.Connection, table: sa.Table, rows: list[Values]) -> None:
    """Store rows that all have the same columns in the same order."""
    columns, places = ", ".join(rows[0]), ", ".join("?" * len(rows[0]))
    statement = f"INSERT INTO {table.name} ({columns}) VALUES ({places})"  # noqa: S608 - no input of users
    connection.executemany(statement, (tuple(row.values()) for row in rows))


def like(template: Template, number: int) -> tuple[Values, list[Values]]:
    """Return the rows of a new conversation: the template's, with new ids, times, positions and texts."""
    began = template.conversation["last_active"] + (number - NEWEST) * APART_US
    identity, parent, messages = uuid7(began, number), None, []
    for index in range(LENGTH):
        text = template.texts[index % 2][(number * LENGTH + index) % TEXTS]
        timestamp = began + index // 2 * TURN_US + index % 2
        own = template.turn[index % 2] | {
            "message_id": uuid7(timestamp, number * LENGTH + index),
            "conversation_id": identity,
            "parent_id": parent,
            "position": index + 1,
            "content": text,
            "written": len(text),
            "timestamp": timestamp,
        }
        del own["id"]  # the database counts
        messages.append(own)
        parent = own["message_id"]
    changed = {"id": identity, "current_id": parent, "message_count": LENGTH, "created_at": began}
    return template.conversation | changed | {"last_active": messages[-1]["timestamp"]}, messages


def uuid7(at: int, number: int) -> bytes:
    """Return a UUIDv7 of a time in µs and a number. `new_id` takes three times as long."""
    millis, rest = divmod(at, 1000)
    return (millis << 80 | 7 << 76 | rest << 66 | 0b10 << 62 | number * SPREAD % (1 << 62)).to_bytes(16, "big")


def _texts(most: int) -> list[str]:
    chance = random.Random(most)  # noqa: S311 - texts, not secrets
    run = " ".join(chance.choices(TEXT.split(" "), k=8 * TEXTS))
    starts = (chance.randrange(len(run) - most) for _ in range(TEXTS))
    return [run[start : start + chance.randint(1, most)] for start in starts]


def pour(file: Path, table: sa.Table, into: Path) -> None:
    """Write a table as lines for LOAD DATA, with binary values in hex."""
    fields = [f"coalesce({_field(column)}, '\\N')" for column in table.columns]
    query = f"SELECT {' || char(9) || '.join(fields)} FROM {table.name} ORDER BY rowid"  # noqa: S608 - no input of users
    with connected(file) as connection, into.open("w", encoding="utf-8", newline="\n") as lines:
        lines.writelines(f"{line}\n" for (line,) in connection.execute(query))


def _field(column: sa.Column[Any]) -> str:
    if is_binary(column):
        return f"hex({column.name})" if not column.nullable else f"iif({column.name} IS NULL, NULL, hex({column.name}))"
    return ESCAPED.format(column.name) if isinstance(column.type, sa.String) else column.name


def is_binary(column: sa.Column[Any]) -> bool:
    """Return whether a column holds bytes."""
    return isinstance(column.type, sa.LargeBinary)


def spread(file: Path, wanted: int) -> list[str]:
    """Return the ids of ``wanted`` conversations, spread over the list."""
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
