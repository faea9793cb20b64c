"""The operator's page, and the routes that it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flask import Blueprint, Response, render_template

from chatkeep import __version__, errors
from chatkeep.auth.access import Scope
from chatkeep.domain.conversation import now_us
from chatkeep.errors import FieldError, InvalidFields
from chatkeep.exports import dates
from chatkeep.i18n import Text, _, text_of
from chatkeep.reporting import overview
from chatkeep.runtime.metrics import (
    CACHE_ANSWERS,
    CONVERSATIONS,
    EXPIRED,
    GENERATING,
    PROVIDER_ERRORS,
    STORAGE_BYTES,
    TOKENS,
    TURNS,
    WITH_HISTORY,
    WORKERS,
    Metric,
    samples,
)
from chatkeep.web import files
from chatkeep.web.auth import PUBLIC, requires
from chatkeep.web.openapi import Routes
from chatkeep.web.requests import query_as
from chatkeep.web.responses import rendered
from chatkeep.web.schemas import admin as schemas
from chatkeep.web.schemas.common import time_text
from chatkeep.web.services import services

page = Blueprint("admin_page", __name__)
routes = Routes(Blueprint("admin", __name__))

HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000
MOST_DAYS = 31
# Without this library, which the build downloads, the page shows tables.
PLOTS = "vendor/uplot.js"
_METRICS = {metric.name: metric for metric in WITH_HISTORY}


@page.get("/admin")
@requires(PUBLIC)
def admin_page() -> Response:
    """Return the operator's page."""
    plots, modules = (files.FOLDER / PLOTS).exists(), files.imports("admin.js")
    oidc = services().settings.oidc_label
    text = render_template("admin.html", version=__version__, plots=plots, modules=modules, oidc=oidc)
    response = Response(text, mimetype="text/html")
    response.headers["Cache-Control"] = "no-cache"
    return response


@routes.route(
    "GET",
    "/api/admin/summary",
    tag="admin",
    scopes={Scope.ADMIN},
    answers={200: schemas.Summary},
    raises=(errors.StoreUnavailable,),
)
def admin_summary() -> Response:
    """Get the current numbers and total counts of all processes and hosts.

    They are up to 10 s late; conversations and storage are measured twice a minute.
    """
    found = overview.totals(services().database)
    return rendered(
        schemas.Summary(
            at=time_text(now_us()),
            conversations=_measured(found, CONVERSATIONS),
            storage_bytes=_measured(found, STORAGE_BYTES),
            replies_generating=_measured(found, GENERATING) or 0,
            workers=_measured(found, WORKERS) or 0,
            turns=_by_label(found, TURNS),
            tokens=_by_label(found, TOKENS),
            cache_answers=_by_label(found, CACHE_ANSWERS),
            provider_errors=_by_label(found, PROVIDER_ERRORS),
            expired_conversations=_measured(found, EXPIRED) or 0,
        )
    )


def _measured(found: Mapping[str, float], metric: Metric) -> int | None:
    return int(found[metric.name]) if metric.name in found else None


def _by_label(found: Mapping[str, float], metric: Metric) -> dict[str, int]:
    return {value: int(found.get(name, 0)) for value, name in zip(metric.values, samples(metric), strict=True)}


@routes.route(
    "GET",
    "/api/admin/series",
    tag="admin",
    scopes={Scope.ADMIN},
    query=schemas.SeriesQuery,
    answers={200: schemas.Series},
    raises=(errors.InvalidFields, errors.StoreUnavailable),
)
def admin_series() -> Response:
    """Get a metric over time.

    A step is a minute, ten minutes, an hour or a day in UTC, chosen so that there are at most about 200 steps. Minutes
    are kept for 30 days.
    """
    query = query_as(schemas.SeriesQuery)
    end = _moment(query.end, "to", dates.end_us, now_us())
    start = _moment(query.start, "from", dates.start_us, end - HOUR_US)
    if not 0 < end - start <= MOST_DAYS * DAY_US:
        raise _wrong("from", _("must be at most {days} days before to", days=MOST_DAYS))
    found = overview.series(services().database, _METRICS[query.name], start, end)
    lines = [schemas.SeriesLine(line.label, line.values) for line in found.lines]
    return rendered(schemas.Series(name=query.name, start=time_text(found.start), step=found.step * 60, lines=lines))


def _moment(text: str | None, field: str, read: Callable[[str], int], missing: int) -> int:
    try:
        return missing if text is None else read(text)
    except ValueError as error:
        raise _wrong(field, text_of(error)) from error


def _wrong(field: str, message: Text) -> InvalidFields:
    return InvalidFields.of([FieldError(field, message)])
