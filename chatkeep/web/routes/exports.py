"""Routes of exports: conversations as files."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

from flask import Blueprint, Response, request

from chatkeep import errors
from chatkeep.auth.access import Scope
from chatkeep.domain.audit import Action, AuditEvent
from chatkeep.errors import FieldError, InvalidFields, Problem
from chatkeep.exports import Export, cursor_epoch, dates
from chatkeep.exports.formats import make
from chatkeep.i18n import Text, _, text_of
from chatkeep.reporting import audit
from chatkeep.store.exports import Selection
from chatkeep.web.compression import coding_of, compressed
from chatkeep.web.openapi import Routes
from chatkeep.web.requests import query_as
from chatkeep.web.responses import with_write_timeout
from chatkeep.web.schemas import exports as schemas
from chatkeep.web.services import actor, caller, owner, services

routes = Routes(Blueprint("exports", __name__))
# A client that reads less than a piece in this time is disconnected. No database connection waits for it.
WRITE_TIMEOUT_S = 60.0
WRITE_BYTES = 256 * 1024
_FILES = {
    "application/json": schemas.Export,
    "application/x-ndjson": None,
    "text/csv": None,
    "text/markdown": None,
    "application/jsonl": None,
}
_HEADERS = {"Accept-Encoding": "`zstd` or `gzip` compresses the response."}
_NAME_CHARACTERS = 80
_NOT_IN_NAMES = re.compile(r'[\\/:*?"<>|]+')
# Device names on Windows, with any suffix.
_DEVICES = re.compile(r"(CON|PRN|AUX|NUL|COM\d|LPT\d)", re.IGNORECASE)


@routes.route(
    "GET",
    "/api/conversations/<uuid:conversation_id>/export",
    tag="exports",
    scopes={Scope.EXPORT},
    query=schemas.ExportQuery,
    answers={200: None},
    files=_FILES,
    headers=_HEADERS,
    raises=(errors.NotFound, errors.InvalidFields, errors.StoreUnavailable),
)
def export_conversation(conversation_id: UUID) -> Response:
    """Export a conversation as a file.

    `json` and `ndjson` are lossless, `csv` has one row per message, `md` and `openai` (JSON lines for fine-tuning) hold
    the current branch.

    `json` and `ndjson` hold every message of the tree with all fields, and times to the microsecond. Their last line
    has the counts and the SHA-256 of every byte before it; without that line the file is incomplete. In `csv`, cells
    that a spreadsheet could run as a formula begin with `'`. In `md`, every message stands on its own, without headings
    of the first two levels. `openai` omits turns without a whole answer. Replies are marked as AI generated.
    """
    query = query_as(schemas.ExportQuery)
    form = make(query.format, bom=query.bom)
    selection = Selection(owner(), conversation_id)
    export = Export(services().database, selection, form, services().redaction)
    _note({"format": query.format, "conversation_id": conversation_id})
    return download(export, form.media_type, export.title or "", form.suffix)


@routes.route(
    "GET",
    "/api/conversations/export-all",
    tag="exports",
    scopes={Scope.EXPORT},
    query=schemas.ExportAllQuery,
    answers={200: None},
    files=_FILES,
    headers=_HEADERS,
    raises=(errors.InvalidFields, errors.StoreUnavailable),
)
def export_all() -> Response:
    """Export all conversations as a file, oldest first.

    `start_date` and `end_date` select messages by time. With `cursor` the export is incremental: changed conversations
    with their changed messages, tombstones of deleted ones, and a new cursor.

    An export is not a snapshot: it can contain messages that arrive while it runs. Without dates, the last line of
    `json` and `ndjson` has a `cursor`. To keep a copy up to date, store conversations and messages by id (the later
    version counts) and delete what has a tombstone. An increment misses nothing, however many processes write
    meanwhile. A cursor that is older than `CHATKEEP_TOMBSTONE_TTL` is refused (422): start again without one.
    """
    query = query_as(schemas.ExportAllQuery)
    form = make(query.format, bom=query.bom)
    start, end = bounds(query.start_date, query.end_date)
    since = None if query.cursor is None else cursor_epoch(services().database, query.cursor)
    export = Export(services().database, Selection(owner(), None, start, end, since), form, services().redaction)
    _note({"format": query.format, "conversation_id": None})
    return download(export, form.media_type, f"chatkeep-{datetime.now(UTC):%Y-%m-%d}", form.suffix)


def _note(what: dict[str, Any]) -> None:
    """Add an export to the audit log before its first byte is sent."""
    audit.note(services().journal, AuditEvent(actor(), Action.EXPORT_MADE, what))


def bounds(start_date: str | None, end_date: str | None) -> tuple[int | None, int | None]:
    """Return a range of time in µs since 1970, without its end. Raises `InvalidFields`."""
    start = _bound(start_date, "start_date", dates.start_us)
    end = _bound(end_date, "end_date", dates.end_us)
    if start is not None and end is not None and start >= end:
        raise wrong("end_date", _("must not be before start_date"))
    return start, end


def _bound(text: str | None, field: str, read: Callable[[str], int]) -> int | None:
    try:
        return None if text is None else read(text)
    except ValueError as error:
        raise wrong(field, text_of(error)) from error


def wrong(field: str, message: Text) -> InvalidFields:
    """Return the problem of one field."""
    return InvalidFields.of([FieldError(field, message)])


def download(chunks: Iterable[bytes], media_type: str, title: str, suffix: str) -> Response:
    """Return the response that streams a file as a download."""
    coding = coding_of(request.accept_encodings)
    response = Response(_pieces(compressed(chunks, coding)), mimetype=media_type)
    response.headers["Content-Disposition"] = disposition(title, suffix)
    response.vary.add("Accept-Encoding")
    if coding:
        response.headers["Content-Encoding"] = coding
    return while_authorized(with_write_timeout(response, WRITE_TIMEOUT_S))


def while_authorized(response: Response) -> Response:
    """Abort a download when its caller's key is revoked or expires; return the response."""
    ended: list[Problem] = []
    leave = services().access.on_revoked(caller(), ended.append, until=caller().until)
    response.response = _until_revoked(response.iter_encoded(), ended)
    response.call_on_close(leave)
    return response


def _until_revoked(pieces: Iterable[bytes], ended: list[Problem]) -> Iterator[bytes]:
    for piece in pieces:
        if ended:
            raise ended[0]  # a normal end would make the file look complete
        yield piece


def _pieces(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the chunks in pieces that a slow client can read within the timeout."""
    for chunk in chunks:
        for start in range(0, len(chunk), WRITE_BYTES):
            yield chunk[start : start + WRITE_BYTES]


def disposition(title: str, suffix: str) -> str:
    """Return the Content-Disposition header: the name in ASCII, and in UTF-8 (RFC 8187)."""
    name = file_name(title)
    plain = file_name(name.encode("ascii", "ignore").decode())
    return f"attachment; filename=\"{plain}.{suffix}\"; filename*=UTF-8''{quote(name, safe='')}.{suffix}"


def file_name(title: str) -> str:
    """Return a title as a file name that is valid on every file system."""
    visible = "".join(" " if unicodedata.category(sign)[0] in "CZ" else sign for sign in title)
    name = " ".join(_NOT_IN_NAMES.sub(" ", visible).split())[:_NAME_CHARACTERS].strip(". ")
    return f"_{name}" if _DEVICES.fullmatch(name.partition(".")[0].strip()) else name or "conversation"
