"""The tables ``leases`` and ``workers``: which process generates which reply, and the heartbeats of processes.

A process increments its heartbeat; others watch whether it grows, by their own monotonic clock. Wall clocks are never
compared, so a clock that jumps ends no reply.
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
# A full scan of the running replies costs less than indexes that every turn has to maintain. The result is one column,
# because PyMySQL takes longer for a column's description than for a row.
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
    """A process's right to write a reply. ``stop`` asks it to stop."""

    conversation_id: UUID
    reply_id: UUID
    worker_id: UUID
    stop: bool
    owner: str = ""
    """The reply's owner."""
    key_id: UUID | None = None
    """The API key that it counts for, if any."""


def acquire(connection: Transaction, lease: Lease, question: bytes | None = None) -> Lease | None:
    """Acquire a conversation's only lease and, with ``question``, lead equal questions while the lease is held.

    Returns the lease of the leader if another reply, in any process, answers the question already. Raises `Duplicate`
    if a reply is being generated in the conversation.
    """
    # Check first: on MySQL a duplicate locks the existing row, for which turns of other processes would wait.
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
    """Make a reply the leader for a question, while its lease is held.

    Returns the lease of the leader if another reply, in any process, answers it already.
    """
    # Check first: on MySQL a duplicate locks the existing row, for which turns of other processes would wait.
    found = answering(connection, reply_id, question)
    if found is not None:
        return found
    try:
        connection.change(_ASK, conversation_id=conversation_id.bytes, reply_id=reply_id.bytes, question=question)
    except Duplicate:
        return answering(connection, reply_id, question)
    return None


def answering(connection: Connection, reply_id: UUID, question: bytes) -> Lease | None:
    """Return the lease of another reply that answers a question, or None."""
    rows = connection.rows(_ANSWERING, question=question, reply_id=reply_id.bytes)
    return _lease(rows[0]) if rows else None


def release(connection: Transaction, lease: Lease) -> bool:
    """Release a lease. Return False if another process has ended it: a reply is ended only once."""
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
    """Return the lease of a conversation's running reply, or None."""
    rows = connection.rows(_OF_CONVERSATION, conversation_id=conversation_id.bytes)
    return _lease(rows[0]) if rows else None


def every(connection: Connection) -> list[Lease]:
    """Return the leases of all processes, one for each running reply."""
    return [_lease(row) for row in connection.rows(_ALL)]


def running(connection: Connection, owner: str, key_id: UUID | None) -> dict[str, int]:
    """Return the number of running replies of each subject of an owner and a key, in all processes."""
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
    counted = {owner: of_owner, account: of_account}  # in this order, because they may be the same
    return counted | {key_subject(key_id): of_key} if key_id else counted


def to_stop(connection: Connection, worker_id: UUID) -> list[Lease]:
    """Return the leases of a process whose replies it is asked to stop."""
    return [_lease(row) for row in connection.rows(_TO_STOP, worker_id=worker_id.bytes)]


def ask_to_stop(connection: Connection, lease: Lease) -> None:
    """Ask the process that holds the lease to stop its reply."""
    connection.change(_STOP, conversation_id=lease.conversation_id.bytes, reply_id=lease.reply_id.bytes)


def heartbeat(connection: Connection, worker_id: UUID) -> None:
    """Increment this process's heartbeat. Registers it again if another process had removed it."""
    if connection.change(_BEAT, id=worker_id.bytes) == 0:
        connection.change(_REGISTER, id=worker_id.bytes)


def heartbeats(connection: Connection) -> dict[UUID, int]:
    """Return the heartbeats of all processes."""
    return {id_of(row[0]): row[1] for row in connection.rows(_BEATS)}


def forget(connection: Connection, worker_id: UUID) -> None:
    """Remove a dead process."""
    connection.change(_FORGET, id=worker_id.bytes)


def _lease(row: tuple[Any, ...]) -> Lease:
    ids = (id_of(row[0]), id_of(row[1]), id_of(row[2]))
    return Lease(*ids, bool(row[3]), row[4], id_of(row[5]) if row[5] else None)
