"""The route that imports a file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import EllipsisType

from flask import Blueprint, Response, request

from chatkeep import errors
from chatkeep.access import Scope
from chatkeep.errors import FieldError, InvalidFields, UnsupportedMediaType
from chatkeep.imports import Terms, UnknownFile, import_file, ttl_of
from chatkeep.model import now_us
from chatkeep.quotas import StorageQuota
from chatkeep.web import export_shapes
from chatkeep.web.import_shapes import Import, ImportQuery, import_of
from chatkeep.web.openapi import Routes
from chatkeep.web.parts import actor, owner, parts
from chatkeep.web.problems import language
from chatkeep.web.requests import query_as, read_body
from chatkeep.web.responses import rendered

routes = Routes(Blueprint("imports", __name__))
_MEDIA_TYPES = {"application/json", "application/x-ndjson", "application/jsonl"}
# A chunk may hold thousands of records, each of which takes some microseconds.
_CHUNK_BYTES = 16 * 1024


@routes.route(
    "POST",
    "/api/conversations/import",
    tag="exports",
    scopes={Scope.CHAT},
    body=export_shapes.Export,
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
        errors.QuotaUsedUp,
        errors.StoreUnavailable,
    ),
)
def import_conversations() -> Response:
    """Import conversations from a file.

    The body is the file: an export of chatkeep in `json`, or in `ndjson` as `application/x-ndjson`; the
    `conversations.json` of ChatGPT, Claude or DeepSeek; or an export of LibreChat or Open WebUI. What it is, is found
    from what it holds. Exports of other programs (Gemini, Grok, LobeChat, Cherry Studio, chatbot-ui, BetterChatGPT,
    TypingMind, Poe, Copilot), SQLite files and logs of coding agents (Claude Code, Codex) are not read. Everything
    becomes the caller's. An export comes back as it was, with its ids, times and branches; what is there already is not
    imported again, and an increment brings it up to date. Ids that are another owner's on this server become other
    ones, the same at every import. What is imported from other programs does not expire, unless `ttl` says so. What is
    left out of it, such as calls to tools, pictures and files, is counted in `left_out`. A record that is not as it
    should be is named with its line, and the others are imported. The body may be as large as any; `chatkeep import`
    takes files of any size.
    """
    if request.mimetype not in _MEDIA_TYPES:
        raise UnsupportedMediaType("Send the file with the Content-Type application/json or application/x-ndjson.")
    ttl = _kept(query_as(ImportQuery).ttl)
    body = read_body()
    terms = Terms(owner(), now_us(), ttl, by=actor(), quota=StorageQuota.of(parts().settings))
    try:
        report = import_file(parts().database, parts().journal, _chunks(body), terms, parts().redaction)
    except UnknownFile as error:
        raise InvalidFields(str(error), errors=[FieldError("", "is no file that can be imported")]) from error
    return rendered(import_of(report, language()))


def _kept(ttl: str | None) -> int | EllipsisType | None:
    """Return how long conversations are kept. Raises `InvalidFields`."""
    try:
        return ... if ttl is None else ttl_of(ttl)
    except ValueError as error:
        raise InvalidFields.of([FieldError("ttl", str(error))]) from error


def _chunks(body: bytes) -> Iterator[bytes]:
    """Yield a body piece by piece, and let other requests have their turn in between."""
    for start in range(0, len(body), _CHUNK_BYTES):
        yield body[start : start + _CHUNK_BYTES]
        time.sleep(0)
