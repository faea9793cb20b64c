"""The JSON of export jobs."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from chatkeep.exports import jobs
from chatkeep.exports.jobs import spec_of
from chatkeep.store.jobs import NEVER, Job, JobStatus
from chatkeep.web.schemas.chat import AfterCreated, Id, Limit, Moment, Time, time_text
from chatkeep.web.schemas.exports import Cursor, ExportFormat

Compression = Annotated[
    jobs.Compression, Meta(description="How the file is compressed; its size and hash are as it lies.")
]


class ExportJobRequest(Struct, forbid_unknown_fields=True):
    """What to export, and how."""

    format: ExportFormat = "json"
    compression: Compression = "none"
    conversation_id: Annotated[Id, Meta(description="The only conversation to export.")] | None = None
    start_date: Moment | None = None
    end_date: Moment | None = None
    cursor: Cursor | None = None
    bom: Annotated[bool, Meta(description="Begin a csv with a byte order mark, for Excel.")] = False


class ExportJobsQuery(Struct, forbid_unknown_fields=True):
    """Which exports to list."""

    limit: Limit = 20
    after: AfterCreated | None = None
    order: Annotated[Literal["asc", "desc"], Meta(description="By creation; desc is newest first.")] = "desc"


class ExportProgress(Struct):
    """What is written so far."""

    conversations: int
    messages: int
    total_conversations: Annotated[
        int | None, Meta(description="How many there are, about; null where only the export itself can tell.")
    ]


class ExportJob(Struct, kw_only=True):
    """An export that is made into a file."""

    object: Literal["export_job"] = "export_job"
    id: Id
    status: JobStatus
    format: ExportFormat
    compression: Compression
    conversation_id: Id | None
    start_date: Moment | None
    end_date: Moment | None
    since: Cursor | None
    bom: bool
    progress: ExportProgress
    size: Annotated[int | None, Meta(description="Bytes of the file, once it is complete.")]
    sha256: Annotated[str | None, Meta(description="The SHA-256 of the file, in hexadecimal.")]
    cursor: Annotated[str | None, Meta(description="With what the next increment begins.")]
    error: Annotated[str | None, Meta(description="The code of what made it fail.")]
    attempts: Annotated[int, Meta(description="How often it was begun; a killed server's exports are made anew.")]
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    expires_at: Annotated[Time | None, Meta(description="When it is deleted with its file; null while it is made.")]


class ExportJobList(Struct, kw_only=True):
    """A page of exports."""

    object: Literal["list"] = "list"
    data: list[ExportJob]
    first_id: Id | None
    last_id: Id | None
    has_more: bool


def job_of(job: Job) -> ExportJob:
    """Return the shape of a job."""
    wanted = spec_of(job)
    return ExportJob(
        id=job.id,
        status=job.status,
        format=wanted.format,
        compression=wanted.compression,
        conversation_id=wanted.conversation_id,
        start_date=wanted.start_date,
        end_date=wanted.end_date,
        since=wanted.since,
        bom=wanted.bom,
        progress=ExportProgress(job.conversations, job.messages, job.total),
        size=job.size if job.status is JobStatus.COMPLETED else None,
        sha256=job.sha256.hex() if job.sha256 else None,
        cursor=job.cursor,
        error=job.error,
        attempts=job.attempts,
        created_at=time_text(job.created_at),
        started_at=_time(job.started_at),
        finished_at=_time(job.finished_at),
        expires_at=None if job.expires_at == NEVER else time_text(job.expires_at),
    )


def jobs_of(found: list[Job], *, has_more: bool) -> ExportJobList:
    """Return the shape of a page of jobs."""
    first, last = (found[0].id, found[-1].id) if found else (None, None)
    return ExportJobList(data=[job_of(job) for job in found], first_id=first, last_id=last, has_more=has_more)


def _time(at: int | None) -> str | None:
    return None if at is None else time_text(at)
