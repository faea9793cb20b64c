"""The one place where requests are let in, before any view runs: who calls, and whether they may.

Every view says who may come in; an application in which one does not is not made.
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
from chatkeep.web.forwarding import is_from_here
from chatkeep.web.origins import is_own_page
from chatkeep.web.services import Services, services_of

View = TypeVar("View", bound=Callable[..., Any])
PUBLIC: frozenset[Scope] = frozenset()
"""For pages and what they load, the API's document, and health: nothing that belongs to anybody."""
END_USER, TOKEN = "X-End-User", "X-End-User-Token"
COOKIE = "chatkeep_key"
_BEARER = re.compile(r"bearer (ck_\w+)", re.ASCII | re.IGNORECASE)
_declared: dict[Callable[..., Any], frozenset[Scope]] = {}


def requires(scopes: AbstractSet[Scope]) -> Callable[[View], View]:
    """Declare whom a view lets in: callers with any of these scopes, or everybody."""

    def declare(view: View) -> View:
        _declared[view] = frozenset(scopes)
        return view

    return declare


def register(app: Flask) -> None:
    """Guard every view that the application has by now."""
    needed = {endpoint: _declared[view] for endpoint, view in app.view_functions.items()}
    app.before_request(partial(_admit, needed, services_of(app)))


def _admit(needed: Mapping[str, frozenset[Scope]], services: Services) -> None:
    """Note who calls. Raises `Unauthorized`, `MissingScope`, `InvalidFields`, `StoreUnavailable`."""
    scopes = needed.get(request.endpoint or "", PUBLIC)
    # A browser asks with OPTIONS before it sends a key; Flask answers that itself.
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
        services.access.note_refusal(found, f"{request.method} {request.url_rule}", g.request_id)
        raise MissingScope(f"One of these scopes is needed: {', '.join(sorted(scopes))}.")
    return _named(found, environ, services.tokens)


def _key(environ: Mapping[str, Any]) -> str | None:
    """Return the key that the request brings, empty where what it brings is none; None where it brings nothing."""
    sent = environ.get("HTTP_AUTHORIZATION")
    if sent is None:
        return cookie() if "HTTP_COOKIE" in environ else None
    found = _BEARER.fullmatch(sent)
    return found[1] if found else ""


def cookie() -> str | None:
    """Return the key of the page's cookie; None where there is none, or another site may have sent the request."""
    return request.cookies.get(cookie_named(COOKIE)) if is_own_page(request.environ) else None


def cookie_named(name: str) -> str:
    """Return what a cookie is called on this connection: over https no neighbouring domain can set it (RFC 6265bis).

    Such a cookie belongs to the whole host, so servers under several prefixes of one host need names of their own.
    """
    own = name + request.script_root.replace("/", ".")
    return f"__Host-{own}" if request.is_secure else own


def _named(caller: Caller, environ: Mapping[str, Any], tokens: Tokens) -> Caller:
    """Return the caller, as the end user that the request names where it names one."""
    name, token = environ.get("HTTP_X_END_USER"), environ.get("HTTP_X_END_USER_TOKEN")
    if name is None and token is None:
        return caller
    if caller.end_user:
        raise _wrong(END_USER, "this key stands for one end user already")
    if tokens.expects(caller.account):
        if name is not None or token is None:
            raise _wrong(END_USER, f"this account names end users with {TOKEN}")
        return caller.naming(*tokens.read(caller.account, token))
    if token is not None or name is None:
        raise _wrong(TOKEN, "the server has no keys for this account's tokens")
    return caller.naming(_end_user(name))


def _end_user(sent: str) -> str:
    """Return the end user's name, character by character: to change two names until they are equal would mix people."""
    try:
        name = sent.encode("latin-1").decode()  # WSGI hands headers over as if they were Latin-1 (PEP 3333)
    except UnicodeError:
        raise _wrong(END_USER, "is not UTF-8") from None
    if not is_end_user(name):
        raise _wrong(END_USER, f"has 1 to {END_USER_CHARACTERS} characters, none of them a control character")
    return name


def _wrong(header: str, message: str) -> InvalidFields:
    return InvalidFields(f"{header}: {message}.", errors=[FieldError(header, message)])
