"""Fill every table with all kinds of text and numbers, and return a database's content for comparison."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa

from chatkeep.store import schema
from chatkeep.store.copying import WORK
from chatkeep.store.engine import Database
from chatkeep.store.sql import Sql

# Texts that databases escape, truncate, pad, fold, normalize or terminate.
NASTY = (
    "", " ", "a", "A", "a ", " a", "\x00", "a\x00b", "\x01", "\t\r\n", "\\", "\\'", "'", '"', "`", "%s", "%(v0)s",
    ":v0", "\u00e9", "e\u0301", "\u00df", "ss", "\u4f60\u597d", "\U0001f600\U0001f469\u200d\U0001f469", "\ufeff",
    "\uffff", "\U0010ffff", "\ue000", "\u05e9\u05dc\u05d5\u05dd", "\ufdfa", "\u2028", "NULL", "0", "x'00'",
    "\x7f\x80\x9f", "\x1a", "?",
)  # fmt: skip
FLOATS = (0.0, 1.0, -1.5, 0.1, 1 / 3, 2.0**53 + 1, 1e-308, 5e-324, 1.7976931348623157e308, 123456789.123456789)
ROWS = 40
TABLES = [table for table in schema.metadata.sorted_tables if table.name not in {"workers", "duties"}]
MARKS = ("epoch", "keys", "audit", "erasures", "cache_cleared", "tombstones_forgotten", "database")
_CONVERSATION = Sql(
    "INSERT INTO conversations (id, owner, title, metadata, created_at, last_active, pinned, message_count, forks)"
    " VALUES (:id, 'me', 'Title', '{}', :last, :last, 0, 100, 0)"
)
_MESSAGE = Sql(
    "INSERT INTO messages (message_id, conversation_id, position, on_branch, role, content, reasoning, written,"
    " timestamp, status, cached) VALUES (:id, :parent, :position, 1, 'user', :text, '', 0, :timestamp, 'completed', 0)"
)


def fill(database: Database, rows: int = ROWS, seed: int = 1, text: Callable[[], str] = lambda: "") -> None:
    """Fill every table except those of processes. ``text`` lengthens texts without a limit."""
    dice = random.Random(seed)  # noqa: S311 - it must repeat itself
    with database.engine.begin() as connection:
        ids = [dice.randbytes(16) for _ in range(rows)]
        for table in TABLES:
            if table is schema.marks:
                connection.execute(sa.delete(table))
            connection.execute(sa.insert(table), list(_rows_of(table, ids, dice, text)))


def _rows_of(
    table: sa.Table, ids: list[bytes], dice: random.Random, text: Callable[[], str]
) -> Iterator[dict[str, Any]]:
    for number, own in enumerate(ids):
        row = {column.name: _value(column, number, own, dice, text) for column in table.columns}
        yield row | ({"name": MARKS[number]} if table is schema.marks and number < len(MARKS) else {})


def _value(column: sa.Column[Any], number: int, own: bytes, dice: random.Random, text: Callable[[], str]) -> Any:
    kind, is_key = column.type, column.primary_key or _is_unique(column)
    if column.nullable and not is_key and number % 3 == 0:
        return None
    if isinstance(kind, sa.LargeBinary):
        length = kind.length or 0
        edges = (bytes(length), b"\xff" * length, b"\\'" * (length // 2))
        is_id = column.name in {"id", "conversation_id"}
        return own if is_id else dice.choice(edges) if number % 5 == 0 and not is_key else dice.randbytes(length)
    if isinstance(kind, sa.String):
        return _text(kind.length, number, text(), is_key=is_key)
    if isinstance(kind, sa.Double):
        return FLOATS[number % len(FLOATS)]
    bits = 16 if isinstance(kind, sa.SmallInteger) else 64 if isinstance(kind, sa.BigInteger) else 32
    return number + 1 if is_key else (0, 1, 2 ** (bits - 1) - 1, -(2 ** (bits - 1)))[number % 4]


def _text(length: int | None, number: int, more: str, *, is_key: bool) -> str:
    found = NASTY[number % len(NASTY)]
    if length is None:
        return found + more
    if is_key:  # MySQL ignores trailing spaces when it compares texts
        return f"{found}{number}"[-length:]
    return (found * length)[:length] if number % 2 else found[:length]


def _is_unique(column: sa.Column[Any]) -> bool:
    return any(index.unique and column.name in index.columns for index in column.table.indexes)


def grow(database: Database, size: int, seed: int = 2) -> None:
    """Add conversations with about that many bytes of text in all."""
    dice = random.Random(seed)  # noqa: S311 - it must repeat itself
    with database.connection() as connection:
        while size > 0:
            connection.begin()
            parent = dice.randbytes(16)
            ids = [dice.randbytes(16) for _ in range(100)]
            connection.change(_CONVERSATION, id=parent, last=size)
            words = [NASTY[number % len(NASTY)] + dice.randbytes(9).hex() for number in range(100)]
            texts = [word * dice.randrange(1, 300) for word in words]
            connection.change_each(
                _MESSAGE,
                [
                    {"id": own, "parent": parent, "position": number, "text": text, "timestamp": size * 1000 + number}
                    for number, (own, text) in enumerate(zip(ids, texts, strict=True))
                ],
            )
            connection.commit()
            size -= sum(len(text.encode()) for text in texts)


def digests(database: Database, where: str = "1 = 1") -> dict[str, tuple[int, int]]:
    """Return the row count and order-independent hash of each copied table."""
    found = {}
    for table in TABLES:
        columns = ", ".join(f"`{column.name}`" for column in table.columns)
        condition = {"marks": "name <> 'database'", "messages": where}.get(table.name, "1 = 1")
        count = total = 0
        with (
            database.connection(WORK) as connection,
            connection.stream(
                Sql(f"SELECT {columns} FROM `{table.name}` WHERE {condition}")  # noqa: S608 - our own names
            ) as rows,
        ):
            for row in rows:
                count += 1
                total ^= int.from_bytes(hashlib.blake2b(repr(tuple(row)).encode(), digest_size=16).digest())
        found[table.name] = (count, total)
    return found


def dump(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of those tables in an order equal for all databases, without the database's identity."""
    with database.engine.connect() as connection:
        found = {table.name: sorted(map(tuple, connection.execute(sa.select(table))), key=repr) for table in TABLES}
    found["marks"] = [row for row in found["marks"] if row[0] != "database"]
    return found
