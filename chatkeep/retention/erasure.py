"""Export and erase everything of an end user.

An erasure raises a fence (`store.fences`) and then deletes in one pass. Whatever other processes have under way (a
reply, an import, usage that they have not stored yet) checks the fence in the transaction that stores it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from functools import partial
from itertools import chain, starmap
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from chatkeep.domain.audit import Action, Actor, AuditEvent
from chatkeep.domain.conversation import id_of, new_id, now_us
from chatkeep.domain.usage import NO_KEY
from chatkeep.errors import stored_in_part
from chatkeep.exports import files
from chatkeep.exports.formats.text import encode, time_text
from chatkeep.i18n import _
from chatkeep.limiting.limiter import Limiter
from chatkeep.runtime.concurrency import FILES
from chatkeep.store import (
    conversations,
    counters,
    epochs,
    fences,
    holdings,
    idempotency,
    jobs,
    keys,
    messages,
    shares,
    usage,
    windows,
)
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.messages import ROWS
from chatkeep.store.transaction import Transaction
from chatkeep.turns.cache import ERASURES, Cache

T = TypeVar("T")
# What one transaction deletes beside messages: turns wait that long at most.
CONVERSATIONS = 20
SOME = 200
IN_PART = _("The database failed while erasing. The erasure may be partial. Retry the request.")
# Rows that an export reads at once.
PAGE = 1_000
_FIRST = date(1970, 1, 1)


@dataclass(slots=True)
class Erased:
    """How many of each kind were erased."""

    conversations: int = 0
    messages: int = 0
    exports: int = 0
    idempotency_keys: int = 0
    keys: int = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof of an erasure. ``erased_at`` is in µs since 1970, UTC."""

    id: UUID
    account: str
    end_user: str
    erased_at: int
    erased: Erased


class Eraser:
    """Erases end users from the database, the caches, Redis and the folder of export files."""

    def __init__(self, database: Database, journal: Journal, cache: Cache, limiter: Limiter, folder: Path) -> None:
        self._database = database
        self._journal = journal
        self._cache = cache
        self._limiter = limiter
        self._folder = folder

    def erase(self, owner: str, by: Actor) -> Receipt:
        """Erase everything of an end user, and return once it is gone. Idempotent.

        One pass is enough. It begins when every transaction from before the fence has committed; what was under way
        finds the fence when it writes again. Raises `StoreUnavailable`, after which part of it may be gone.
        """
        account, _, end_user = owner.partition("/")
        id = new_id()  # noqa: A001
        told = {"erasure_id": id, "account": account, "end_user": end_user}
        self._journal.write(partial(_raise_fence, owner=owner, event=AuditEvent(by, Action.OWNER_ERASING, told)))
        erased = Erased()
        with stored_in_part(IN_PART):
            epochs.close(self._database)
            self._erase(owner, erased)
            done = AuditEvent(by, Action.OWNER_ERASED, told | asdict(erased))
            self._journal.write(lambda transaction: transaction.events.append(done))
        self._database.reclaim()
        return Receipt(id, account, end_user, now_us(), erased)

    def _erase(self, owner: str, erased: Erased) -> None:
        account, _, end_user = owner.partition("/")
        # The end user's own keys first, so that requests with them are refused.
        erased.keys += sum(self._steps(lambda transaction: keys.remove(transaction, account, end_user, SOME)))
        # Conversations before idempotency keys: a turn locks its conversation, and none follows when that is gone.
        for gone, rows in self._steps(lambda transaction: _erase_some(transaction, owner)):
            erased.conversations += gone
            erased.messages += rows
        erased.idempotency_keys += sum(self._steps(lambda transaction: idempotency.forget(transaction, owner, SOME)))
        for found in self._steps(lambda transaction: jobs.remove(transaction, owner, SOME)):
            FILES.run(_remove_files, self._folder, [job.id for job in found])
            erased.exports += len(found)
        for _ in self._steps(lambda transaction: usage.reassign(transaction, account, owner)):
            pass
        self._journal.write(lambda transaction: _forget(transaction, owner))
        self._cache.forget(owner)
        self._limiter.forget(owner)

    def _steps(self, some: Callable[[Transaction], T]) -> Iterator[T]:
        """Run ``some`` until it deletes nothing; pause after each step for as long as it took, like the sweeper."""
        while True:
            began = time.monotonic()
            found = self._journal.write(some)
            if not found or found == (0, 0):
                return
            yield found
            time.sleep(time.monotonic() - began)


