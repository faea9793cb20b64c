"""The route that imports a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from io import BufferedReader, BytesIO
from types import EllipsisType

from flask import Blueprint, Response, request

from chatkeep import errors
from chatkeep.auth.access import Scope
from chatkeep.domain.conversation import now_us
from chatkeep.errors import BodyTooLarge, FieldError, InvalidFields, UnsupportedMediaType
from chatkeep.i18n import _, text_of
from chatkeep.imports import BadRecord, ImportOptions, Report, UnknownFile, import_file, ttl_of
from chatkeep.imports.files import documents
from chatkeep.limiting.storage import StorageQuota
from chatkeep.web.openapi import Routes
from chatkeep.web.problems import language
from chatkeep.web.requests import content_coding, query_as, read_coded_body
from chatkeep.web.responses import rendered
from chatkeep.web.schemas import exports
from chatkeep.web.schemas.imports import Import, ImportQuery, import_of
from chatkeep.web.services import actor, owner, services

routes = Routes(Blueprint("imports", __name__))
_ARCHIVES = {"application/zip", "application/x-zip", "application/x-zip-compressed"}
# The content decides the format. Forms, and types that a foreign page can send without a preflight, are refused.
_MEDIA_TYPES = _ARCHIVES | {
    "application/json", "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines",
    "application/gzip", "application/x-gzip", "application/zstd", "application/octet-stream",
}  # fmt: skip
_WHAT_TO_SEND = _(
    "Send the file itself as the body, not in a form, with its Content-Type: "
    "application/json, application/x-ndjson, application/zip or application/gzip."
)
_GZIP = {"identity", "gzip", "x-gzip"}
# The unpacked content may be this many times larger than the body: text compresses to a tenth at best.
_UNPACKED = 16
# A chunk can hold thousands of records that take some microseconds each.
_CHUNK_BYTES = 16 * 1024


@routes.route(
    "POST",
    "/api/conversations/import",
    tag="exports",
    scopes={Scope.CHAT},
    body=exports.Export,
    query=ImportQuery,
    answers={200: Import},
    examples={
        "an export": {
            "object": "export",
            "version": 1,
            "conversations": [],
            "end": {"object": "export.end", "conversations": 0, "messages": 0, "sha256": ""},
        },
    },
    raises=(
        errors.RequestTimeout,
        errors.BodyTooLarge,
        errors.UnsupportedMediaType,
        errors.InvalidFields,
        errors.QuotaExceeded,
        errors.StoreUnavailable,
    ),
)
def import_conversations() -> Response:
    """Import conversations from a file.

    The body is the file: an export from chatkeep, ChatGPT, Claude, DeepSeek, LibreChat or Open WebUI, as JSON, NDJSON,
    zip or gzip.

    The server detects the format from the content. Everything becomes the caller's. A chatkeep export keeps its ids,
    times and branches; conversations that are already stored are skipped, and an incremental export updates them. Ids
    that belong to another owner on this server are replaced by others, the same ones in every import. Other programs'
    tool calls, pictures and files are not imported but counted in `left_out`. Invalid records are reported with their
    line, and the rest is imported. The body is limited by `CHATKEEP_MAX_BODY`, 1 MiB by default, and 16 times that when
    unpacked; on the server, `chatkeep import` has no limit.
    """
    ttl = _kept(query_as(ImportQuery).ttl)
    body = _body()
    options = ImportOptions(owner(), now_us(), ttl, by=actor(), quota=StorageQuota.of(services().settings))
    run = partial(import_file, services().database, services().journal, options=options, redaction=services().redaction)
    try:
        _require_small(body)
        reports = _imported(body, run)
    except UnknownFile as error:
        raise InvalidFields(text_of(error), errors=[FieldError("", _("is not a file that can be imported"))]) from error
    return rendered(import_of(reports, language()))


def _body() -> bytes:
    """Return the body. Raises `UnsupportedMediaType`, `BodyTooLarge` and `RequestTimeout`."""
    if request.mimetype not in _MEDIA_TYPES:
        raise UnsupportedMediaType(_WHAT_TO_SEND)
    if content_coding() not in (_GZIP if request.mimetype not in _ARCHIVES else {"identity"}):
        raise UnsupportedMediaType(
            _("Send the file unchanged. Only files that are not archives can have Content-Encoding: gzip.")
        )
    try:
        return read_coded_body()
    except BodyTooLarge as error:
        raise BodyTooLarge(
            _(
                "The body exceeds {most} bytes (CHATKEEP_MAX_BODY). On the server, chatkeep import takes "
                "files of any size.",
                most=services().settings.max_body,
            )
        ) from error


def _require_small(body: bytes) -> None:
    """Raise `BodyTooLarge` if the unpacked content is too large, before importing any of it."""
    most = left = _UNPACKED * services().settings.max_body

    def count(unpacked: int) -> None:
        nonlocal left
        left -= unpacked
        if left < 0:
            raise BodyTooLarge(
                _(
                    "Unpacked, the body exceeds {most} bytes ({times} times CHATKEEP_MAX_BODY). On the server, "
                    "chatkeep import takes files of any size.",
                    most=most,
                    times=_UNPACKED,
                )
            )
        time.sleep(0)

    for _label, document in documents(_opened(body), count):
        with suppress(UnknownFile):  # the import reports it
            for _record in document:
                pass


def _imported(body: bytes, run: Callable[[Iterator[bytes]], Report]) -> list[Report]:
    """Import each document of a body, and report unreadable ones. Raises `UnknownFile` if none is readable."""
    reports: list[Report] = []
    unknown: list[tuple[str, UnknownFile]] = []
    for name, document in documents(_opened(body), lambda _count: time.sleep(0)):
        try:
            reports.append(run(_chunks(document)))
        except UnknownFile as error:
            unknown.append((name, error))
    if not reports and unknown:
        name, reason = unknown[0]
        raise UnknownFile(_("{path} cannot be read: {reason}", path=name, reason=text_of(reason))) if name else reason
    told = Report()
    for name, refused in unknown:
        told.add_problem(BadRecord(1, _("{path} cannot be read: {reason}", path=name, reason=text_of(refused))))
    return [*reports, told]


def _opened(body: bytes) -> BufferedReader:
    return BufferedReader(BytesIO(body))


def _kept(ttl: str | None) -> int | EllipsisType | None:
    """Return the time to live of imported conversations. Raises `InvalidFields`."""
    try:
        return ... if ttl is None else ttl_of(ttl)
    except ValueError as error:
        raise InvalidFields.of([FieldError("ttl", text_of(error))]) from error


def _chunks(document: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a document in small pieces, and let other requests run in between."""
    for chunk in document:
        for start in range(0, len(chunk), _CHUNK_BYTES):
            yield chunk[start : start + _CHUNK_BYTES]
            time.sleep(0)
