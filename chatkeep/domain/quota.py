"""What callers may use, what they have used of it, and what it costs. Pure: no I/O and no clock.

A window begins with a subject's first turn after the one before has ended, and holds for a minute or a day. Within it
as many turns are admitted as the limit says, and no more. Tokens are charged when a reply ends: while any are left a
turn is admitted, and what it takes beyond them counts, too. Times are µs since 1970.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from operator import sub
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

MINUTE_S, DAY_S = 60, 86_400
MINUTE_US, DAY_US = MINUTE_S * 1_000_000, DAY_S * 1_000_000
# How many bytes of text make a token where the provider has counted none: about right for English and for Chinese.
BYTES_PER_TOKEN = 4
CONCURRENT_RETRY_S = 1
MOST = 10**15 - 1  # more is no integer of a structured field
Limit = Annotated[int, msgspec.Meta(ge=1, le=MOST)] | None | UnsetType


class NamedLimit(NamedTuple):
    """One limit of one kind of subject."""

    kind: str
    name: str
    most: int
    window: int | None
    """Seconds that a window holds; None where the limit is on what runs at once."""


class QuotaStatus(NamedTuple):
    """What is left of each of a caller's limits."""

    limits: tuple[NamedLimit, ...] = ()
    left: tuple[int, ...] = ()
    resets: tuple[int | None, ...] = ()
    """Seconds until each one's window ends."""


class Kind(StrEnum):
    """What kind of subject a limit holds for."""

    KEY = "key"
    END_USER = "end_user"
    ACCOUNT = "account"


def key_subject(key_id: UUID) -> str:
    """Return what a key is counted under; accounts and end users are counted under their owners' names."""
    return f"/{key_id.hex}"


def subjects_of(owner: str, key_id: UUID | None) -> tuple[str, ...]:
    """Return the subjects that a reply is of: its account, its end user where it has one, and its key."""
    account, of_end_user, _ = owner.partition("/")
    subjects = (account, owner) if of_end_user else (account,)
    return (*subjects, key_subject(key_id)) if key_id else subjects


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The limits of one subject; null is none, and what is left out is as the settings have it."""

    requests_per_minute: Limit = UNSET
    requests_per_day: Limit = UNSET
    tokens_per_minute: Limit = UNSET
    tokens_per_day: Limit = UNSET
    concurrent_replies: Limit = UNSET

    def over(self, defaults: Limits) -> Limits:
        """Return these limits, with those of ``defaults`` where these say nothing."""
        return msgspec.convert(msgspec.to_builtins(defaults) | msgspec.to_builtins(self), Limits)


class Defaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The limits of every subject of a kind."""

    key: Limits = Limits()
    end_user: Limits = Limits()
    account: Limits = Limits()


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a million tokens of a model cost, in whichever currency."""

    input: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    output: Annotated[float, msgspec.Meta(ge=0)] = 0.0


Prices = tuple[tuple[str, Price], ...]


@dataclass(frozen=True)
class Quota:
    """A subject, as it is counted under, and its limits."""

    kind: Kind
    subject: str
    limits: Limits

    @cached_property
    def windowed(self) -> tuple[tuple[int, int, int], ...]:
        """The limits within windows: how much each is, and its two places in what `WindowUsage.told` returns."""
        named = ((self.limit(name), places) for name, places in WINDOWED.items())
        return tuple((limit, *places) for limit, places in named if limit is not None)

    @cached_property
    def concurrency(self) -> int | None:
        """How many replies may be generated at the same time."""
        return self.limit(CONCURRENCY)

    @cached_property
    def named(self) -> tuple[NamedLimit, ...]:
        """All limits by their names, in the order of `quota_status`."""
        found = ((name, self.limit(name)) for name in (*WINDOWED, CONCURRENCY))
        return tuple(NamedLimit(self.kind.value, name, limit, _window(name)) for name, limit in found if limit)

    def limit(self, name: str) -> int | None:
        """Return a limit by its name; None where there is none."""
        found = getattr(self.limits, name)
        return found if isinstance(found, int) else None

    def has(self, *names: str) -> bool:
        """Return whether there is a limit of any of these names."""
        return any(self.limit(name) is not None for name in names)


@dataclass(frozen=True, eq=False)
class Quotas:
    """All limits that hold for what a caller asks for."""

    each: tuple[Quota, ...] = ()

    def __bool__(self) -> bool:
        """Return whether anything is limited."""
        return bool(self.each)

    @cached_property
    def windowed(self) -> tuple[str, ...]:
        """The subjects of which some use is counted."""
        return tuple(one.subject for one in self.each if one.windowed)

    @cached_property
    def of_tokens(self) -> tuple[str, ...]:
        """The subjects whose tokens are limited."""
        return self._having("tokens_per_minute", "tokens_per_day")

    @cached_property
    def concurrency(self) -> tuple[str, ...]:
        """The subjects whose replies at once are limited."""
        return self._having(CONCURRENCY)

    @cached_property
    def named(self) -> tuple[NamedLimit, ...]:
        """All limits by their names, in the order of `quota_status`."""
        return tuple(limit for one in self.each for limit in one.named)

    @cached_property
    def taken(self) -> tuple[int, ...]:
        """How much of each limit a turn takes when it begins."""
        return tuple(int(not limit.name.startswith("tokens")) for limit in self.named)

    def _having(self, *names: str) -> tuple[str, ...]:
        return tuple(one.subject for one in self.each if one.has(*names))


UNLIMITED = Quotas()


def _window(name: str) -> int | None:
    """Return the seconds that a limit's window holds; None where it has none."""
    if name == CONCURRENCY:
        return None
    return MINUTE_S if name.endswith("minute") else DAY_S


