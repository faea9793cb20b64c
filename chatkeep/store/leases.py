"""The tables ``leases`` and ``workers``: which process generates which reply, and whether it is alive.

A process shows that it lives by raising its beat; others judge by whether the beat goes up while they watch, on their
own monotonic clock. No wall clock is compared, so a clock that jumps ends no reply.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from chatkeep.domain.conversation import id_of
from chatkeep.domain.quota import key_subject, subjects_of
from chatkeep.store.sql import Connection, Duplicate, Sql
from chatkeep.store.transaction import Transaction

_INSERT = Sql(
    "INSERT INTO leases (conversation_id, reply_id, worker_id, stop, question, owner, key_id)"
    " VALUES (:conversation_id, :reply_id, :worker_id, 0, :question, :owner, :key_id)"
)
_ASK = Sql("UPDATE leases SET question = :question WHERE conversation_id = :conversation_id AND reply_id = :reply_id")
_SELECT = "SELECT conversation_id, reply_id, worker_id, stop, owner, key_id FROM leases"
_ANSWERING = Sql(f"{_SELECT} WHERE question = :question AND reply_id <> :reply_id")
_DELETE = Sql(
    "DELETE FROM leases WHERE conversation_id = :conversation_id AND reply_id = :reply_id AND worker_id = :worker_id"
)
_OF_CONVERSATION = Sql(f"{_SELECT} WHERE conversation_id = :conversation_id")
_ALL = Sql(_SELECT)
_TO_STOP = Sql(f"{_SELECT} WHERE worker_id = :worker_id AND stop = 1")
# A row for each reply that is being generated: reading all of them costs less than keeping indexes for every turn.
# In one column: PyMySQL takes longer for the description of a column than for a row.
_RUNNING = Sql(
    "SELECT CONCAT_WS(' ', COALESCE(SUM(owner = :account OR SUBSTR(owner, 1, :length) = :prefix), 0),"
    " COALESCE(SUM(owner = :owner), 0), COALESCE(SUM(key_id = :key_id), 0)) FROM leases"
)
_STOP = Sql("UPDATE leases SET stop = 1 WHERE conversation_id = :conversation_id AND reply_id = :reply_id")
_REGISTER = Sql("INSERT INTO workers (id, beat) VALUES (:id, 0)")
_BEAT = Sql("UPDATE workers SET beat = beat + 1 WHERE id = :id")
_BEATS = Sql("SELECT id, beat FROM workers")
_FORGET = Sql("DELETE FROM workers WHERE id = :id")


class Lease(msgspec.Struct, frozen=True):
    """A process's right to write a reply; ``stop`` asks it to stop."""

    conversation_id: UUID
    reply_id: UUID
    worker_id: UUID
    stop: bool
    owner: str = ""
    """Whose reply it is."""
    key_id: UUID | None = None
    """The key that it counts for, where there is one."""


def acquire(connection: Transaction, lease: Lease, question: bytes | None = None) -> Lease | None:
    """Take a conversation's only lease and, with ``question``, be the one that answers it while the lease is held.

    Returns the lease of the other reply that answers it already, in whichever process, where there is one. Raises
    `Duplicate` where a reply is being generated in the conversation.
    """
    # Looked for first: on MySQL a duplicate locks what it met, and all turns of other processes would wait there.
    leader = answering(connection, lease.reply_id, question) if question else None
    row = {
        "conversation_id": lease.conversation_id.bytes,
        "reply_id": lease.reply_id.bytes,
        "worker_id": lease.worker_id.bytes,
        "owner": lease.owner,
        "key_id": lease.key_id and lease.key_id.bytes,
    }
    try:
        connection.change(_INSERT, **row, question=None if leader else question)
    except Duplicate:
        leader = answering(connection, lease.reply_id, question) if question and not leader else None
        if leader is None:
            raise
        connection.change(_INSERT, **row, question=None)
    _count(connection, lease, 1)
    return leader


