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
_COST = "By `CHATKEEP_PRICES`; 0 for cached answers."
Cost = Annotated[float, Meta(description=_COST)]


class UsageQuery(Struct, forbid_unknown_fields=True):
    """Which days, and how to group them."""

    start_date: Annotated[Day, Meta(description="The first day; by default 30 days before the last.")] | None = None
    end_date: Annotated[Day, Meta(description="The last day; today by default.")] | None = None
    group_by: Annotated[
        str,
        Meta(
            pattern=GROUPS,
            description="Any of `day`, `model`, `key`, `account` and `end_user`, comma-separated.",
            examples=["day,model"],
        ),
    ] = "day"
    limit: Annotated[int, Meta(ge=1, le=MOST_ROWS, description="Maximum number of rows.")] = MOST_ROWS
    after: Annotated[int, Meta(ge=0, le=1_000_000, description="Number of rows to skip.")] = 0


class UsageTotal(Struct, kw_only=True):
    """Usage in total."""

    requests: Annotated[int, Meta(description="Number of turns.")]
    input_tokens: int
    output_tokens: int
    cost: Cost


class UsageRow(UsageTotal, kw_only=True):
    """The usage of one group, with the fields that `group_by` names."""

    day: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    key: Annotated[UUID | None, Meta(description="The key's id; `null` without a key.")] | UnsetType = UNSET
    account: str | UnsetType = UNSET
    end_user: (
        Annotated[str | None, Meta(description="The digest of the end user's name; `null` for the account itself.")]
        | UnsetType
    ) = UNSET


class UsageReport(Struct, kw_only=True):
    """Usage by group."""

    object: Literal["usage"] = "usage"
    start_date: str
    end_date: str
    total: Annotated[UsageTotal, Meta(description="The sum of all rows, including other pages.")]
    data: list[UsageRow]
    has_more: bool
