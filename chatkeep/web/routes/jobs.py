"""Routes of export jobs, which write exports to files in the background."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from flask import Blueprint, Response, request

from chatkeep import errors
from chatkeep.auth.access import Scope
from chatkeep.domain.audit import Action, AuditEvent
from chatkeep.errors import PreconditionFailed, RangeNotSatisfiable
from chatkeep.exports import check_selection, cursor_epoch, jobs
from chatkeep.exports.formats import make
from chatkeep.exports.jobs import ExportSpec, spec_of
from chatkeep.i18n import _
from chatkeep.reporting import audit
from chatkeep.runtime.concurrency import FILES
from chatkeep.store.exports import Selection
from chatkeep.store.jobs import Job
from chatkeep.web import problems
from chatkeep.web.openapi import Routes
from chatkeep.web.requests import body_as, query_as
from chatkeep.web.responses import RawResponse, rendered, with_write_timeout
from chatkeep.web.routes.exports import WRITE_BYTES, WRITE_TIMEOUT_S, bounds, disposition, while_authorized
from chatkeep.web.schemas import exports
from chatkeep.web.schemas import jobs as schemas
from chatkeep.web.schemas.common import Deleted, PageQuery
from chatkeep.web.services import actor, owner, services

routes = Routes(Blueprint("jobs", __name__))
_ONE = "/api/exports/<uuid:export_id>"
_COMPRESSED = {"gzip": "application/gzip", "zstd": "application/zstd"}
_FILES = {
    "application/json": exports.Export,
    **dict.fromkeys(["application/x-ndjson", "text/csv", "text/markdown", "application/jsonl", *_COMPRESSED.values()]),
}


@routes.route(
    "POST",
    "/api/exports",
    tag="exports",
    scopes={Scope.EXPORT},
    body=schemas.ExportJobRequest,
    answers={202: schemas.ExportJob},
    raises=(
        errors.NotFound,
        errors.InvalidFields,
        errors.StoreUnavailable,
        errors.TooManyExports,
        errors.QuotaExceeded,
        errors.BodyTooLarge,
        errors.MalformedJson,
        errors.UnsupportedMediaType,
    ),
    examples={
        "everything": {"format": "ndjson", "compression": "zstd"},
        "a month": {"format": "csv", "start_date": "2026-11-01", "end_date": "2026-11-30"},
    },
)
def create_export() -> Response:
    """Start an export job, which writes a file to download later.

    `Location` names the job; poll it until its `status` is `completed`. The file is kept for `CHATKEEP_EXPORT_TTL`, a
    day by default.

    A job survives restarts and crashes of the server. The file has the same content as the streamed export. With the
    `cursor` of an earlier full export in `json` or `ndjson` the export is incremental.
    """
    body = body_as(schemas.ExportJobRequest)
    _require_exportable(body)
    wanted = ExportSpec(
        format=body.format,
        compression=body.compression,
        conversation_id=body.conversation_id,
        start_date=body.start_date,
        end_date=body.end_date,
        since=body.cursor,
        bom=body.bom,
    )
    quota = services().settings.quota_export_bytes
    job = jobs.enqueue(services().journal, owner(), wanted, services().redaction, actor(), quota=quota)
    response = rendered(schemas.job_of(job), 202)
    response.headers["Location"] = f"{request.script_root}/api/exports/{job.id}"
    return response


def _require_exportable(body: schemas.ExportJobRequest) -> None:
    """Raise `InvalidFields` if the same streamed export would be refused."""
    start, end = bounds(body.start_date, body.end_date)
    since = None if body.cursor is None else cursor_epoch(services().database, body.cursor)
    check_selection(Selection(owner(), body.conversation_id, start, end, since), make(body.format))


@routes.route(
    "GET",
    "/api/exports",
    tag="exports",
    scopes={Scope.EXPORT},
    query=PageQuery,
    answers={200: schemas.ExportJobList},
    raises=(errors.InvalidFields, errors.StoreUnavailable),
)
def list_exports() -> Response:
    """List export jobs."""
    query = query_as(PageQuery)
    found, has_more = jobs.list_jobs(services().database, owner(), query.limit, query.after, ascending=query.ascending)
    return rendered(schemas.jobs_of(found, has_more=has_more))


@routes.route(
    "GET",
    _ONE,
    tag="exports",
    scopes={Scope.EXPORT},
    answers={200: schemas.ExportJob},
    raises=(errors.NotFound, errors.StoreUnavailable),
)
def read_export(export_id: UUID) -> Response:
    """Get an export job, with its progress."""
    return rendered(schemas.job_of(jobs.read_job(services().database, owner(), export_id)))


@routes.route(
    "POST",
    f"{_ONE}/cancel",
    tag="exports",
    scopes={Scope.EXPORT},
    answers={200: schemas.ExportJob},
    raises=(errors.NotFound, errors.ExportFinished, errors.StoreUnavailable),
)
def cancel_export(export_id: UUID) -> Response:
    """Cancel an export job. Cancelling it again has no effect."""
    ttl = services().settings.export_ttl
    return rendered(schemas.job_of(jobs.cancel_job(services().journal, owner(), export_id, ttl)))


@routes.route(
    "DELETE",
    _ONE,
    tag="exports",
    scopes={Scope.EXPORT},
    answers={200: Deleted},
    raises=(errors.NotFound, errors.StoreUnavailable),
)
def delete_export(export_id: UUID) -> Response:
    """Delete an export job and its file, whatever its status."""
    jobs.delete_job(services().journal, _folder(), owner(), export_id, actor())
    return rendered(Deleted(export_id))


@routes.route(
    "GET",
    f"{_ONE}/content",
    tag="exports",
    scopes={Scope.EXPORT},
    answers={200: None, 206: None},
    files=_FILES,
    headers={
        "If-Match": "Answer 412 unless the file has this `ETag`.",
        "If-None-Match": "Answer 304 if the file still has this `ETag`.",
        "Range": "One byte range: `bytes=1000-` resumes a download.",
        "If-Range": "Send the whole file unless it has this `ETag`.",
    },
    raises=(
        errors.NotFound,
        errors.ExportNotReady,
        errors.PreconditionFailed,
        errors.RangeNotSatisfiable,
        errors.ExportFileMissing,
        errors.StoreUnavailable,
    ),
)
def download_export(export_id: UUID) -> Response:
    """Download the file of a completed export job, or a range of it.

    `ETag` is the file's SHA-256 in hexadecimal, `Repr-Digest` the same (RFC 9530). A compressed file has no
    `Content-Encoding`.
    """
    job = jobs.read_job(services().database, owner(), export_id)
    file = jobs.open_file(_folder(), job)
    etag = (job.sha256 or b"").hex()
    # RFC 9110, section 13.2.2: before ranges, and in this order.
    if request.if_match and etag not in request.if_match:
        file.close()
        raise PreconditionFailed
    if request.if_none_match.contains_weak(etag):
        file.close()
        return RawResponse((), 304, [("ETag", f'"{etag}"')])
    audit.note(services().journal, AuditEvent(actor(), Action.EXPORT_FETCHED, {"export_id": export_id}))
    try:
        return _download(file, job)
    except RangeNotSatisfiable as problem:
        file.close()
        response = problems.respond(problem)
        response.headers["Content-Range"] = f"bytes */{job.size}"
        return response


def _download(file: BinaryIO, job: Job) -> Response:
    """Return the response with the requested range of a job's file."""
    sha256, wanted = job.sha256 or b"", spec_of(job)
    etag = f'"{sha256.hex()}"'
    asked = _range(job.size, etag)
    response = _part(file, *(asked or (0, job.size)))
    if asked is not None:
        response.status_code = 206
        response.headers["Content-Range"] = f"bytes {asked[0]}-{asked[1] - 1}/{job.size}"
    response.mimetype = _COMPRESSED.get(wanted.compression) or make(wanted.format).media_type
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["ETag"] = etag
    response.headers["Repr-Digest"] = f"sha-256=:{base64.b64encode(sha256).decode()}:"
    response.headers["Content-Disposition"] = disposition(wanted.name, wanted.suffix)
    return while_authorized(with_write_timeout(response, WRITE_TIMEOUT_S))


def _folder() -> Path:
    return services().settings.exports_dir


def _range(size: int, etag: str) -> tuple[int, int] | None:
    """Return the requested range of the file, None for the whole file.

    Several ranges, other units than bytes and an If-Range of another file get the whole file (RFC 9110 §14.2).
    Raises `RangeNotSatisfiable`.
    """
    asked = request.range
    if asked is None or asked.units != "bytes" or len(asked.ranges) != 1:
        return None
    if request.headers.get("If-Range", etag) != etag:
        return None
    found: tuple[int, int] | None = asked.range_for_length(size)
    if found is None:
        raise RangeNotSatisfiable(_("The file has {bytes} bytes.", bytes=size))
    return found


def _part(file: BinaryIO, start: int, stop: int) -> Response:
    """Return the response with the bytes from ``start`` to before ``stop``; it closes the file."""
    file.seek(start)
    response = Response(_pieces(file, stop - start))
    response.headers["Content-Length"] = str(stop - start)
    response.call_on_close(file.close)
    return response


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield ``size`` bytes, read outside the event loop. A truncated file yields fewer, which aborts the download."""
    while size and (piece := FILES.run(file.read, min(size, WRITE_BYTES))):
        size -= len(piece)
        yield piece