def ask(connection: Connection, conversation_id: UUID, reply_id: UUID, question: bytes) -> Lease | None:
    """Let a reply be the one that answers a question, as long as its lease is held.

    Returns the lease of the other reply that answers it already, in whichever process, where there is one.
    """
    # Looked for first: on MySQL a duplicate locks what it met, and all turns of other processes would wait there.
    found = answering(connection, reply_id, question)
    if found is not None:
        return found
    try:
        connection.change(_ASK, conversation_id=conversation_id.bytes, reply_id=reply_id.bytes, question=question)
    except Duplicate:
        return answering(connection, reply_id, question)
    return None


def answering(connection: Connection, reply_id: UUID, question: bytes) -> Lease | None:
    """Return the lease of another reply that answers a question."""
    rows = connection.rows(_ANSWERING, question=question, reply_id=reply_id.bytes)
    return _lease(rows[0]) if rows else None


def release(connection: Transaction, lease: Lease) -> bool:
    """Give a lease back; return False where somebody else ended it before: only one ever ends a reply."""
    ended = connection.change(
        _DELETE,
        conversation_id=lease.conversation_id.bytes,
        reply_id=lease.reply_id.bytes,
        worker_id=lease.worker_id.bytes,
    )
    _count(connection, lease, -ended)
    return ended == 1


def _count(connection: Transaction, lease: Lease, replies: int) -> None:
    if connection.ledger.running:
        connection.ledger.count_running(subjects_of(lease.owner, lease.key_id), replies)


def of_conversation(connection: Connection, conversation_id: UUID) -> Lease | None:
    """Return the lease of the reply that is being generated in a conversation."""
    rows = connection.rows(_OF_CONVERSATION, conversation_id=conversation_id.bytes)
    return _lease(rows[0]) if rows else None


def every(connection: Connection) -> list[Lease]:
    """Return the leases of all processes: as many as replies are being generated."""
    return [_lease(row) for row in connection.rows(_ALL)]


def running(connection: Connection, owner: str, key_id: UUID | None) -> dict[str, int]:
    """Return how many replies are being generated for each subject of an owner and a key, in whichever process."""
    account = owner.partition("/")[0]
    [(found,)] = connection.rows(
        _RUNNING,
        key_id=key_id and key_id.bytes,
        owner=owner,
        account=account,
        prefix=f"{account}/",
        length=len(account) + 1,
    )
    of_account, of_owner, of_key = map(int, found.split())
    counted = {owner: of_owner, account: of_account}  # in this order: they may be one
    return counted | {key_subject(key_id): of_key} if key_id else counted


def to_stop(connection: Connection, worker_id: UUID) -> list[Lease]:
    """Return a process's leases whose replies it is asked to stop."""
    return [_lease(row) for row in connection.rows(_TO_STOP, worker_id=worker_id.bytes)]


def ask_to_stop(connection: Connection, lease: Lease) -> None:
    """Ask the process that holds the lease to stop its reply."""
    connection.change(_STOP, conversation_id=lease.conversation_id.bytes, reply_id=lease.reply_id.bytes)


def heartbeat(connection: Connection, worker_id: UUID) -> None:
    """Show that this process lives; also where another one had given it up."""
    if connection.change(_BEAT, id=worker_id.bytes) == 0:
        connection.change(_REGISTER, id=worker_id.bytes)


def heartbeats(connection: Connection) -> dict[UUID, int]:
    """Return the beat of every process."""
    return {id_of(row[0]): row[1] for row in connection.rows(_BEATS)}


def forget(connection: Connection, worker_id: UUID) -> None:
    """Remove a process that is gone."""
    connection.change(_FORGET, id=worker_id.bytes)


def _lease(row: tuple[Any, ...]) -> Lease:
    ids = (id_of(row[0]), id_of(row[1]), id_of(row[2]))
    return Lease(*ids, bool(row[3]), row[4], id_of(row[5]) if row[5] else None)