def _raise_fence(transaction: Transaction, owner: str, event: AuditEvent) -> None:
    fences.raise_fence(transaction, owner, now_us())
    transaction.events.append(event)


def _erase_some(transaction: Transaction, owner: str) -> tuple[int, int]:
    """Delete up to `CONVERSATIONS` and about `ROWS` messages, running replies included; return how many of each."""
    now, gone, rows = now_us(), 0, 0
    for id in conversations.lock_some(transaction, owner, CONVERSATIONS):  # noqa: A001
        if rows >= ROWS:
            break
        conversations.end_reply(transaction, id)
        deleted = messages.delete_some(transaction, owner, id, ROWS - rows)
        rows += deleted.rows
        if not deleted.all:
            break
        conversations.remove(transaction, owner, id, now, "deleted")
        gone += 1
    return gone, rows


def _forget(transaction: Transaction, owner: str) -> None:
    """Delete the counts of limits and quotas, and tell every process to clear its cache."""
    windows.remove(transaction, owner)
    holdings.remove(transaction, owner)
    counters.count(transaction, ERASURES)


def _remove_files(folder: Path, ids: list[UUID]) -> None:
    for job_id in ids:
        for path in folder.glob(f"{job_id}-*"):
            files.remove(path)


def belongings(database: Database, owner: str) -> Iterator[bytes]:
    """Yield everything of an end user except conversations as lines of JSON, a page at a time.

    Raises `StoreUnavailable`.
    """
    account, _, end_user = owner.partition("/")
    keys_after = partial(keys.of_end_user, account=account, end_user=end_user, limit=PAGE)
    jobs_after = partial(jobs.of_owner, owner=owner, limit=PAGE)
    shares_after = partial(shares.of_owner, owner=owner, limit=PAGE)
    idempotency_keys_after = partial(idempotency.of_owner, owner=owner, limit=PAGE)
    usage_after = partial(usage.of_owner, owner=owner, limit=PAGE)
    for page in chain(
        (map(_key, page) for page in _pages(database, keys_after, b"", lambda key: key.id.bytes)),
        (map(_job, page) for page in _pages(database, jobs_after, b"", lambda job: job.id.bytes)),
        (starmap(_share, page) for page in _pages(database, shares_after, b"", lambda row: row[0].bytes)),
        (starmap(_repeatable, page) for page in _pages(database, idempotency_keys_after, "", lambda row: row[0])),
        (map(_used, page) for page in _pages(database, usage_after, usage.UsageRowKey(), usage.key_of)),
    ):
        yield b"".join(encode(one) + b"\n" for one in page if one)


def _pages(
    database: Database, read: Callable[..., list[T]], after: Any, place_of: Callable[[T], Any]
) -> Iterator[list[T]]:
    """Yield the pages that ``read(connection, after=…)`` returns, each after the last one's end."""
    while page := database.read(partial(read, after=after), long=True):
        yield page
        after = place_of(page[-1])


def _key(key: keys.Key) -> dict[str, Any]:
    last_used = None if key.last_used_at is None else _time(key.last_used_at)
    return {
        "object": "key", "id": key.id, "prefix": f"ck_{key.prefix}", "name": key.name, "scopes": key.scopes,
        "created_at": _time(key.created_at), "last_used_at": last_used,
    }  # fmt: skip


def _job(job: jobs.Job) -> dict[str, Any]:
    return {
        "object": "export_job", "id": job.id, "status": job.status, "created_at": _time(job.created_at),
        "request": msgspec.Raw(job.request.encode()),
    }  # fmt: skip


def _share(conversation_id: UUID, at: int | None) -> dict[str, Any] | None:
    if at is None:
        return None
    return {"object": "share", "conversation_id": conversation_id, "created_at": _time(at)}


def _repeatable(key: str, at: int) -> dict[str, Any]:
    return {"object": "idempotency_key", "key": key, "created_at": _time(at)}


def _used(row: tuple[Any, ...]) -> dict[str, Any]:
    day, key_id, model, requests, input_tokens, output_tokens, cost = row
    return {
        "object": "usage", "day": (_FIRST + timedelta(days=day)).isoformat(), "model": model,
        "key": None if bytes(key_id) == NO_KEY else id_of(bytes(key_id)), "requests": requests,
        "input_tokens": input_tokens, "output_tokens": output_tokens, "cost": cost / 1_000_000_000,
    }  # fmt: skip


def _time(at: int) -> str:
    return time_text(at).decode()
