"""Routes that are found at once are those that Werkzeug finds, and responses of the API are sent as they are."""

from __future__ import annotations

from uuid import UUID

import pytest
from flask import request

from chatkeep.web.application import Application
from chatkeep.web.responses import JsonResponse

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
    """One that looks for itself, and one that leaves it to Werkzeug."""
    made = [Application("quick"), Application("slow")]
    for application in made:
        application.url_map.strict_slashes = False
        for rule, methods in RULES.items():
            application.add_url_rule(rule, rule, lambda **_: "", methods=methods)
    made[0].learn_routes()
    return made[0], made[1]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", PATHS)
def test_a_request_comes_to_the_same_view(
    applications: tuple[Application, Application], method: str, path: str
) -> None:
    found = []
    for application in applications:
        with application.test_request_context(path or "/", method=method):
            wrong = type(request.routing_exception)
            found.append((request.url_rule and request.url_rule.rule, request.view_args, wrong))
    assert found[0] == found[1]


def test_the_quick_way_is_gone(applications: tuple[Application, Application]) -> None:
    with applications[0].test_request_context(f"/api/things/{ID}") as context:
        assert (context.url_adapter, context.request.view_args) == (None, {"thing_id": UUID(ID)})
    with applications[0].test_request_context("/api/things", method="POST") as context:
        assert context.url_adapter is None


def test_a_response_of_the_api_stays_what_it_is() -> None:
    application, response = Application("plain"), JsonResponse(b"{}", 200)
    with application.test_request_context("/"):
        assert application.make_response(response) is response
    assert type(response) is JsonResponse
