"""Routes that export and erase everything about an end user."""

from __future__ import annotations

from flask import Blueprint, Response

from chatkeep import errors
from chatkeep.auth.access import Scope
from chatkeep.domain.audit import Action, AuditEvent
from chatkeep.errors import FieldError, InvalidFields
from chatkeep.exports import Export
from chatkeep.exports.formats.documents import Ndjson
from chatkeep.i18n import _
from chatkeep.reporting import audit
from chatkeep.retention.erasure import belongings
from chatkeep.store.exports import Selection
from chatkeep.web import auth
from chatkeep.web.openapi import Routes
from chatkeep.web.responses import rendered
from chatkeep.web.routes.exports import download
from chatkeep.web.schemas import end_users as schemas
from chatkeep.web.services import actor, caller, services

routes = Routes(Blueprint("end_users", __name__))
# The name comes in a header: in the URL, every proxy would log it.
_ME = "/api/end-users/me"


@routes.route(
    "GET",
    _ME,
    tag="end users",
    scopes={Scope.EXPORT},
    answers={200: None},
    files={"application/x-ndjson": None},
    raises=(errors.InvalidFields, errors.StoreUnavailable),
)
def give_end_user() -> Response:
    """Export everything stored about the end user named in the request.

    An `ndjson` export with more lines for the end user's API keys, export jobs, links, idempotency keys and daily
    usage.
    """
    owner = _end_user()
    database = services().database
    export = Export(database, Selection(owner), Ndjson(), services().redaction, beside=belongings(database, owner))
    audit.note(services().journal, AuditEvent(actor(), Action.OWNER_GIVEN))
    return download(export, Ndjson.media_type, "chatkeep-end-user", Ndjson.suffix)


@routes.route(
    "DELETE",
    _ME,
    tag="end users",
    scopes={Scope.CHAT},
    answers={200: schemas.Erasure},
    raises=(errors.InvalidFields, errors.StoreUnavailable),
)
def erase_end_user() -> Response:
    """Erase everything about the end user named in the request, and return a receipt.

    This deletes conversations, running replies, cached answers, export files, idempotency keys, API keys and limit
    counts. Usage stays in the account's totals, without the end user. It takes seconds or longer; repeat the request if
    the connection breaks. The receipt is also in the audit log.
    """
    receipt = services().eraser.erase(_end_user(), actor())
    services().access.refresh()
    return rendered(schemas.erasure_of(receipt))


def _end_user() -> str:
    """Return the end user as an owner. Raises `InvalidFields` if the request names none."""
    by = caller()
    if not by.end_user:
        wrong = FieldError(auth.END_USER, _("must name the end user"))
        raise InvalidFields.of([wrong])
    return by.owner
