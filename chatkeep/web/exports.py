"""Routes of exports: conversations as files."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from urllib.parse import quote
from uuid import UUID

from flask import Blueprint, Response, request

from chatkeep import errors
from chatkeep.errors import FieldError, InvalidFields
from chatkeep.exports import Export, dates
from chatkeep.exports.formats import Format, make
from chatkeep.store.exports import Scope
from chatkeep.web import shapes
from chatkeep.web.compression import coding_of, compressed
from chatkeep.web.openapi import Routes
from chatkeep.web.parts import owner, parts
from chatkeep.web.requests import query_as

routes = Routes(Blueprint("exports", __name__))
# A client that takes less than a piece in this time is let go. No connection to the database waits for it.
WRITE_TIMEOUT_S = 60.0
WRITE_BYTES = 256 * 1024
_FILES = {
    "application/json": shapes.Export,
    "application/x-ndjson": None,
    "text/csv": None,
    "text/markdown": None,
    "application/jsonl": None,
}
_HEADERS = {"Accept-Encoding": "`zstd` or `gzip` compress the file on its way."}
_NAME_CHARACTERS = 80
_NOT_IN_NAMES = re.compile(r'[\\/:*?"<>|]+')
# Names that Windows keeps for devices, whatever their suffix.
_DEVICES = re.compile(r"(CON|PRN|AUX|NUL|COM\d|LPT\d)", re.IGNORECASE)


@routes.route(
    "GET",
    "/api/conversations/<uuid:conversation_id>/export",
    tag="exports",
    query=shapes.ExportQuery,
    answers={200: None},
    files=_FILES,
    headers=_HEADERS,
    raises=(errors.NotFound, errors.InvalidFields, errors.StoreUnavailable),
)
def export_conversation(conversation_id: UUID) -> Response:
    """Export a conversation as a file.

    `json` and `ndjson` lose nothing: every message of the tree with all its fields, and times to the microsecond; the
    last line tells how much there is and the SHA-256 of every byte before that line. `csv` has a row for each message;
    a cell that a spreadsheet could run as a formula gets a `'` in front. `md` and `openai` (JSON lines for fine-tuning)
    hold the current branch, `openai` only turns whose reply is complete. Replies are marked as AI generated, in
    `openai` by their role alone. The file is written while it is read: without the last line of `json` and `ndjson`,
    or where the connection breaks, it is not whole.
    """
    query = query_as(shapes.ExportQuery)
    form = make(query.format, bom=query.bom)
    scope = Scope(owner(), conversation_id)
    export = Export(parts().database, scope, form)
    return _file(export, form, export.title or "")


@routes.route(
    "GET",
    "/api/conversations/export-all",
    tag="exports",
    query=shapes.ExportAllQuery,
    answers={200: None},
    files=_FILES,
    headers=_HEADERS,
    raises=(errors.InvalidFields, errors.StoreUnavailable),
)
def export_all() -> Response:
    """Export all conversations as a file.

    Conversations come in the order in which they were created, their messages by time. With `start_date` or `end_date`
    only messages whose time lies in the range are exported, and conversations that have any. Both ends are inclusive;
    a date is that day in UTC. The formats are those of a single conversation's export. The file is no picture of one
    moment: what is said meanwhile may be in it.
    """
    query = query_as(shapes.ExportAllQuery)
    form = make(query.format, bom=query.bom)
    start = _bound(query.start_date, "start_date", dates.start_us)
    end = _bound(query.end_date, "end_date", dates.end_us)
    if start is not None and end is not None and start >= end:
        raise _wrong("end_date", "lies before start_date")
    export = Export(parts().database, Scope(owner(), None, start, end), form)
    return _file(export, form, f"chatkeep-{datetime.now(UTC):%Y-%m-%d}")


def _bound(text: str | None, field: str, read: Callable[[str], int]) -> int | None:
    try:
        return None if text is None else read(text)
    except ValueError as error:
        raise _wrong(field, str(error)) from error


def _wrong(field: str, message: str) -> InvalidFields:
    return InvalidFields(f"{field}: {message}.", errors=[FieldError(field, message)])


def _file(export: Export, form: Format, title: str) -> Response:
    """Return the response that streams an export as a download."""
    coding = coding_of(request.accept_encodings)
    response = Response(_pieces(compressed(export, coding)), mimetype=form.media_type)
    response.headers["Content-Disposition"] = disposition(title, form.suffix)
    response.vary.add("Accept-Encoding")
    if coding:
        response.headers["Content-Encoding"] = coding
    sock = request.environ.get("gunicorn.socket")
    if sock is not None:
        sock.settimeout(WRITE_TIMEOUT_S)
        response.call_on_close(lambda: sock.settimeout(None))
    return response


def _pieces(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the chunks in pieces that also a slow client takes within the timeout."""
    for chunk in chunks:
        for start in range(0, len(chunk), WRITE_BYTES):
            yield chunk[start : start + WRITE_BYTES]


def disposition(title: str, suffix: str) -> str:
    """Return the header that names a download: for everybody in ASCII, and as it is for those who know RFC 8187."""
    name = file_name(title)
    plain = file_name(name.encode("ascii", "ignore").decode())
    return f"attachment; filename=\"{plain}.{suffix}\"; filename*=UTF-8''{quote(name, safe='')}.{suffix}"


def file_name(title: str) -> str:
    """Return a title as a name that every file system takes, and that leads into no other folder."""
    visible = "".join(" " if unicodedata.category(sign)[0] in "CZ" else sign for sign in title)
    name = " ".join(_NOT_IN_NAMES.sub(" ", visible).split())[:_NAME_CHARACTERS].strip(". ")
    return f"_{name}" if _DEVICES.fullmatch(name.partition(".")[0].strip()) else name or "conversation"
