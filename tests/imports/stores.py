"""A store, and files for imports and from exports."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from types import EllipsisType, TracebackType
from typing import Any, Self
from uuid import UUID

from msgspec.structs import replace

from chatkeep.domain.conversation import Conversation, Message, Role, new_id, now_us
from chatkeep.exports import Export
from chatkeep.exports.formats import make
from chatkeep.imports import ImportOptions, Report, import_file
from chatkeep.store import conversations, imports, leases, messages, migrations
from chatkeep.store.engine import Database
from chatkeep.store.exports import Selection
from chatkeep.store.journal import Journal
from chatkeep.store.leases import Lease
from chatkeep.store.sql import Sql
from chatkeep.store.transaction import Transaction

OWNER = "local"
HOUR = 3600 * 1_000_000
Stored = tuple[Conversation, list[Message]]


class Store:
    """A database with the current schema; use it as a context."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.database = Database(url)
        migrations.migrate(self.database)
        self.journal = Journal(self.database)

    def take(
        self, file: bytes, *, owner: str = OWNER, ttl: int | EllipsisType | None = ..., renew: bool = False
    ) -> Report:
        """Import a file, in chunks of an odd length."""
        chunks = (file[at : at + 4099] for at in range(0, len(file), 4099))
        return import_file(self.database, self.journal, chunks, ImportOptions(owner, now_us(), ttl, renew))

    def give(self, name: str = "ndjson", *, since: int | None = None, owner: str = OWNER) -> bytes:
        """Export all conversations of an owner."""
        return b"".join(Export(self.database, Selection(owner, since=since), make(name)))

    def put(self, *stored: tuple[Conversation, list[Message]]) -> None:
        """Store conversations with messages; those up to the current one are on the branch."""

        def write(connection: Transaction) -> None:
            for conversation, said in stored:
                conversations.insert(connection, conversation)
                imports.add(connection, said, branch_of(conversation, said))

        self.journal.write(write)

    def messages(self, id: UUID) -> list[Message]:
        """Return the messages of a conversation's current branch."""
        found = self.database.read(
            lambda connection: messages.page(connection, id, limit=10_000, after=None, ascending=True)
        )
        assert found is not None
        return found

    def conversation(self, id: UUID, owner: str = OWNER) -> Conversation:
        found = self.database.read(lambda connection: conversations.get(connection, owner, id, now_us()))
        assert found is not None
        return found

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        return self.database.read(lambda connection: connection.rows(Sql(sql), **values))

    def lease(self, conversation: Conversation) -> None:
        """Acquire a conversation's lease, like a running reply."""
        self.journal.write(
            lambda connection: leases.acquire(connection, Lease(conversation.id, new_id(), new_id(), stop=False))
        )

    def empty(self) -> None:
        """Delete all conversations."""
        for table in ("tombstones", "messages", "conversations"):
            sql = Sql(f"DELETE FROM {table}")  # noqa: S608 - the tests' own words
            self.journal.write(partial(lambda sql, connection: connection.change(sql), sql))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.journal.close()
        self.database.close()


def branch_of(conversation: Conversation, said: list[Message]) -> set[UUID]:
    parents = {message.id: message.parent_id for message in said}
    found: set[UUID] = set()
    tip = conversation.current_id
    while tip is not None:
        found.add(tip)
        tip = parents[tip]
    return found


def a_conversation(turns: int = 1, *, at: int | None = None, **fields: Any) -> tuple[Conversation, list[Message]]:
    """Return a conversation of some turns."""
    began = at or now_us()
    id, tip = new_id(began), None  # noqa: A001 - as everywhere
    said: list[Message] = []
    for position in range(1, 2 * turns + 1):
        role = Role.USER if position % 2 else Role.ASSISTANT
        made = Message(new_id(began), id, tip, position, role, f"said {position}", began + position)
        tip = made.id
        said.append(made)
    made_of = Conversation(id, OWNER, "Title", began, began + len(said), message_count=len(said), current_id=tip)
    return replace(made_of, **fields), said


def records(file: bytes) -> list[Any]:
    """Return the lines of an export without the seal, whose cursor differs each time."""
    return [json.loads(line) for line in file.splitlines()[:-1]]


def changed(file: bytes, *changes: tuple[bytes, bytes]) -> bytes:
    """Return a file with texts replaced. Each must be there."""
    for old, new in changes:
        assert old in file
        file = file.replace(old, new, 1)
    return file


def resealed(file: bytes, before: bytes = b"", behind: bytes = b"") -> bytes:
    """Return a file without its seal with a new, valid one."""
    end = {"object": "export.end", "conversations": 0, "messages": 0, "sha256": hashlib.sha256(file).hexdigest()}
    return file + before + json.dumps(end).encode() + behind + b"\n"


def exported(store: Store, *stored: Stored, name: str = "ndjson") -> bytes:
    """Return the export of a store with these conversations, and empty the store."""
    store.put(*stored)
    file = store.give(name)
    store.empty()
    return file


def increment(*lines: Any) -> bytes:
    """Return an increment with these records."""
    head = {"object": "export", "version": 1, "since": "1"}
    return resealed(b"".join(json.dumps(line).encode() + b"\n" for line in (head, *lines)))
