"""Authentication and authorization of every request, before its view runs.

Each view declares the scopes that it requires. The application doesn't start if a view declares none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any, TypeVar

from flask import Flask, g, request

from chatkeep.auth.access import END_USER_CHARACTERS, OPEN_CALLER, Caller, Scope, is_end_user
from chatkeep.auth.tokens import Tokens
from chatkeep.errors import NO_KEYS, FieldError, InvalidFields, MissingScope, Unauthorized
from chatkeep.i18n import Text, _
from chatkeep.web.forwarding import is_from_here
from chatkeep.web.origins import is_own_page
from chatkeep.web.services import Services, services_of

View = TypeVar("View", bound=Callable[..., Any])
PUBLIC: frozenset[Scope] = frozenset()
"""No authentication: for pages and their files, the OpenAPI document and health checks."""
END_USER, TOKEN = "X-End-User", "X-End-User-Token"
COOKIE = "chatkeep_key"
_BEARER = re.compile(r"bearer (ck_\w+)", re.ASCII | re.IGNORECASE)
_declared: dict[Callable[..., Any], frozenset[Scope]] = {}


def requires(scopes: AbstractSet[Scope]) -> Callable[[View], View]:
    """Declare that a view requires one of these scopes; `PUBLIC` requires no authentication."""

    def declare(view: View) -> View:
        _declared[view] = frozenset(scopes)
        return view

    return declare


def register(app: Flask) -> None:
    """Enforce the declared scopes of all views that are registered so far. Raises `KeyError` for an undeclared view."""
    required = {endpoint: _declared[view] for endpoint, view in app.view_functions.items()}
    app.before_request(partial(_authorize, required, services_of(app)))


def _authorize(required: Mapping[str, frozenset[Scope]], services: Services) -> None:
    """Set the request's caller. Raises `Unauthorized`, `MissingScope`, `InvalidFields` and `StoreUnavailable`."""
    scopes = required.get(request.endpoint or "", PUBLIC)
    # Browsers send CORS preflights without a key. Flask answers OPTIONS itself.
    if not scopes:
        return
    environ = request.environ
    if environ["REQUEST_METHOD"] == "OPTIONS":
        return
    g.caller = _caller(scopes, environ, services)


def _caller(scopes: AbstractSet[Scope], environ: Mapping[str, Any], services: Services) -> Caller:
    found = services.access.caller(_key(environ))
    if found is OPEN_CALLER and not is_from_here(environ):
        raise Unauthorized(NO_KEYS)
    if scopes.isdisjoint(found.scopes):
        services.access.audit_refusal(found, f"{request.method} {request.url_rule}", g.request_id)
        raise MissingScope(_("This request requires one of these scopes: {scopes}.", scopes=", ".join(sorted(scopes))))
    return _with_end_user(found, environ, services.tokens)


def _key(environ: Mapping[str, Any]) -> str | None:
    """Return the API key of the request, an empty string if it is malformed, or None if there is none."""
    sent = environ.get("HTTP_AUTHORIZATION")
    if sent is None:
        return cookie() if "HTTP_COOKIE" in environ else None
    found = _BEARER.fullmatch(sent)
    return found[1] if found else ""


def cookie() -> str | None:
    """Return the API key in the page's cookie, or None if it is missing or the request may come from another site."""
    return request.cookies.get(cookie_named(COOKIE)) if is_own_page(request.environ) else None


def cookie_named(name: str) -> str:
    """Return a cookie's full name; on https it begins with `__Host-`, so no sibling domain can set it (RFC 6265bis).

    Such a cookie is valid for the whole host, so the name contains the server's URL prefix.
    """
    own = name + request.script_root.replace("/", ".")
    return f"__Host-{own}" if request.is_secure else own


def _with_end_user(caller: Caller, environ: Mapping[str, Any], tokens: Tokens) -> Caller:
    """Return the caller, acting for an end user if the request names one."""
    name, token = environ.get("HTTP_X_END_USER"), environ.get("HTTP_X_END_USER_TOKEN")
    if name is None and token is None:
        return caller
    if caller.end_user:
        raise _invalid_header(END_USER, _("this key is already bound to an end user"))
    if tokens.expects(caller.account):
        if name is not None or token is None:
            raise _invalid_header(END_USER, _("this account requires {header} instead", header=TOKEN))
        return caller.for_end_user(*tokens.read(caller.account, token))
    if token is not None or name is None:
        raise _invalid_header(TOKEN, _("the server has no keys for this account's tokens"))
    return caller.for_end_user(_end_user(name))


def _end_user(sent: str) -> str:
    """Validate the name of an end user. It is never normalized: two users must not become one."""
    try:
        name = sent.encode("latin-1").decode()  # WSGI decodes headers as Latin-1 (PEP 3333)
    except UnicodeError:
        raise _invalid_header(END_USER, _("is not UTF-8")) from None
    if not is_end_user(name):
        raise _invalid_header(
            END_USER, _("must be 1 to {most} characters without control characters", most=END_USER_CHARACTERS)
        )
    return name


def _invalid_header(header: str, message: Text) -> InvalidFields:
    return InvalidFields.of([FieldError(header, message)])
