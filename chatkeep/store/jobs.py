"""The table ``export_jobs``: exports into files, made by any process that claims them.

A process can change a job only while it holds it. Every such statement checks the worker's id and the attempt, so if
two processes believe that they hold a job, one of them fails.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any
from uuid import UUID

from chatkeep.domain.conversation import id_of
from chatkeep.store.sql import Connection, Sql, in_list, quoted


class JobStatus(StrEnum):
    """Where a job stands; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


# The expiry of an unfinished job.
NEVER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Job:
    """A row. Times are µs since 1970 in UTC; ``request`` is JSON."""

    id: UUID
    owner: str
    request: str
    created_at: int
    status: JobStatus = JobStatus.QUEUED
    worker_id: UUID | None = None
    attempts: int = 0
    started_at: int | None = None
    finished_at: int | None = None
    expires_at: int = NEVER
    total: int | None = None
    """Estimated number of conversations to export."""
    conversations: int = 0
    messages: int = 0
    size: int = 0
    """Bytes written so far."""
    sha256: bytes | None = None
    cursor: str | None = None
    error: str | None = None


_NAMES = [item.name for item in fields(Job)]
_CHANGING = _NAMES[_NAMES.index("status") :]
_COLUMNS = quoted(_NAMES)
_SET = ", ".join(f"`{name}` = :{name}" for name in _CHANGING)
_ABANDONED = "status = 'running' AND (worker_id = :me OR worker_id NOT IN (SELECT id FROM workers))"
_HELD = "worker_id = :held_by AND attempts = :held_attempts AND status = 'running'"
_OWN = "owner = :owner AND expires_at > :now"
_UNFINISHED = "status IN ('queued', 'running')"
_INSERT = Sql(
    f"INSERT INTO export_jobs ({_COLUMNS}) VALUES ({', '.join(f':{name}' for name in _NAMES)})"  # noqa: S608 - fixed parts, as below
)
_GET = Sql(f"SELECT {_COLUMNS} FROM export_jobs WHERE id = :id AND {_OWN}")  # noqa: S608
_COUNT = Sql(f"SELECT COUNT(*) FROM export_jobs WHERE owner = :owner AND {_UNFINISHED}")  # noqa: S608
_SIZES = "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM export_jobs{} WHERE owner = :owner AND id <> :but"
_ROOM = Sql(_SIZES.format(""), mysql=_SIZES.format(" FORCE INDEX (ix_export_jobs_owner)"))
_OLDEST_QUEUED = Sql(f"SELECT {_COLUMNS} FROM export_jobs WHERE status = 'queued' ORDER BY id LIMIT 1")  # noqa: S608
_OLDEST_ABANDONED = Sql(f"SELECT {_COLUMNS} FROM export_jobs WHERE {_ABANDONED} ORDER BY id LIMIT 1")  # noqa: S608
_CLAIM = Sql(
    f"UPDATE export_jobs SET {_SET}"  # noqa: S608
    f" WHERE id = :id AND attempts = :held_attempts AND (status = 'queued' OR {_ABANDONED})"
)
_UPDATE = Sql(f"UPDATE export_jobs SET {_SET} WHERE id = :id AND {_HELD}")  # noqa: S608
_IS = Sql(
    "SELECT 1 FROM export_jobs WHERE id = :id AND worker_id = :worker_id AND attempts = :attempts AND status = :status"
)
_CANCEL = Sql(
    "UPDATE export_jobs SET status = 'cancelled', finished_at = :now, expires_at = :expires_at"  # noqa: S608
    f" WHERE id = :id AND owner = :owner AND {_UNFINISHED}"
)
_DELETE = Sql("DELETE FROM export_jobs WHERE id = :id AND owner = :owner")
_OF_OWNER = Sql(
    f"SELECT {_COLUMNS} FROM export_jobs WHERE owner = :owner AND id > :after ORDER BY id LIMIT :limit"  # noqa: S608
)
_EXPIRE = Sql(
    "DELETE FROM export_jobs WHERE id IN (SELECT id FROM export_jobs WHERE expires_at <= :now LIMIT :limit)",
    # MySQL allows LIMIT in DELETE, but not in a subquery.
    mysql="DELETE FROM export_jobs WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit",
)


def insert(connection: Connection, job: Job) -> None:
    """Insert a job."""
    connection.change(_INSERT, **_values(job))


def get(connection: Connection, owner: str, id: UUID, now: int) -> Job | None:
    """Return an owner's job that has not expired."""
    rows = connection.rows(_GET, id=id.bytes, owner=owner, now=now)
    return _job(rows[0]) if rows else None


