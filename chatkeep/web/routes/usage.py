"""The route of usage."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from flask import Blueprint, Response

from chatkeep import errors
from chatkeep.auth.access import Caller, Scope
from chatkeep.domain.usage import UsageTotals
from chatkeep.errors import FieldError, InvalidFields
from chatkeep.i18n import _
from chatkeep.reporting.usage import Days, today, used
from chatkeep.web.openapi import Routes
from chatkeep.web.requests import query_as
from chatkeep.web.responses import rendered
from chatkeep.web.schemas import usage as schemas
from chatkeep.web.services import caller, services

routes = Routes(Blueprint("usage", __name__))
BILLION = 1_000_000_000
USUAL = timedelta(days=30)


@routes.route(
    "GET",
    "/api/usage",
    tag="usage",
    scopes={Scope.READ, Scope.ADMIN},
    query=schemas.UsageQuery,
    answers={200: schemas.UsageReport},
    raises=(errors.InvalidFields, errors.StoreUnavailable),
)
def read_usage() -> Response:
    """Get turns, tokens and cost by day, model, key, account or end user.

    With an end user the answer covers that end user, otherwise the account with all its end users, and for `admin` keys
    all accounts. Tokens of stopped or broken replies are estimated from the text.
    """
    query = query_as(schemas.UsageQuery)
    days = _days(query)
    groups = tuple(dict.fromkeys(query.group_by.split(",")))
    found = used(services().database, *_whose(caller()), days, groups, limit=query.limit, after=query.after)
    return rendered(
        schemas.UsageReport(
            start_date=days.first.isoformat(),
            end_date=days.last.isoformat(),
            total=schemas.UsageTotal(**_counts(found.total)),
            data=[schemas.UsageRow(**names, **_counts(row)) for names, row in found.rows],
            has_more=found.has_more,
        )
    )


def _whose(by: Caller) -> tuple[str | None, str | None]:
    """Return the account and the owner whose usage a caller may read; None means all."""
    if Scope.ADMIN in by.scopes and not by.end_user:
        return None, None
    return by.account, by.owner if by.end_user else None


def _counts(row: UsageTotals) -> dict[str, Any]:
    return row._asdict() | {"cost": row.cost / BILLION}


def _days(query: schemas.UsageQuery) -> Days:
    last = _day("end_date", query.end_date) or today()
    first = _day("start_date", query.start_date) or last - USUAL
    if last < first:
        wrong = FieldError("end_date", _("must not be before start_date"))
        raise InvalidFields.of([wrong])
    return Days(first, last)


def _day(name: str, text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError as error:
        wrong = FieldError(name, _("is not a valid date"))
        raise InvalidFields.of([wrong]) from error
