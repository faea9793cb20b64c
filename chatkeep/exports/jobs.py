"""Export jobs: create, list, cancel, delete and download exports that are made in the background."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Literal
from uuid import UUID

import msgspec

from chatkeep.domain.audit import COMMAND_LINE, Action, Actor, AuditEvent
from chatkeep.domain.conversation import moment, new_id, now_us
from chatkeep.errors import (
    NO_CONVERSATION,
    NO_EXPORT,
    ExportFileMissing,
    ExportFinished,
    ExportNotReady,
    NotFound,
    QuotaExceeded,
    TooManyExports,
)
from chatkeep.exports import files
from chatkeep.exports.formats import make
from chatkeep.exports.redaction import RowRedactor
from chatkeep.i18n import _
from chatkeep.redaction.policies import OFF, Redaction
from chatkeep.runtime.concurrency import FILES
from chatkeep.store import conversations, jobs
from chatkeep.store.engine import Database
from chatkeep.store.jobs import Job, JobStatus
from chatkeep.store.journal import Journal
from chatkeep.store.sql import Connection
from chatkeep.store.transaction import Transaction

# The most unfinished jobs of an owner. Concurrent requests to several processes may exceed it by one each.
UNFINISHED = 10
# The most jobs of an owner in all.
KEPT = 1_000
_SUFFIXES = {"none": "", "gzip": ".gz", "zstd": ".zst"}
_NO_FILE = {
    JobStatus.QUEUED: _("The export is queued. Poll until its status is completed."),
    JobStatus.RUNNING: _("The export is running. Poll until its status is completed."),
    JobStatus.FAILED: _("The export failed; see its error. Create a new export."),
    JobStatus.CANCELLED: _("The export was cancelled. Create a new export."),
}


FormatName = Literal["json", "csv", "ndjson", "md", "openai"]
Compression = Literal["none", "gzip", "zstd"]


class ExportSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """The request of an export job. ``name`` is the download's; dates are as the caller wrote them."""

    format: FormatName
    compression: Compression = "none"
    conversation_id: UUID | None = None
    start_date: str | None = None
    end_date: str | None = None
    since: str | None = None
    """The cursor of the export whose increment this is."""
    bom: bool = False
    name: str = ""

    @property
    def suffix(self) -> str:
        """The file name's suffix, without the dot."""
        return make(self.format).suffix + _SUFFIXES[self.compression]


def spec_of(job: Job) -> ExportSpec:
    """Return a job's request."""
    return msgspec.json.decode(job.request, type=ExportSpec)


def enqueue(
    journal: Journal,
    owner: str,
    wanted: ExportSpec,
    redaction: Redaction = OFF,
    by: Actor = COMMAND_LINE,
    *,
    quota: int | None = None,
) -> Job:
    """Enqueue a job. ``quota`` is the most bytes of the owner's files.

    Raises `NotFound`, `TooManyExports`, `QuotaExceeded`, `StoreUnavailable`.
    """
    now = now_us()
    job_id = new_id(now)

    def write(connection: Transaction) -> Job:
        if jobs.unfinished(connection, owner) >= UNFINISHED:
            words = _("{count} exports are unfinished. Wait until one finishes, or cancel one.", count=UNFINISHED)
            raise TooManyExports(words, retry_after=10)
        require_room(connection, owner, job_id, 1, quota)
        named = msgspec.structs.replace(wanted, name=_name(connection, owner, wanted, now, redaction))
        job = Job(job_id, owner, msgspec.json.encode(named).decode(), now)
        jobs.insert(connection, job)
        what = {"export_id": job_id, "format": wanted.format, "conversation_id": wanted.conversation_id}
        connection.events.append(AuditEvent(by, Action.EXPORT_MADE, what))
        return job

    return journal.write(write)


