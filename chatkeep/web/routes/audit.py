"""Routes of the audit log, for the operator."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import Blueprint, Response

from chatkeep import errors
from chatkeep.auth.access import Scope
from chatkeep.domain.audit import Action, AuditEvent
from chatkeep.reporting import audit
from chatkeep.store.audit import Filter
from chatkeep.web.openapi import Routes
from chatkeep.web.requests import query_as
from chatkeep.web.responses import rendered
from chatkeep.web.routes.exports import bounds, download
from chatkeep.web.schemas import audit as schemas
from chatkeep.web.services import actor, services

routes = Routes(Blueprint("audit", __name__))
_MEDIA_TYPES = {"ndjson": "application/x-ndjson", "csv": "text/csv"}


@routes.route(
    "GET",
    "/api/audit",
    tag="admin",
    scopes={Scope.ADMIN},
    query=schemas.AuditQuery,
    answers={200: schemas.AuditList},
    raises=(errors.InvalidFields, errors.StoreUnavailable),
)
def list_audit() -> Response:
    """List the audit log.

    It records keys, sign-ins, refused scopes, deletions, links, exports and erasures; never turns, content or names.

    """
    query = query_as(schemas.AuditQuery)
    page = (query.limit, query.after)
    found, more = audit.list_entries(services().database, _filter(query), *page, ascending=query.ascending)
    return rendered(schemas.entries_of(found, has_more=more))


@routes.route(
    "GET",
    "/api/audit/export",
    tag="admin",
    scopes={Scope.ADMIN},
    query=schemas.AuditExportQuery,
    answers={200: None},
    files=dict.fromkeys(_MEDIA_TYPES.values()),
    raises=(errors.InvalidFields, errors.StoreUnavailable),
)
def export_audit() -> Response:
    """Export the audit log as JSON lines or CSV, oldest first."""
    query = query_as(schemas.AuditExportQuery)
    only = _filter(query)
    audit.note(services().journal, AuditEvent(actor(), Action.AUDIT_EXPORTED, {"format": query.format}))
    chunks = audit.lines(services().database, only, query.format)
    name = f"chatkeep-audit-{datetime.now(UTC):%Y-%m-%d}"
    return download(chunks, _MEDIA_TYPES[query.format], name, query.format)


def _filter(query: schemas.AuditFilter) -> Filter:
    start, end = bounds(query.start_date, query.end_date)
    return Filter(query.account, query.verb, start, end)
