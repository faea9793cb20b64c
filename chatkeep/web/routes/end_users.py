"""Routes of all that an end user has: give it out, erase it."""

from __future__ import annotations

from flask import Blueprint, Response

from chatkeep import errors
from chatkeep.auth.access import Scope
from chatkeep.domain.audit import Action, AuditEvent
from chatkeep.errors import FieldError, InvalidFields
from chatkeep.exports import Export
from chatkeep.exports.formats.documents import Ndjson
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
# Whom the request speaks for, and nobody else: a name in an address would be in the log of every proxy.
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
    """Give out everything that is stored of the end user whom the request names.

    It is an export in `ndjson`, with a line more for each key that stands for the end user alone, each export job, each
    link, each idempotency key, and what was used on a day. A request that names nobody is refused: what is the
    account's own, the exports give.
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
    """Erase everything of the end user whom the request names, for good, and answer when it is gone.

    Conversations with their messages, running replies, answers in the caches, export jobs with their files, idempotency
    keys, keys that stand for the end user alone, and what limits have counted. What was used stays in the account's
    sums, without whom. It takes some seconds, and longer where there is much; who loses the connection asks again. The
    receipt is in the audit log, too. A request that names nobody is refused.
    """
    receipt = services().eraser.erase(_end_user(), actor())
    services().access.refresh()
    return rendered(schemas.erasure_of(receipt))


def _end_user() -> str:
    """Return the owner that the end user is. Raises `InvalidFields` where the request names none."""
    by = caller()
    if not by.end_user:
        wrong = FieldError(auth.END_USER, "name the end user whom it is about")
        raise InvalidFields(f"{wrong.field}: {wrong.message}.", errors=[wrong])
    return by.owner