def require_room(connection: Connection, owner: str, job_id: UUID, size: int, quota: int | None) -> None:
    """Raise `QuotaExceeded` if a file of ``size`` bytes does not fit beside the owner's other files."""
    count, others = jobs.room(connection, owner, job_id)
    if count >= KEPT:
        raise QuotaExceeded(
            _("There are already {count} exports. Delete some, or wait until some expire.", count=count)
        )
    if quota is not None and others + size > quota:
        raise QuotaExceeded(
            _(
                "Export files take {bytes} of {quota} bytes. Delete exports, or wait until some expire.",
                bytes=others,
                quota=quota,
            )
        )


def _name(connection: Connection, owner: str, wanted: ExportSpec, now: int, redaction: Redaction) -> str:
    if wanted.conversation_id is None:
        return f"chatkeep-{moment(now):%Y-%m-%d}"
    found = conversations.get(connection, owner, wanted.conversation_id, now)
    if found is None:
        raise NotFound(NO_CONVERSATION)
    return RowRedactor(redaction.export, records=False).text(found.title) if redaction.export else found.title


def list_jobs(
    database: Database, owner: str, limit: int, after: UUID | None, *, ascending: bool
) -> tuple[list[Job], bool]:
    """Return a page of an owner's jobs by creation, and whether more follow. Raises `StoreUnavailable`."""
    now = now_us()
    found = database.read(
        lambda connection: jobs.newest(connection, owner, now, limit=limit + 1, after=after, ascending=ascending)
    )
    return found[:limit], len(found) > limit


def read_job(database: Database, owner: str, id: UUID) -> Job:
    """Return an owner's job. Raises `NotFound`, `StoreUnavailable`."""
    now = now_us()
    return _found(database.read(lambda connection: jobs.get(connection, owner, id, now)))


def _found(job: Job | None) -> Job:
    if job is None:
        raise NotFound(NO_EXPORT)
    return job


def cancel_job(journal: Journal, owner: str, id: UUID, ttl: float) -> Job:
    """Cancel an unfinished job, and return it. Its worker removes the file with the next page.

    Raises `NotFound`, `ExportFinished`, `StoreUnavailable`.
    """
    now = now_us()

    def write(connection: Connection) -> Job:
        jobs.cancel(connection, owner, id, now, expires_at(now, ttl))
        job = _found(jobs.get(connection, owner, id, now))
        if job.status is not JobStatus.CANCELLED:
            raise ExportFinished(_("The export is already {status}. Send DELETE to remove it.", status=job.status))
        return job

    return journal.write(write)


def delete_job(journal: Journal, folder: Path, owner: str, id: UUID, by: Actor = COMMAND_LINE) -> None:
    """Delete a job and its file. Raises `NotFound`, `StoreUnavailable`."""

    def write(connection: Transaction) -> Job:
        job = _found(jobs.get(connection, owner, id, now_us()))
        jobs.delete(connection, owner, id)
        connection.events.append(AuditEvent(by, Action.EXPORT_DELETED, {"export_id": id}))
        return job

    FILES.run(files.remove, path_of(folder, journal.write(write)))


def open_file(folder: Path, job: Job) -> BinaryIO:
    """Open the file of a job. Raises `ExportNotReady`, `ExportFileMissing`."""
    if job.status is not JobStatus.COMPLETED:
        waits = 1 if job.status in {JobStatus.QUEUED, JobStatus.RUNNING} else None
        raise ExportNotReady(_NO_FILE[job.status], retry_after=waits)
    try:
        return path_of(folder, job).open("rb")
    except FileNotFoundError as error:
        words = _("The file is on another host. All hosts must share the folder CHATKEEP_DATA_DIR.")
        raise ExportFileMissing(words, retry_after=60) from error


def path_of(folder: Path, job: Job) -> Path:
    """Return the path of a job's current attempt."""
    return folder / f"{job.id}-{job.attempts}.{spec_of(job).suffix}"


def expires_at(now: int, ttl: float) -> int:
    """Return when a job that ends now expires."""
    return now + int(ttl * 1_000_000)
