"""Sign-in with OpenID Connect: where browsers start, and where the provider redirects them to."""

from __future__ import annotations

import logging
import re

from flask import Blueprint, Response, abort, g, redirect, request, url_for

from chatkeep.auth.oidc import AuthorizationRequest, AuthorizationResponse
from chatkeep.errors import KeyRevoked, SignInFailed, StoreProblem
from chatkeep.runtime.logs import named
from chatkeep.web.auth import PUBLIC, cookie_named, requires
from chatkeep.web.requests import public_url
from chatkeep.web.routes.sign_in import keep
from chatkeep.web.services import services

blueprint = Blueprint("oidc", __name__)
log = logging.getLogger(__name__)
MINUTES = 10
COOKIE = "chatkeep_oidc"
# Maximum number of started sign-ins per browser, so that their cookies fit into a header.
MOST_STARTED = 5
_STATE = re.compile(r"[\w-]{43}", re.ASCII)
# Where the pages may return to: one of them, with a conversation.
_PLACE = re.compile(r"(admin)?(#[0-9a-f-]{36})?")


@blueprint.before_request
def require_provider() -> None:
    """Answer 404 if no provider is configured."""
    if not services().oidc.is_configured:
        abort(404)


@blueprint.get("/sign-in/oidc")
@requires(PUBLIC)
def begin() -> Response:
    """Redirect the browser to the provider."""
    try:
        place, started = services().oidc.begin(_own_address(), request.args.get("to", ""))
    except SignInFailed as failure:
        return _failed("", failure)
    response = _away(place)
    # Lax, because the provider redirects from another site.
    response.set_cookie(
        _cookie_of(started.state),
        started.sealed(),
        max_age=60 * MINUTES,
        secure=request.is_secure,
        httponly=True,
        samesite="Lax",
    )
    # Browsers send the oldest cookie first (RFC 6265, section 5.4).
    prefix = _cookie_of("")
    begun = [name for name in request.cookies if name.startswith(prefix) and _STATE.fullmatch(name, len(prefix))]
    for name in begun[: max(0, len(begun) + 1 - MOST_STARTED)]:
        _forget(response, name)
    return response


@blueprint.get("/sign-in/oidc/done")
@requires(PUBLIC)
def finish() -> Response:
    """Complete the sign-in, and redirect to the page where it started."""
    given = request.args
    returned = AuthorizationResponse(given.get("state", ""), given.get("code"), given.get("error"), given.get("iss"))
    cookie = _cookie_of(returned.state) if _STATE.fullmatch(returned.state) else ""
    started = AuthorizationRequest.unsealed(request.cookies.get(cookie, ""))
    to = started.to if started and _PLACE.fullmatch(started.to) else ""
    try:
        made = services().oidc.finish(services().journal, started, returned, _own_address(), g.request_id)
        response = _back(to)
        keep(response, made)
    except SignInFailed as failure:
        response = _failed(to, failure)
    except KeyRevoked:
        response = _failed(to, SignInFailed("denied", "key_revoked"))
    except StoreProblem:
        response = _failed(to, SignInFailed("unavailable", "database_unavailable"))
    if cookie:
        _forget(response, cookie)
    return response


def _cookie_of(state: str) -> str:
    """Return the name of a sign-in's cookie: each tab has its own."""
    return f"{cookie_named(COOKIE)}_{state}"


def _forget(response: Response, cookie: str) -> None:
    response.delete_cookie(cookie, secure=request.is_secure, httponly=True, samesite="Lax")


def _own_address() -> str:
    """Return the redirect URI; the provider accepts only registered ones."""
    return public_url(url_for("oidc.finish"))


def _failed(to: str, failure: SignInFailed) -> Response:
    """Redirect to the page with the reason of the failure; the log has the cause."""
    led_to_it = f" ({named(failure.__cause__)})" if failure.__cause__ else ""
    log.warning("sign-in failed: %s%s", failure.cause, led_to_it)
    return _back(to, failure.reason)


def _back(to: str, failure: str | None = None) -> Response:
    """Redirect to a page, which shows the failure unless it is signed in."""
    page, _, conversation = to.partition("#")
    place = url_for("admin_page.admin_page" if page else "web.chat_page")
    query = f"?sign-in={failure}" if failure else ""
    return _away(place + query + (f"#{conversation}" if conversation else ""))


def _away(place: str) -> Response:
    response = redirect(place)
    response.headers["Cache-Control"] = "no-store"
    return response  # type: ignore[return-value]
