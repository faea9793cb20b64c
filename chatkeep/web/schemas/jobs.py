"""The JSON of export jobs."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from chatkeep.exports import jobs
from chatkeep.exports.jobs import spec_of
from chatkeep.store.jobs import NEVER, Job, JobStatus
from chatkeep.web.schemas.common import Id, Moment, Page, Time, page_of, time_or_none, time_text
from chatkeep.web.schemas.exports import Cursor, ExportFormat

Compression = Annotated[jobs.Compression, Meta(description="The file's compression.")]


class ExportJobRequest(Struct, forbid_unknown_fields=True):
    """Which conversations to export, and how."""

    format: ExportFormat = "json"
    compression: Compression = "none"
    conversation_id: Annotated[Id, Meta(description="Export only this conversation.")] | None = None
    start_date: Moment | None = None
    end_date: Moment | None = None
    cursor: Cursor | None = None
    bom: Annotated[bool, Meta(description="Begin a `csv` with a byte order mark, for Excel.")] = False


class ExportProgress(Struct):
    """What was written so far."""

    conversations: int
    messages: int
    total_conversations: Annotated[
        int | None, Meta(description="An estimate; `null` for incremental exports and date ranges.")
    ]


class ExportJob(Struct, kw_only=True):
    """An export job."""

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
    size: Annotated[int | None, Meta(description="The file's size in bytes, once completed.")]
    sha256: Annotated[str | None, Meta(description="The file's SHA-256 in hexadecimal.")]
    cursor: Annotated[str | None, Meta(description="The `cursor` for the next incremental export.")]
    error: Annotated[str | None, Meta(description="The code of the error that ended the job.")]
    attempts: Annotated[int, Meta(description="How many times the job was started; a crash restarts it.")]
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    expires_at: Annotated[Time | None, Meta(description="When the job and its file are deleted; `null` until it ends.")]


class ExportJobList(Page[ExportJob, Id], kw_only=True):
    """A page of export jobs."""


def job_of(job: Job) -> ExportJob:
    """Return the JSON of a job."""
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
        started_at=time_or_none(job.started_at),
        finished_at=time_or_none(job.finished_at),
        expires_at=None if job.expires_at == NEVER else time_text(job.expires_at),
    )


def jobs_of(found: list[Job], *, has_more: bool) -> ExportJobList:
    """Return the JSON of a page of jobs."""
    return page_of(ExportJobList, [job_of(job) for job in found], has_more=has_more)
