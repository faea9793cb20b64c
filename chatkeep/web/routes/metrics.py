"""Counting requests, and the metrics of all processes for Prometheus."""

from __future__ import annotations

import re
from functools import cache

from flask import Blueprint, Request, Response, request

from chatkeep.auth.access import Scope
from chatkeep.reporting import overview
from chatkeep.runtime.metrics import HTTP_REQUESTS, MEDIA_TYPE, exposition
from chatkeep.web.auth import requires
from chatkeep.web.services import services

blueprint = Blueprint("metrics", __name__)
# The label for unknown paths: clients choose them, so they would make unlimited samples.
NO_ROUTE = "none"
_PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")


@blueprint.get("/metrics")
@requires({Scope.ADMIN})
def prometheus_metrics() -> Response:
    """Return the metrics of all processes and hosts in Prometheus' text format: scrape one address.

    Raises `StoreUnavailable`.
    """
    response = Response(exposition(overview.totals(services().database)), content_type=MEDIA_TYPE)
    response.headers["Cache-Control"] = "no-store"
    return response


def count_request(response: Response) -> Response:
    """Count a request by its rule and status; return the response unchanged."""
    services().registry.count(HTTP_REQUESTS, route_of(request), str(response.status_code))
    return response


def route_of(asked: Request) -> str:
    """Return the rule of a request's path."""
    return NO_ROUTE if asked.url_rule is None else _route(asked.url_rule.rule)


@cache
def _route(rule: str) -> str:
    return _PARAMETER.sub(r"{\1}", rule)
