"""Everything of an end user: given out, and erased for good.

It is erased twice, a few seconds apart. Whatever other processes are in the middle of when the first round takes it
away (a reply, an export, what they have counted and not stored yet) they have ended and stored by the second.
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
from chatkeep.limiting.limiter import Limiter
from chatkeep.runtime.concurrency import FILES
from chatkeep.store import conversations, counters, holdings, idempotency, jobs, keys, messages, shares, usage, windows
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.messages import ROWS
from chatkeep.store.sql import Connection
from chatkeep.turns.cache import ERASURES, Cache

T = TypeVar("T")
# A process sees within a second that a reply is not its own any more, and stores what was used a second later.
SETTLED_S = 3.0
# What one transaction deletes beside messages: turns wait that long for theirs.
CONVERSATIONS = 20
SOME = 200
IN_PART = "The database failed while everything was erased, which may be done in part. Send the request again."
# What is read at once of what is given out.
PAGE = 1_000
_FIRST = date(1970, 1, 1)


@dataclass(slots=True)
class Erased:
    """How much was erased of each kind."""

    conversations: int = 0
    messages: int = 0
    exports: int = 0
    idempotency_keys: int = 0
    keys: int = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """That an end user's things are gone. ``erased_at`` is µs since 1970 in UTC."""

    id: UUID
    account: str
    end_user: str
    erased_at: int
    erased: Erased


class Eraser:
    """Erases what end users have, wherever it is kept."""

    def __init__(self, database: Database, journal: Journal, cache: Cache, limiter: Limiter, folder: Path) -> None:
        self._database = database
        self._journal = journal
        self._cache = cache
        self._limiter = limiter
        self._folder = folder

    def erase(self, owner: str, by: Actor) -> Receipt:
        """Erase everything of an end user; return once it is gone. Doing so again does no harm.

        Raises `StoreUnavailable`, after which it may be gone in part.
        """
        account, _, end_user = owner.partition("/")
        id = new_id()  # noqa: A001
        told = {"erasure_id": id, "account": account, "end_user": end_user}
        self._journal.write(lambda connection: connection.notes.append(AuditEvent(by, Action.OWNER_ERASING, told)))
        erased = Erased()
        with stored_in_part(IN_PART):
            self._erase_once(owner, erased)
            time.sleep(SETTLED_S)
            self._erase_once(owner, erased)
            self._journal.write(
                lambda connection: connection.notes.append(AuditEvent(by, Action.OWNER_ERASED, told | asdict(erased)))
            )
        self._database.reclaim()
        return Receipt(id, account, end_user, now_us(), erased)

    def _erase_once(self, owner: str, erased: Erased) -> None:
        account, _, end_user = owner.partition("/")
        # The keys of the end user's own first, so that they let nobody in any more.
        erased.keys += sum(self._steps(lambda connection: keys.remove(connection, account, end_user, SOME)))
        erased.idempotency_keys += sum(self._steps(lambda connection: idempotency.forget(connection, owner, SOME)))
        for found in self._steps(lambda connection: jobs.remove(connection, owner, SOME)):
            FILES.run(_remove_files, self._folder, [job.id for job in found])
            erased.exports += len(found)
        for gone, rows in self._steps(lambda connection: _erase_some(connection, owner)):
            erased.conversations += gone
            erased.messages += rows
        for _ in self._steps(lambda connection: usage.disown(connection, account, owner)):
            pass
        self._journal.write(lambda connection: _forget(connection, owner))
        self._cache.forget(owner)
        self._limiter.forget(owner)

    def _steps(self, some: Callable[[Connection], T]) -> Iterator[T]:
        """Delete ``some`` until that is none, and pause in between as long as it took, as the sweep does."""
        while True:
            began = time.monotonic()
            found = self._journal.write(some)
            if not found or found == (0, 0):
                return
            yield found
            time.sleep(time.monotonic() - began)


def _erase_some(connection: Connection, owner: str) -> tuple[int, int]:
    """Delete up to `CONVERSATIONS` and about `ROWS` messages, running replies or not; return how many of each."""
    now, gone, rows = now_us(), 0, 0
    for id in conversations.lock_some(connection, owner, CONVERSATIONS):  # noqa: A001
        if rows >= ROWS:
            break
        conversations.end_reply(connection, id)
        deleted = messages.delete_some(connection, owner, id, ROWS - rows)
        rows += deleted.rows
        if not deleted.all:
            break
        conversations.remove(connection, owner, id, now, "deleted")
        gone += 1
    return gone, rows


def _forget(connection: Connection, owner: str) -> None:
    """Forget what limits and quotas have counted, and let caches see that something is gone."""
    windows.remove(connection, owner)
    holdings.remove(connection, owner)
    counters.count(connection, ERASURES)


def _remove_files(folder: Path, ids: list[UUID]) -> None:
    for job_id in ids:
        for path in folder.glob(f"{job_id}-*"):
            files.remove(path)


def belongings(database: Database, owner: str) -> Iterator[bytes]:
    """Yield what there is of an end user beside conversations, a line of JSON each, a page at a time.

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
        (map(_used, page) for page in _pages(database, usage_after, usage.Place(), usage.place_of)),
    ):
        yield b"".join(encode(one) + b"\n" for one in page if one)


def _pages(
    database: Database, read: Callable[..., list[T]], after: Any, place_of: Callable[[T], Any]
) -> Iterator[list[T]]:
    """Yield what ``read(connection, after=…)`` returns, page by page, each behind the one before."""
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
