"""The index of routes finds what Werkzeug finds, and Flask does nothing in vain for a request."""

from __future__ import annotations

import inspect
from pathlib import Path
from uuid import UUID

import pytest
from flask import request, session

from chatkeep.config.settings import Settings
from chatkeep.provider.demo import DemoProvider
from chatkeep.server.app import create_app
from chatkeep.web.application import Application
from chatkeep.web.responses import JsonResponse
from chatkeep.web.services import services_of

ID = "0193f3a4-1b2c-7d3e-8f40-5a6b7c8d9e0f"
RULES = {
    "/": ["GET"],
    "/api/things": ["GET", "POST"],
    "/api/things/all": ["GET"],
    "/api/things/<uuid:thing_id>": ["GET", "DELETE"],
    "/api/things/<uuid:thing_id>/parts": ["GET"],
    "/api/things/<uuid:thing_id>/parts/<uuid:part_id>": ["GET"],
    "/files/<path:name>": ["GET"],
}
PATHS = [
    "/", "/api/things", "/api/things/", "/api//things", "/api/things/all", "/api/things/none", f"/api/things/{ID}",
    f"/api/things/{ID.upper()}", f"/api/things/{ID}/", f"/api/things/{ID[:-1]}", f"/api/things/{ID}0",
    f"/api/things/{ID}\n", f"/api/things/{{{ID}}}", f"/api/things/{ID.replace('-', '')}", f"/api/things/{ID}/parts",
    f"/api/things/{ID}/parts/{ID}", "/files/a/b", f"/files/{ID}", "/nothing", "",
]  # fmt: skip


@pytest.fixture(scope="module")
def applications() -> tuple[Application, Application]:
    """One with an index of its routes, and one without."""
    made = [Application("indexed"), Application("plain")]
    for application in made:
        application.url_map.strict_slashes = False
        for rule, methods in RULES.items():
            application.add_url_rule(rule, rule, lambda **_: "", methods=methods)
    made[0].index_routes()
    return made[0], made[1]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", PATHS)
def test_index_finds_the_route_that_werkzeug_finds(
    applications: tuple[Application, Application], method: str, path: str
) -> None:
    found = []
    for application in applications:
        with application.test_request_context(path or "/", method=method):
            error = type(request.routing_exception)
            found.append((request.url_rule and request.url_rule.rule, request.view_args, error))
    assert found[0] == found[1]


def test_indexed_routes_skip_werkzeug(applications: tuple[Application, Application]) -> None:
    with applications[0].test_request_context(f"/api/things/{ID}") as context:
        assert (context.url_adapter, context.request.view_args) == (None, {"thing_id": UUID(ID)})
    with applications[0].test_request_context("/api/things", method="POST") as context:
        assert context.url_adapter is None


def test_requests_have_no_session() -> None:
    application = Application("plain")
    application.secret_key = "a key with which Flask's own sessions could be written"
    with application.test_request_context("/"), pytest.raises(RuntimeError, match="session is unavailable"):
        session["name"] = "value"


def test_every_view_and_hook_is_synchronous(tmp_path: Path) -> None:
    application = create_app(Settings(data_dir=tmp_path), DemoProvider())
    services_of(application).close()
    groups = (application.before_request_funcs, application.after_request_funcs, application.teardown_request_funcs)
    hooks = [hook for group in groups for found in group.values() for hook in found]
    functions = [*application.view_functions.values(), *hooks]
    assert len(functions) > len(hooks) > 0
    assert not [function for function in functions if inspect.iscoroutinefunction(function)]


def test_flask_returns_json_responses_unchanged() -> None:
    application, response = Application("plain"), JsonResponse(b"{}", 200)
    with application.test_request_context("/"):
        assert application.make_response(response) is response
    assert type(response) is JsonResponse
