"""Routes of API keys, for the operator."""

from __future__ import annotations

from uuid import UUID

from flask import Blueprint, Response

from chatkeep import errors
from chatkeep.auth import keys
from chatkeep.auth.access import END_USER_CHARACTERS, Scope, is_name
from chatkeep.auth.keys import KeyChanges, KeySpec
from chatkeep.errors import FieldError, InvalidFields
from chatkeep.i18n import _
from chatkeep.web.openapi import Routes
from chatkeep.web.requests import body_as, given, query_as
from chatkeep.web.responses import rendered
from chatkeep.web.schemas import keys as schemas
from chatkeep.web.schemas.common import PageQuery
from chatkeep.web.services import actor, services

routes = Routes(Blueprint("keys", __name__))
_ONE = "/api/keys/<uuid:key_id>"
_BODY = (errors.BodyTooLarge, errors.UnsupportedMediaType, errors.MalformedJson, errors.RequestTimeout)


@routes.route(
    "POST",
    "/api/keys",
    tag="keys",
    scopes={Scope.ADMIN},
    body=schemas.KeyRequest,
    answers={201: schemas.NewKey},
    raises=_BODY,
    examples={
        "an application": {"name": "our app", "scopes": ["chat", "read"], "expires_in": 7776000},
        "of an end user": {"name": "their phone", "end_user": "4711", "scopes": ["chat", "read"]},
        "limited": {"name": "a trial", "limits": {"requests_per_day": 200, "concurrent_replies": 2}},
    },
)
def create_key() -> Response:
    """Create an API key for any account.

    Store the key: it is shown only once, and the server keeps only its hash.
    """
    body = body_as(schemas.KeyRequest)
    _require_name("name", body.name)
    if body.end_user is not None:
        _require_name("end_user", body.end_user)
    wanted = KeySpec(body.name, body.account, body.scopes, body.expires_in, body.limits, body.end_user)
    made = keys.create_key(services().journal, wanted, actor())
    services().access.refresh()  # with the first key this process refuses requests without one, others within seconds
    return rendered(schemas.new_key_of(made), 201)


@routes.route("GET", "/api/keys", tag="keys", scopes={Scope.ADMIN}, query=PageQuery, answers={200: schemas.KeyList})
def list_keys() -> Response:
    """List the API keys of all accounts, including revoked and expired ones."""
    query = query_as(PageQuery)
    found, more = keys.list_keys(services().database, query.limit, query.after, ascending=query.ascending)
    return rendered(schemas.keys_of(found, has_more=more))


@routes.route("GET", _ONE, tag="keys", scopes={Scope.ADMIN}, answers={200: schemas.Key}, raises=(errors.NotFound,))
def read_key(key_id: UUID) -> Response:
    """Get an API key."""
    return rendered(schemas.key_of(keys.read_key(services().database, key_id)))


@routes.route(
    "PATCH",
    _ONE,
    tag="keys",
    scopes={Scope.ADMIN},
    body=schemas.KeyChanges,
    answers={200: schemas.Key},
    raises=(*_BODY, errors.InvalidFields, errors.NotFound),
    examples={
        "rename": {"name": "our new app"},
        "limit": {"limits": {"requests_per_day": 200}},
        "as every key": {"limits": None},
    },
)
def change_key(key_id: UUID) -> Response:
    """Change a key's name or its own limits.

    `limits` replaces all of the key's limits; `null` removes them. The change applies within 5 seconds. Scopes and
    expiry can't be changed: create another key or rotate this one.
    """
    body = body_as(schemas.KeyChanges)
    if isinstance(body.name, str):
        _require_name("name", body.name)
    changed = keys.change_key(services().journal, key_id, KeyChanges(given(body.name), given(body.limits)), actor())
    services().access.refresh()
    return rendered(schemas.key_of(changed))


@routes.route("DELETE", _ONE, tag="keys", scopes={Scope.ADMIN}, answers={200: schemas.Key}, raises=(errors.NotFound,))
def revoke_key(key_id: UUID) -> Response:
    """Revoke an API key and the sign-ins made with it. Revoking it again has no effect.

    Within 5 seconds the key is refused, its streams end and its running replies stop.
    """
    revoked = keys.revoke_key(services().journal, key_id, actor())
    services().access.refresh()
    return rendered(schemas.key_of(revoked))


@routes.route(
    "POST",
    f"{_ONE}/rotate",
    tag="keys",
    scopes={Scope.ADMIN},
    body=schemas.RotateRequest,
    answers={201: schemas.NewKey},
    raises=(*_BODY, errors.NotFound, errors.KeyEnded),
    examples={"at once": {}, "an hour later": {"overlap": 3600}},
)
def rotate_key(key_id: UUID) -> Response:
    """Replace a key by a new one with the same name, account, scopes and lifetime."""
    body = body_as(schemas.RotateRequest)
    made = keys.rotate_key(services().journal, key_id, body.overlap, actor())
    return rendered(schemas.new_key_of(made), 201)


def _require_name(field: str, name: str) -> None:
    """Raise `InvalidFields` if a name has control characters."""
    if not is_name(name, END_USER_CHARACTERS):  # the schema limits its length
        wrong = FieldError(field, _("must not contain control characters"))
        raise InvalidFields.of([wrong])
