"""The pages, and the OpenAPI documents."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import flask_swagger_ui
import msgspec
from flask import Blueprint, Flask, Response, current_app, render_template, request, send_from_directory

from chatkeep import __version__
from chatkeep.web import files
from chatkeep.web.auth import PUBLIC, requires
from chatkeep.web.openapi import Routes, document
from chatkeep.web.openapi_versions import Version, in_version
from chatkeep.web.responses import unlisted
from chatkeep.web.schemas.common import ApiDocument
from chatkeep.web.services import services

pages = Blueprint("web", __name__, template_folder="../templates")
routes = Routes(Blueprint("documents", __name__))
DOCUMENT = "chatkeep.openapi"
_SWAGGER = Path(flask_swagger_ui.__file__).parent / "dist"


@pages.get("/")
@requires(PUBLIC)
def chat_page() -> Response:
    """Return the chat page."""
    return _page("chat.html", demo=services().settings.demo, modules=files.imports("chat.js"))


@pages.get("/shared/<token>")
@requires(PUBLIC)
def shared_page(token: str) -> Response:  # noqa: ARG001 - the page's script reads it
    """Return the page that shows a shared conversation."""
    return unlisted(_page("shared.html", modules=files.imports("shared.js")))


@pages.get("/static/<path:filename>", endpoint="static")
@pages.get("/static/v/<version>/<path:filename>", endpoint="static")
@requires(PUBLIC)
def static_file(filename: str, version: str | None = None) -> Response:
    """Return a static file."""
    return files.answer(filename, version)


@pages.app_url_defaults
def name_version(endpoint: str, values: dict[str, Any]) -> None:
    """Put the version into the URLs of static files in templates."""
    if endpoint == "web.static":
        values.setdefault("version", files.current_version())


@pages.get("/docs")
@requires(PUBLIC)
def docs_page() -> Response:
    """Return Swagger UI."""
    return _page("docs.html")


@pages.get("/docs/assets/<path:name>")
@requires(PUBLIC)
def docs_asset(name: str) -> Response:
    """Return one of Swagger UI's files."""
    return send_from_directory(_SWAGGER, name, max_age=3600)


@routes.route("GET", "/openapi.json", tag="documents", scopes=PUBLIC, answers={200: ApiDocument})
def openapi() -> Response:
    """Get the OpenAPI 3.2 document, which describes streams event by event."""
    return _document("3.2")


@routes.route("GET", "/openapi-3.2.json", tag="documents", scopes=PUBLIC, answers={200: ApiDocument})
def openapi_3_2() -> Response:
    """Get the OpenAPI 3.2 document, even after `/openapi.json` moves to a newer version."""
    return _document("3.2")


@routes.route("GET", "/openapi-3.1.json", tag="documents", scopes=PUBLIC, answers={200: ApiDocument})
def openapi_3_1() -> Response:
    """Get the OpenAPI 3.1 document, for generators and validators that don't support 3.2."""
    return _document("3.1")


def _document(version: Version) -> Response:
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - documented by Flask
    return files.fresh(_described(app, request.script_root or "/", version))


@lru_cache(maxsize=4)
def _described(app: Flask, root: str, version: Version) -> files.File:
    """Return an OpenAPI document. Building it blocks the event loop for about 50 ms, so it is cached."""
    described = in_version(document(app.extensions[DOCUMENT], root), version)
    return files.made(msgspec.json.encode(described), "application/json")


def _page(template: str, **values: Any) -> Response:
    return files.page(render_template(template, version=__version__, oidc=services().settings.oidc_label, **values))
