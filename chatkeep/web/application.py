"""Flask without what this application has no use for, as every request would pay for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

from flask import Flask, Request
from flask.ctx import RequestContext
from flask.sessions import NullSession
from werkzeug.routing import MapAdapter, Rule, UUIDConverter

from chatkeep.web.responses import Untyped

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_UUID = re.compile(UUIDConverter.regex)
_NOTHING_KEPT = NullSession()


class Application(Flask):
    """A Flask application that keeps nothing between requests, and finds most of its routes at once."""

    response_class = Untyped  # Flask makes one of every response that is none

    def __init__(self, name: str, prefix: str = "", public_url: str | None = None) -> None:
        super().__init__(name, static_folder=None)
        self._prefix = prefix
        self._scheme = urlsplit(public_url or "").scheme
        self._fixed: dict[tuple[str, str], Rule] = {}
        self._of_id: dict[tuple[str, str], tuple[Rule, str]] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333), whose path a proxy has freed of the configured prefix."""
        if self._prefix:
            environ["SCRIPT_NAME"] = self._prefix
        if self._scheme:
            environ["wsgi.url_scheme"] = self._scheme
        return super().__call__(environ, start_response)

    def learn_routes(self) -> None:
        """Learn which routes of the API can be found at once.

        All others are matched by Werkzeug, and give the same. Pages need what it leaves, for they make URLs; so does
        OPTIONS, which Flask answers with the methods of all rules of a path.
        """
        for rule in self.url_map.iter_rules():
            if not rule.rule.startswith("/api/"):
                continue
            prefix, found, name = rule.rule.partition("<uuid:")
            for method in (rule.methods or set()) - {"OPTIONS"}:
                if not rule.arguments:
                    self._fixed[method, rule.rule] = rule
                elif found and name.endswith(">") and len(rule.arguments) == 1:
                    self._of_id[method, prefix] = rule, name[:-1]

    def request_context(self, environ: WSGIEnvironment) -> RequestContext:
        """Return the context of a request; Flask would look for a cookie of its own in each, to keep something by."""
        return RequestContext(self, environ, session=_NOTHING_KEPT)

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Note a request's route where it is found at once; otherwise return what matches it."""
        if request is None or not self._find(request):
            return super().create_url_adapter(request)
        return None

    def _find(self, request: Request) -> bool:
        method, path = request.environ["REQUEST_METHOD"], request.environ["PATH_INFO"]
        rule = self._fixed.get((method, path))
        if rule is not None:
            request.url_rule, request.view_args = rule, {}
            return True
        prefix, slash, last = path.rpartition("/")
        found = self._of_id.get((method, prefix + slash))
        if found is None or not _UUID.fullmatch(last):
            return False
        request.url_rule, request.view_args = found[0], {found[1]: UUID(last)}
        return True

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function: none here is asynchronous, and looking takes its time."""
        return func
