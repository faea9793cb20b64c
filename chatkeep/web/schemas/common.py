"""The JSON that routes share: ids, times, pages of lists, and problems."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from chatkeep.domain.conversation import PAGE_BYTES, moment
from chatkeep.exports import dates
from chatkeep.web.patterns import whole

Item = TypeVar("Item", bound=Struct)
Key = TypeVar("Key")
"""What names an item of a list, and so a place in it."""
Id = Annotated[UUID, Meta(description="A UUIDv7.")]
Time = Annotated[str, Meta(description="RFC 3339 in UTC with milliseconds.", examples=["2026-11-22T09:30:00.000Z"])]
Moment = Annotated[
    str,
    Meta(
        pattern=whole(dates.PATTERN),
        description="A day in UTC, or an RFC 3339 time with its offset (write + as %2B). Inclusive.",
        examples=["2026-11-22", "2026-11-22T09:30:00Z"],
    ),
]
Limit = Annotated[
    int, Meta(ge=1, le=100, description="Maximum number of items. A page ends earlier if it exceeds 4 MiB.")
]
After = Annotated[UUID, Meta(description="Return the items after this id.")]
# Ids begin with the time of their creation, so they are places in a list by creation.
AfterCreated = Annotated[UUID, Meta(description="Return the items after this id, even if it was deleted.")]
Order = Annotated[Literal["asc", "desc"], Meta(description="By creation time: `desc` is newest first.")]


class PageQuery(Struct, forbid_unknown_fields=True):
    """Which page of a list that is sorted by creation."""

    limit: Limit = 20
    after: AfterCreated | None = None
    order: Order = "desc"

    @property
    def ascending(self) -> bool:
        """Whether the oldest item comes first."""
        return self.order == "asc"


class Page(Struct, Generic[Item, Key], kw_only=True):
    """A page of a list."""

    object: Literal["list"] = "list"
    data: list[Item]
    first_id: Key | None
    last_id: Key | None
    has_more: bool


AnyPage = TypeVar("AnyPage", bound=Page[Any, Any])


class Deleted(Struct):
    """What was deleted."""

    id: Id
    deleted: bool = True


class ProblemField(Struct):
    """What is wrong with one field."""

    field: str
    message: str


class Problem(Struct, omit_defaults=True):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: Annotated[str, Meta(description="Stable, for programs.")]
    request_id: str
    errors: list[ProblemField] = []
    conversation_id: Id | None = None
    message_id: Id | None = None


class ApiDocument(Struct):
    """An OpenAPI document."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]


def time_text(at: int) -> str:
    """Return µs since 1970 as RFC 3339 text."""
    seconds, rest = divmod(at, 1_000_000)
    return f"{_second_text(seconds)}.{rest // 1000:03d}Z"


def time_or_none(at: int | None) -> str | None:
    """Return µs since 1970 as RFC 3339 text, None for None."""
    return None if at is None else time_text(at)


@lru_cache(4096)
def _second_text(seconds: int) -> str:
    return f"{moment(seconds * 1_000_000):%Y-%m-%dT%H:%M:%S}"


def page_of(kind: type[AnyPage], items: Sequence[Any], *, has_more: bool) -> AnyPage:
    """Return a page with as many of the items as fit into it."""
    data, is_cut = fitting(items)
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return kind(data=list(data), first_id=first, last_id=last, has_more=has_more or is_cut)


def fitting(items: Sequence[Item]) -> tuple[Sequence[Item], bool]:
    """Return the first items that fit into 4 MiB of JSON, one at least, and whether others are left."""
    left = PAGE_BYTES
    for index, item in enumerate(items):
        left -= len(msgspec.json.encode(item))
        if left < 0:
            shown = items[: max(index, 1)]
            return shown, len(shown) < len(items)
    return items, False
