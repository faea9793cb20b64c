"""Read the audit log in pages or as a file, and verify its hash chain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec

from chatkeep.domain.audit import AuditEvent
from chatkeep.errors import InvalidFields
from chatkeep.exports.formats.tables import cell
from chatkeep.exports.formats.text import encode, time_text
from chatkeep.store import audit
from chatkeep.store.audit import EVERY, NO_HASH, Entry, Filter
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.sql import Connection

FormatName = Literal["ndjson", "csv"]
PAGE = 1_000
COLUMNS = ("id", "at", "account", "key_id", "key", "end_user", "verb", "what", "request_id", "outcome", "hash")


def note(journal: Journal, event: AuditEvent) -> None:
    """Store an event of an action that writes nothing else, such as an export; call it before the action.

    Raises `StoreUnavailable`.
    """
    journal.write(lambda connection: connection.events.append(event))


def list_entries(
    database: Database, only: Filter, limit: int, after: int | None, *, ascending: bool
) -> tuple[list[Entry], bool]:
    """Return a page of the log, and whether more follow. Raises `InvalidFields`, `StoreUnavailable`."""

    def read(connection: Connection) -> list[Entry]:
        if after is not None and not 0 < after <= audit.newest_id(connection):
            raise InvalidFields.not_in_list()
        return audit.page(connection, only, after=after, limit=limit + 1, ascending=ascending)

    found = database.read(read, long=True)
    return found[:limit], len(found) > limit


def lines(database: Database, only: Filter, form: FormatName) -> Iterator[bytes]:
    """Yield the log as a file, the oldest first, up to the newest row at the start. Raises `StoreUnavailable`."""
    render = _json_line if form == "ndjson" else _table_line
    if form == "csv":
        yield ",".join(COLUMNS).encode() + b"\r\n"
    for entries in _pages(database, only):
        yield b"".join(map(render, entries))


def _pages(database: Database, only: Filter) -> Iterator[list[Entry]]:
    last, after = database.read(audit.newest_id), 0
    while after < last:
        read = _reading(only, after)
        found = database.read(read, long=True)
        yield [entry for entry in found if entry.id <= last]
        after = found[-1].id if len(found) == PAGE else last


def _reading(only: Filter, after: int) -> Callable[[Connection], list[Entry]]:
    return lambda connection: audit.page(connection, only, after=after, limit=PAGE)


def first_broken(database: Database) -> int | None:
    """Verify the hash chain; return the id of the first broken row, or None.

    The oldest row is trusted, because rows before it may have expired. Raises `StoreUnavailable`.
    """
    before: Entry | None = None
    for entries in _pages(database, EVERY):
        for entry in entries:
            if not _follows(entry, before):
                return entry.id
            before = entry
    newest = database.read(audit.newest_id)
    return newest if newest and (before is None or before.id < newest) else None


def _follows(entry: Entry, before: Entry | None) -> bool:
    if before is None:
        return entry.id > 1 or entry.hash == entry.hash_behind(NO_HASH)
    return entry.id == before.id + 1 and entry.hash == entry.hash_behind(before.hash)


def members(entry: Entry) -> dict[str, Any]:
    """Return the public fields of a row."""
    by = entry.by
    return {
        "id": entry.id,
        "at": time_text(entry.at).decode(),
        "account": by.account,
        "key_id": by.key_id,
        "key": f"ck_{by.prefix}" if by.prefix else None,
        "end_user": by.end_user,
        "verb": entry.verb,
        "what": msgspec.Raw(entry.what.encode()),
        "request_id": by.request_id,
        "outcome": entry.outcome,
        "hash": entry.hash.hex(),
    }


def _json_line(entry: Entry) -> bytes:
    return encode({"object": "audit_entry", **members(entry)}) + b"\n"


def _table_line(entry: Entry) -> bytes:
    told = members(entry) | {"what": entry.what}
    return b",".join(cell(_text(told[name])) if told[name] is not None else b"" for name in COLUMNS) + b"\r\n"


def _text(value: Any) -> bytes:
    return str(value).encode()
