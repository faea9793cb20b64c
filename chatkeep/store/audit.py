"""The table ``audit``: an append-only log. Old rows are deleted; no row is ever changed.

Ids have no gaps and follow the order of commits. Each row has a hash over itself and the hash of the row before. This
holds with any number of writers, because a transaction locks `MARK` as its last step before COMMIT: the holder waits
for no other lock, so there is no deadlock, and the next one sees its rows.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec

from chatkeep.domain.audit import Actor, AuditEvent
from chatkeep.domain.conversation import id_of, now_us
from chatkeep.store import counters
from chatkeep.store.sql import Connection, Sql

# The id of the newest row.
MARK = "audit"
NO_HASH = bytes(32)
_TAIL = "SELECT value FROM marks WHERE name = 'audit'"
_HOLD = Sql(_TAIL, mysql=f"{_TAIL} FOR UPDATE")
_COLUMNS = "id, at, account, key_id, prefix, end_user, verb, what, request_id, outcome, hash"
_VALUES = ", ".join(f":{name}" for name in _COLUMNS.split(", "))
_INSERT = Sql(f"INSERT INTO audit ({_COLUMNS}) VALUES ({_VALUES})")  # noqa: S608 - fixed parts only
_HASH = Sql("SELECT hash FROM audit WHERE id = :id")
_OLDEST = Sql("SELECT id, at FROM audit WHERE id > 0 AND id < :newest ORDER BY id LIMIT :limit")
_FORGET = Sql("DELETE FROM audit WHERE id < :before")


@dataclass(frozen=True, slots=True)
class Entry:
    """A row. ``at`` is µs since 1970 in UTC, ``what`` a JSON object."""

    id: int
    at: int
    by: Actor
    verb: str
    what: str
    outcome: str
    hash: bytes = NO_HASH

    def hash_behind(self, previous: bytes) -> bytes:
        """Return the row's hash, given the hash of the row before."""
        by = self.by
        key_id = by.key_id.hex if by.key_id else None
        who = (by.account, key_id, by.prefix, by.end_user, by.request_id)
        told = msgspec.json.encode((self.id, self.at, *who, self.verb, self.what, self.outcome))
        return hashlib.sha256(previous + told).digest()


@dataclass(frozen=True, slots=True)
class Filter:
    """Select rows by account, by verb, and from ``start`` to before ``end`` (µs since 1970)."""

    account: str | None = None
    verb: str | None = None
    start: int | None = None
    end: int | None = None


EVERY = Filter()


def add(connection: Connection, notes: list[AuditEvent]) -> None:
    """Add a transaction's events, as its last step."""
    newest = int(connection.rows(_HOLD)[0][0])
    previous = _hash_of(connection, newest)
    at = now_us()
    for number, note in enumerate(notes, newest + 1):
        what = msgspec.json.encode(note.what).decode()
        entry = Entry(number, at, note.by, note.verb.value, what, note.outcome)
        previous = entry.hash_behind(previous)
        connection.change(_INSERT, **_values(entry), hash=previous)
    counters.put(connection, MARK, newest + len(notes))


def _hash_of(connection: Connection, id: int) -> bytes:
    rows = connection.rows(_HASH, id=id)
    return bytes(rows[0][0]) if rows else NO_HASH


def newest_id(connection: Connection) -> int:
    """Return the id of the newest row, 0 if there never was one."""
    return counters.get(connection, MARK)


def page(
    connection: Connection, only: Filter, *, after: int | None = None, limit: int, ascending: bool = True
) -> list[Entry]:
    """Return rows after the id ``after``, by ascending or descending id."""
    direction, beyond = ("ASC", ">") if ascending else ("DESC", "<")
    names = {"account": "=", "verb": "=", "start": ">=", "end": "<"}
    given = {name: value for name in names if (value := getattr(only, name)) is not None}
    columns = {"start": "at", "end": "at"}
    where = [f"id {beyond} :after", *(f"{columns.get(name, name)} {names[name]} :{name}" for name in given)]
    text = f"SELECT {_COLUMNS} FROM audit WHERE {' AND '.join(where)} ORDER BY id {direction} LIMIT :limit"  # noqa: S608
    begin = (0 if ascending else 2**63 - 1) if after is None else after
    return [_entry(row) for row in connection.rows(Sql(text), after=begin, limit=limit, **given)]


def forget(connection: Connection, before: int, limit: int) -> int:
    """Delete up to ``limit`` of the oldest rows before that time, but never the newest row. Return how many.

    Deletes only from the beginning, so that the rest is a valid chain.
    """
    rows = connection.rows(_OLDEST, newest=newest_id(connection), limit=limit)
    kept = next((number for number, at in rows if at >= before), rows[-1][0] + 1 if rows else 0)
    return connection.change(_FORGET, before=kept) if kept else 0


def _values(entry: Entry) -> dict[str, Any]:
    by = entry.by
    return {
        "id": entry.id,
        "at": entry.at,
        "account": by.account,
        "key_id": by.key_id.bytes if by.key_id else None,
        "prefix": by.prefix,
        "end_user": by.end_user,
        "verb": entry.verb,
        "what": entry.what,
        "request_id": by.request_id,
        "outcome": entry.outcome,
    }


def _entry(row: tuple[Any, ...]) -> Entry:
    """Return the entry of a row of `_COLUMNS`."""
    number, at, account, key_id, prefix, end_user, verb, what, request_id, outcome, found = row
    by = Actor(account, id_of(key_id) if key_id else None, prefix, end_user, request_id)
    return Entry(number, at, by, verb, what, outcome, bytes(found))