class WindowUsage(msgspec.Struct):
    """What a subject has used within its minute and within its day, and when those began."""

    minute_began: int = 0
    minute_requests: int = 0
    minute_tokens: int = 0
    day_began: int = 0
    day_requests: int = 0
    day_tokens: int = 0

    def roll(self, now: int) -> None:
        """Begin the windows anew that are over, or where a clock has jumped: those of several hosts differ by less."""
        if not -MINUTE_US < now - self.minute_began < MINUTE_US:
            self.minute_began, self.minute_requests, self.minute_tokens = now, 0, 0
        if not -DAY_US < now - self.day_began < DAY_US:
            self.day_began, self.day_requests, self.day_tokens = now, 0, 0

    def add(self, now: int, *, requests: int = 0, tokens: int = 0) -> None:
        """Count what is used now."""
        self.roll(now)
        self.minute_requests += requests
        self.minute_tokens += tokens
        self.day_requests += requests
        self.day_tokens += tokens

    def told(self, now: int) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
        """Return the whole seconds that are left of both windows, begun anew where they are over, and what was used."""
        self.roll(now)
        ends = _left(self.minute_began, MINUTE_US, now), _left(self.day_began, DAY_US, now)
        return ends, (self.minute_requests, self.day_requests, self.minute_tokens, self.day_tokens)


def _left(began: int, length: int, now: int) -> int:
    return -(-min(length, began + length - now) // 1_000_000)


class UsageRecord(msgspec.Struct, frozen=True):
    """What a turn has used, for the table of usage, and whose windows its tokens go to."""

    owner: str
    key_id: UUID | None
    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0
    """In billionths of whatever prices are in."""
    subjects: tuple[str, ...] = ()
    """Of the database's."""
    far: tuple[str, ...] = ()
    """Of Redis'."""

    @property
    def tokens(self) -> int:
        """All tokens, as limits count them."""
        return self.input_tokens + self.output_tokens


LIMITS = Limits.__struct_fields__
CONCURRENCY = "concurrent_replies"
# Within windows, with the places of its window and its count in what `WindowUsage.told` returns.
WINDOWED = {
    "requests_per_minute": (0, 0),
    "requests_per_day": (1, 1),
    "tokens_per_minute": (0, 2),
    "tokens_per_day": (1, 3),
}


def quota_status(quotas: Quotas, spent: Mapping[str, WindowUsage], running: Mapping[str, int], now: int) -> QuotaStatus:
    """Return what is left of every limit, windows that are over begun anew."""
    left: list[int] = []
    resets: list[int | None] = []
    for one in quotas.each:
        if one.windowed:
            ends, counts = spent[one.subject].told(now)
            left += [limit - counts[count] for limit, _, count in one.windowed]
            resets += [ends[window] for _, window, _ in one.windowed]
        if one.concurrency is not None:
            left.append(one.concurrency - running[one.subject])
            resets.append(None)
    return QuotaStatus(quotas.named, tuple(left), tuple(resets))


def counted(quotas: Quotas, found: QuotaStatus) -> QuotaStatus:
    """Return what is left when a turn more has begun; its tokens are charged when it ends."""
    return QuotaStatus(found.limits, tuple(map(sub, found.left, quotas.taken)), found.resets)


def estimate(texts: Iterable[str]) -> int:
    """Return about how many tokens texts have."""
    return -(-sum(len(text.encode(errors="replace")) for text in texts) // BYTES_PER_TOKEN)


def cost(prices: Prices, model: str, input_tokens: int, output_tokens: int) -> int:
    """Return what tokens cost, in billionths: by the first name that the model's begins with."""
    price = next((price for name, price in prices if model.startswith(name)), None)
    return round((input_tokens * price.input + output_tokens * price.output) * 1000) if price else 0


def read_defaults(text: str) -> Defaults:
    """Return the limits of a JSON object. Raises `ValueError`, which says what is wrong."""
    found: Defaults = _read(text, Defaults)
    return found


def read_limits(text: str) -> Limits:
    """Return the limits of one subject. Raises `ValueError`, which says what is wrong."""
    found: Limits = _read(text, Limits)
    return found


def read_prices(text: str) -> Prices:
    """Return prices with the model's name, the longest names first. Raises `ValueError`, which says what is wrong."""
    found: dict[str, Price] = _read(text, dict[str, Price])
    return tuple(sorted(found.items(), key=lambda pair: len(pair[0]), reverse=True))


def _read(text: str, kind: Any) -> Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error
