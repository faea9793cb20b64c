"""The JSON of the summary and the time series on the admin page."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from chatkeep.web.schemas.common import Moment, Time

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
    Meta(description="The metric's name in `/metrics`."),
]
Count = Annotated[int, Meta(ge=0)]


class SeriesQuery(Struct, forbid_unknown_fields=True, rename={"start": "from", "end": "to"}):
    """Which metric, and over which time: the last hour by default, 31 days at most."""

    name: SeriesName
    start: Moment | None = None
    end: Moment | None = None


class SeriesLine(Struct):
    """One line of a chart."""

    label: Annotated[str, Meta(description="The label's value or the quantile; empty if the metric has one line.")]
    values: Annotated[list[float | None], Meta(description="One value per step, `null` if there was no measurement.")]


class Series(Struct, kw_only=True, rename={"start": "from"}):
    """A metric over time: a counter's sums, a gauge's maxima, or a histogram's quantiles in seconds."""

    object: Literal["series"] = "series"
    name: SeriesName
    start: Annotated[Time, Meta(description="The start of the first step.")]
    step: Annotated[int, Meta(description="The length of a step in seconds.", examples=[60, 600, 3600, 86400])]
    lines: list[SeriesLine]


class Summary(Struct, kw_only=True):
    """Current numbers and total counts of all processes and hosts."""

    object: Literal["summary"] = "summary"
    at: Time
    conversations: Annotated[Count | None, Meta(description="`null` before the first count.")]
    storage_bytes: Annotated[Count | None, Meta(description="The database's size; `null` until measured.")]
    replies_generating: Count
    workers: Count
    turns: Annotated[dict[str, Count], Meta(description="Finished turns by status.")]
    tokens: Annotated[dict[str, Count], Meta(description="`input` and `output`.")]
    cache_answers: Annotated[dict[str, Count], Meta(description="`hit` and `miss`.")]
    provider_errors: Annotated[dict[str, Count], Meta(description="Counts by error code.")]
    expired_conversations: Count
