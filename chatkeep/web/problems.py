"""Render every error as application/problem+json (RFC 9457) with the request's id."""

from __future__ import annotations

import logging
import math
import os
from http import HTTPStatus
from typing import Any

import msgspec
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from chatkeep import errors
from chatkeep.errors import Problem, ProviderError, StoreProblem, Unauthorized
from chatkeep.i18n import LANGUAGES, Language, _, translated
from chatkeep.runtime.logs import named
from chatkeep.web.headers import OF_PLAIN
from chatkeep.web.schemas import common

log = logging.getLogger(__name__)

MALFORMED_BODY = _("The body is truncated, or its chunks are malformed.")
MEDIA_TYPE = "application/problem+json"
_OF_STATUS: dict[int, type[Problem]] = {
    400: errors.BadRequest,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    408: errors.RequestTimeout,
    412: errors.PreconditionFailed,
    413: errors.BodyTooLarge,
    414: errors.UriTooLong,
    415: errors.UnsupportedMediaType,
    417: errors.ExpectationFailed,
    431: errors.HeadersTooLarge,
    501: errors.UnsupportedTransferCoding,
    505: errors.BadRequest,
}


def register(app: Flask) -> None:
    """Install the error handlers of an application."""
    app.register_error_handler(Problem, respond)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unhandled)


def language() -> Language:
    """Return the language that the client prefers (`Accept-Language`), English by default."""
    if "HTTP_ACCEPT_LANGUAGE" not in request.environ:
        return "en"
    return "zh" if request.accept_languages.best_match(LANGUAGES) == "zh" else "en"


def shape(problem: Problem, request_id: str, language: Language = "en") -> common.Problem:
    """Return a problem's JSON; its code is the same in every language."""
    return common.Problem(
        type=f"urn:chatkeep:problem:{problem.code}",
        title=translated(problem.title, language),
        status=problem.status,
        detail=translated(problem.detail, language),
        code=problem.code,
        request_id=request_id,
        errors=[common.ProblemField(error.field, translated(error.message, language)) for error in problem.errors],
        conversation_id=problem.conversation_id,
        message_id=problem.message_id,
    )


def respond(problem: Problem) -> Response:
    """Return the response for a problem."""
    if isinstance(problem, (StoreProblem, ProviderError)):
        level = logging.ERROR if isinstance(problem, errors.DatabaseRefused) else logging.WARNING
        log.log(level, "%s %s (%s)", g.get("request_id", ""), problem.code, named(problem))
    chosen = language()
    body = msgspec.json.encode(shape(problem, g.get("request_id", ""), chosen))
    response = Response(body, problem.status, mimetype=MEDIA_TYPE)
    response.headers["Content-Language"] = chosen
    response.vary.add("Accept-Language")
    if isinstance(problem, Unauthorized):
        response.headers["WWW-Authenticate"] = "Bearer"
    if problem.retry_after is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(problem.retry_after)))
    return response


def of_status(status: int) -> type[Problem]:
    """Return the problem for a status that a server or Werkzeug chose."""
    return _OF_STATUS.get(status, errors.BadRequest if status < 500 else errors.InternalError)  # noqa: PLR2004


def message(problem: Problem) -> bytes:
    """Return a complete HTTP response with `Connection: close`.

    For servers, if a request does not reach the application.
    """
    headers, body = standalone(problem)
    lines = [f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def standalone(problem: Problem) -> tuple[list[tuple[str, str]], bytes]:
    """Return the headers and the body of a problem without a request."""
    request_id = os.urandom(16).hex()
    body = msgspec.json.encode(shape(problem, request_id))
    headers = [
        ("Content-Type", MEDIA_TYPE),
        ("Content-Language", "en"),
        ("Content-Length", str(len(body))),
        ("X-Request-Id", request_id),
        *OF_PLAIN,
    ]
    return headers, body


def _http_error(error: HTTPException) -> Any:
    """Render an error that Werkzeug raised; redirects pass through."""
    if error.code is None or error.code < 400:  # noqa: PLR2004 - the first status that is an error
        return error
    response = respond(of_status(error.code)())
    allowed = getattr(error, "valid_methods", None)
    if allowed:
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response


def _unhandled(error: Exception) -> Response:
    log.error("%s failed", g.get("request_id", ""), exc_info=error)
    return respond(errors.InternalError(_("The error is logged with the request's id.")))
