"""The JSON of usage."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from chatkeep.web.patterns import whole

DAY = whole("[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])")
GROUPS = whole("(day|model|key|account|end_user)(,(day|model|key|account|end_user))*")
MOST_ROWS = 1_000
Day = Annotated[str, Meta(pattern=DAY, description="A day in UTC.", examples=["2026-11-22"])]
_COST = "By the prices that the server is set to; 0 for answers that were given before."
Cost = Annotated[float, Meta(description=_COST)]


class UsageQuery(Struct, forbid_unknown_fields=True):
    """Which usage."""

    start_date: Annotated[Day, Meta(description="The first day; 30 days before the last one by default.")] | None = None
    end_date: Annotated[Day, Meta(description="The last day; today by default.")] | None = None
    group_by: Annotated[
        str,
        Meta(
            pattern=GROUPS,
            description="What to tell it by: any of day, model, key, account and end_user, separated by commas.",
            examples=["day,model"],
        ),
    ] = "day"
    limit: Annotated[int, Meta(ge=1, le=MOST_ROWS, description="How many sums to return.")] = MOST_ROWS
    after: Annotated[int, Meta(ge=0, le=1_000_000, description="How many of the first sums to leave out.")] = 0


class UsageTotal(Struct, kw_only=True):
    """What was used."""

    requests: Annotated[int, Meta(description="Turns that were asked for.")]
    input_tokens: int
    output_tokens: int
    cost: Cost


class UsageRow(UsageTotal, kw_only=True):
    """What was used of one group; it has the names that `group_by` asks for."""

    day: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    key: Annotated[UUID | None, Meta(description="The key's id; null without a key.")] | UnsetType = UNSET
    account: str | UnsetType = UNSET
    end_user: (
        Annotated[str | None, Meta(description="The digest of an end user's name; null for the account's own.")]
        | UnsetType
    ) = UNSET


class UsageReport(Struct, kw_only=True):
    """What the caller has used, day by day or by what it asks for."""

    object: Literal["usage"] = "usage"
    start_date: str
    end_date: str
    total: Annotated[UsageTotal, Meta(description="Of all sums, also those on other pages.")]
    data: list[UsageRow]
    has_more: bool
