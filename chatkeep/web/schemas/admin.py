"""The JSON of the operator's page."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from chatkeep.exports import dates
from chatkeep.web.patterns import whole
from chatkeep.web.schemas.chat import Time

SeriesName = Annotated[
    Literal[
        "chatkeep_cache_answers_total",
        "chatkeep_commit_seconds",
        "chatkeep_conversations",
        "chatkeep_expired_conversations_total",
        "chatkeep_first_token_seconds",
        "chatkeep_loop_stalls_total",
        "chatkeep_provider_errors_total",
        "chatkeep_replies_generating",
        "chatkeep_storage_bytes",
        "chatkeep_tokens_total",
        "chatkeep_turn_seconds",
        "chatkeep_turns_total",
        "chatkeep_workers",
    ],
    Meta(description="A metric, as `/metrics` names it."),
]
Moment = Annotated[
    str, Meta(pattern=whole(dates.PATTERN), description="A day in UTC, or a time with its offset (RFC 3339).")
]
Count = Annotated[int, Meta(ge=0)]


class SeriesQuery(Struct, forbid_unknown_fields=True, rename={"start": "from", "end": "to"}):
    """Which metric, and over which time: the last hour where nothing is said, 31 days at most."""

    name: SeriesName
    start: Moment | None = None
    end: Moment | None = None


class SeriesLine(Struct):
    """One line of a plot."""

    label: Annotated[
        str, Meta(description="The value of the metric's label, or the quantile; empty for a metric with one line.")
    ]
    values: Annotated[
        list[float | None], Meta(description="One for each step; null where nothing was measured or observed.")
    ]


class Series(Struct, kw_only=True, rename={"start": "from"}):
    """A metric over time: sums of a counter, the highest of a gauge, quantiles of a histogram in seconds."""

    object: Literal["series"] = "series"
    name: SeriesName
    start: Annotated[Time, Meta(description="Where the first step begins.")]
    step: Annotated[int, Meta(description="Seconds of a step.", examples=[60, 600, 3600, 86400])]
    lines: list[SeriesLine]


class Summary(Struct, kw_only=True):
    """How much there is now, and what was ever counted, over all processes and hosts."""

    object: Literal["summary"] = "summary"
    at: Time
    conversations: Annotated[Count | None, Meta(description="Stored; null until they are counted first.")]
    storage_bytes: Annotated[Count | None, Meta(description="Of the database; null until it is measured first.")]
    replies_generating: Count
    workers: Count
    turns: Annotated[dict[str, Count], Meta(description="Turns that ended, by status.")]
    tokens: Annotated[dict[str, Count], Meta(description="`input` and `output`.")]
    cache_answers: Annotated[dict[str, Count], Meta(description="`hit` and `miss`.")]
    provider_errors: Annotated[dict[str, Count], Meta(description="By code.")]
    expired_conversations: Count