def newest(
    connection: Connection, owner: str, now: int, *, limit: int, after: UUID | None, ascending: bool
) -> list[Job]:
    """Return jobs by creation, which is by id, after ``after``, which need not exist."""
    direction, beyond = ("ASC", ">") if ascending else ("DESC", "<")
    where, values = (f"{_OWN} AND id {beyond} :id", {"id": after.bytes}) if after else (_OWN, {})
    listed = Sql(f"SELECT {_COLUMNS} FROM export_jobs WHERE {where} ORDER BY id {direction} LIMIT :limit")  # noqa: S608
    return [_job(row) for row in connection.rows(listed, owner=owner, now=now, limit=limit, **values)]


def unfinished(connection: Connection, owner: str) -> int:
    """Return how many of an owner's jobs are queued or running."""
    return int(connection.rows(_COUNT, owner=owner)[0][0])


def room(connection: Connection, owner: str, but: UUID) -> tuple[int, int]:
    """Return how many other jobs an owner has, and the bytes of their files."""
    [(count, size)] = connection.rows(_ROOM, owner=owner, but=but.bytes)
    return int(count), int(size)


def claimable(connection: Connection, worker_id: UUID) -> Job | None:
    """Return the oldest job that no process makes: one whose process is gone, else one that is queued.

    The calling process makes none now, so a job that names it was lost by it.
    """
    rows = connection.rows(_OLDEST_ABANDONED, me=worker_id.bytes) or connection.rows(_OLDEST_QUEUED)
    return _job(rows[0]) if rows else None


def claim(connection: Connection, found: Job, taken: Job, worker_id: UUID) -> bool:
    """Change a job to ``taken``. Return False if another process was faster, or its process is alive after all."""
    held = {"held_attempts": found.attempts, "me": worker_id.bytes}
    return connection.change(_CLAIM, id=found.id.bytes, **held, **_changing(taken)) == 1


def update(connection: Connection, held: Job, became: Job) -> bool:
    """Update a job that this process holds. Return False if it has lost it.

    Idempotent, so it can be repeated after an unknown outcome.
    """
    values = {"held_by": held.worker_id.bytes if held.worker_id else None, "held_attempts": held.attempts}
    if connection.change(_UPDATE, id=held.id.bytes, **values, **_changing(became)) == 1:
        return True
    known = {name: _values(became)[name] for name in ("id", "worker_id", "attempts", "status")}
    return bool(connection.rows(_IS, **known))


def cancel(connection: Connection, owner: str, id: UUID, now: int, expires_at: int) -> bool:
    """Cancel an owner's job. Return False if it is finished or does not exist."""
    return connection.change(_CANCEL, id=id.bytes, owner=owner, now=now, expires_at=expires_at) == 1


def delete(connection: Connection, owner: str, id: UUID) -> None:
    """Delete an owner's job."""
    connection.change(_DELETE, id=id.bytes, owner=owner)


def of_owner(connection: Connection, owner: str, after: bytes, limit: int) -> list[Job]:
    """Return up to ``limit`` jobs of an owner after the id ``after``, expired or not."""
    return [_job(row) for row in connection.rows(_OF_OWNER, owner=owner, after=after, limit=limit)]


def remove(connection: Connection, owner: str, limit: int) -> list[Job]:
    """Delete up to ``limit`` jobs of an owner. Return them."""
    found = of_owner(connection, owner, b"", limit)
    for job in found:  # by id: for an owner with many jobs, MySQL would read and lock the whole table
        delete(connection, owner, job.id)
    return found


def expire(connection: Connection, now: int, limit: int) -> int:
    """Delete up to ``limit`` expired jobs. Return how many."""
    return connection.change(_EXPIRE, now=now, limit=limit)


def with_files(connection: Connection, ids: list[UUID]) -> set[tuple[UUID, int]]:
    """Return the id and attempt of those jobs that have a file, or are writing one."""
    places, values = in_list("id", [known.bytes for known in ids])
    alive = f"id IN ({places}) AND status IN ('running', 'completed')"
    rows = connection.rows(Sql(f"SELECT id, attempts FROM export_jobs WHERE {alive}"), **values)  # noqa: S608
    return {(id_of(known), attempts) for known, attempts in rows}


def _values(job: Job) -> dict[str, Any]:
    values = {name: getattr(job, name) for name in _NAMES}
    return {name: value.bytes if isinstance(value, UUID) else value for name, value in values.items()}


def _changing(job: Job) -> dict[str, Any]:
    return {name: value for name, value in _values(job).items() if name in _CHANGING}


def _job(row: tuple[Any, ...]) -> Job:
    """Convert a row of `_COLUMNS`."""
    values = dict(zip(_NAMES, row, strict=True))
    values |= {"id": id_of(values["id"]), "status": JobStatus(values["status"])}
    values["worker_id"] = id_of(values["worker_id"]) if values["worker_id"] else None
    return Job(**values)
