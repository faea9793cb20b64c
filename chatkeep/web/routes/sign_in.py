"""Routes by which the page signs in and out."""

from __future__ import annotations

from flask import Blueprint, Response, g, request

from chatkeep import errors
from chatkeep.auth import keys
from chatkeep.auth.access import EVERY_SCOPE, SESSION_S, NewKey, caller_of
from chatkeep.web import auth
from chatkeep.web.auth import PUBLIC
from chatkeep.web.openapi import Routes
from chatkeep.web.requests import body_as
from chatkeep.web.responses import rendered
from chatkeep.web.schemas import keys as schemas
from chatkeep.web.services import caller, services

routes = Routes(Blueprint("sign_in", __name__))


@routes.route(
    "POST",
    "/api/sign-in",
    tag="keys",
    scopes=PUBLIC,
    body=schemas.SignInRequest,
    answers={200: schemas.SignedIn},
    raises=(
        errors.BodyTooLarge,
        errors.UnsupportedMediaType,
        errors.MalformedJson,
        errors.RequestTimeout,
        errors.InvalidFields,
        errors.Unauthorized,
        errors.KeyRevoked,
        errors.KeyExpired,
        errors.StoreUnavailable,
    ),
    examples={"a key": {"key": "ck_8Zx2mQ0a_W6N1tq4vYc0dPz7sK2hRb9mXe3uLf5gJ8aQiTnCo"}},
)
def sign_in() -> Response:
    """Sign in on the page with an API key.

    The answer sets the cookie `chatkeep_key`: a key with the same scopes for at most 12 hours, which ends with the
    original.

    Scripts can't read the cookie, and it counts only on requests from the server's own pages. The caller learns whether
    a valid key was revoked or has expired; anything else is `unauthorized`.
    """
    made = keys.sign_in(services().database, services().journal, body_as(schemas.SignInRequest).key, g.request_id)
    response = rendered(schemas.signed_in_of(caller_of(made.key)))
    keep(response, made)
    return response


def keep(response: Response, made: NewKey) -> None:
    """Store a key in a cookie that no script and no other site can use."""
    name = auth.cookie_named(auth.COOKIE)
    response.set_cookie(name, made.text, max_age=SESSION_S, secure=request.is_secure, httponly=True, samesite="Strict")


@routes.route("GET", "/api/sign-in", tag="keys", scopes=EVERY_SCOPE, answers={200: schemas.SignedIn})
def read_caller() -> Response:
    """Get the caller of this request and its scopes."""
    return rendered(schemas.signed_in_of(caller()))


@routes.route(
    "POST",
    "/api/sign-out",
    tag="keys",
    scopes=PUBLIC,
    answers={200: schemas.SignedOut},
    raises=(errors.StoreUnavailable,),
)
def sign_out() -> Response:
    """Sign out: revoke the key in the cookie and delete the cookie."""
    found = auth.cookie()
    ended = found is not None and keys.sign_out(services().database, services().journal, found, g.request_id)
    if ended:
        services().access.refresh()
    response = rendered(schemas.SignedOut(ended))
    name = auth.cookie_named(auth.COOKIE)
    response.delete_cookie(name, secure=request.is_secure, httponly=True, samesite="Strict")
    return response
