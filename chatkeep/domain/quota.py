"""Limits, quotas, usage and prices. Pure: no I/O and no clock.

A window of a minute or a day begins with a subject's first turn after the last window. It admits exactly as many turns
as the limit says. Tokens are charged when a reply ends: a turn is admitted while any are left, and tokens beyond the
limit count as well. Times are in µs since 1970.
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
# Bytes of text per token if the provider has not counted them: about right for English and for Chinese.
BYTES_PER_TOKEN = 4
CONCURRENT_RETRY_S = 1
MOST = 10**15 - 1  # the largest integer of a structured field (RFC 9651)
Limit = Annotated[int, msgspec.Meta(ge=1, le=MOST)] | None | UnsetType


class NamedLimit(NamedTuple):
    """One limit of a kind of subject."""

    kind: str
    name: str
    most: int
    window: int | None
    """Seconds of the window; None for a limit on concurrency."""


class QuotaStatus(NamedTuple):
    """What remains of each of a caller's limits."""

    limits: tuple[NamedLimit, ...] = ()
    left: tuple[int, ...] = ()
    resets: tuple[int | None, ...] = ()
    """Seconds until the window of each ends."""


class Kind(StrEnum):
    """The kind of subject that a limit applies to."""

    KEY = "key"
    END_USER = "end_user"
    ACCOUNT = "account"


def key_subject(key_id: UUID) -> str:
    """Return a key's subject; the subjects of accounts and end users are their owners."""
    return f"/{key_id.hex}"


def subjects_of(owner: str, key_id: UUID | None) -> tuple[str, ...]:
    """Return a reply's subjects: its account, its end user if there is one, and its key."""
    account, of_end_user, _ = owner.partition("/")
    subjects = (account, owner) if of_end_user else (account,)
    return (*subjects, key_subject(key_id)) if key_id else subjects


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The limits of one subject; null is no limit, and a missing field leaves the default of the settings."""

    requests_per_minute: Limit = UNSET
    requests_per_day: Limit = UNSET
    tokens_per_minute: Limit = UNSET
    tokens_per_day: Limit = UNSET
    concurrent_replies: Limit = UNSET

    def over(self, defaults: Limits) -> Limits:
        """Return these limits, with ``defaults`` for missing fields."""
        return msgspec.convert(msgspec.to_builtins(defaults) | msgspec.to_builtins(self), Limits)


class Defaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The default limits of every kind of subject."""

    key: Limits = Limits()
    end_user: Limits = Limits()
    account: Limits = Limits()


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The price of a million tokens of a model, in any currency."""

    input: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    output: Annotated[float, msgspec.Meta(ge=0)] = 0.0


Prices = tuple[tuple[str, Price], ...]


@dataclass(frozen=True)
class Quota:
    """A subject and its limits."""

    kind: Kind
    subject: str
    limits: Limits

    @cached_property
    def windowed(self) -> tuple[tuple[int, int, int], ...]:
        """The windowed limits, each with its two positions in the result of `WindowUsage.told`."""
        named = ((self.limit(name), places) for name, places in WINDOWED.items())
        return tuple((limit, *places) for limit, places in named if limit is not None)

    @cached_property
    def concurrency(self) -> int | None:
        """How many concurrent replies are allowed."""
        return self.limit(CONCURRENCY)

    @cached_property
    def named(self) -> tuple[NamedLimit, ...]:
        """All limits, in the order of `quota_status`."""
        found = ((name, self.limit(name)) for name in (*WINDOWED, CONCURRENCY))
        return tuple(NamedLimit(self.kind.value, name, limit, _window(name)) for name, limit in found if limit)

    def limit(self, name: str) -> int | None:
        """Return a limit by its name; None if there is none."""
        found = getattr(self.limits, name)
        return found if isinstance(found, int) else None

    def has(self, *names: str) -> bool:
        """Return whether there is a limit of any of these names."""
        return any(self.limit(name) is not None for name in names)


@dataclass(frozen=True, eq=False)
class Quotas:
    """All limits that apply to a caller."""

    each: tuple[Quota, ...] = ()

    def __bool__(self) -> bool:
        """Return whether anything is limited."""
        return bool(self.each)

    @cached_property
    def windowed(self) -> tuple[str, ...]:
        """The subjects with windowed limits."""
        return tuple(one.subject for one in self.each if one.windowed)

    @cached_property
    def of_tokens(self) -> tuple[str, ...]:
        """The subjects whose tokens are limited."""
        return self._having("tokens_per_minute", "tokens_per_day")

    @cached_property
    def concurrency(self) -> tuple[str, ...]:
        """The subjects whose concurrent replies are limited."""
        return self._having(CONCURRENCY)

    @cached_property
    def named(self) -> tuple[NamedLimit, ...]:
        """All limits, in the order of `quota_status`."""
        return tuple(limit for one in self.each for limit in one.named)

    @cached_property
    def taken(self) -> tuple[int, ...]:
        """How much of each limit a turn uses when it begins."""
        return tuple(int(not limit.name.startswith("tokens")) for limit in self.named)

    def _having(self, *names: str) -> tuple[str, ...]:
        return tuple(one.subject for one in self.each if one.has(*names))


UNLIMITED = Quotas()


def _window(name: str) -> int | None:
    """Return the seconds of a limit's window; None if it has none."""
    if name == CONCURRENCY:
        return None
    return MINUTE_S if name.endswith("minute") else DAY_S


class WindowUsage(msgspec.Struct):
    """What a subject has used in its current minute and day, and when those began."""

    minute_began: int = 0
    minute_requests: int = 0
    minute_tokens: int = 0
    day_began: int = 0
    day_requests: int = 0
    day_tokens: int = 0

    def roll(self, now: int) -> None:
        """Reset the windows that are over, or that a jump of the clock has left; clocks of hosts differ by less."""
        if not -MINUTE_US < now - self.minute_began < MINUTE_US:
            self.minute_began, self.minute_requests, self.minute_tokens = now, 0, 0
        if not -DAY_US < now - self.day_began < DAY_US:
            self.day_began, self.day_requests, self.day_tokens = now, 0, 0

    def add(self, now: int, *, requests: int = 0, tokens: int = 0) -> None:
        """Count use."""
        self.roll(now)
        self.minute_requests += requests
        self.minute_tokens += tokens
        self.day_requests += requests
        self.day_tokens += tokens

    def told(self, now: int) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
        """Return the whole seconds that remain of both windows, after a reset if they are over, and what was used."""
        self.roll(now)
        ends = _left(self.minute_began, MINUTE_US, now), _left(self.day_began, DAY_US, now)
        return ends, (self.minute_requests, self.day_requests, self.minute_tokens, self.day_tokens)


def _left(began: int, length: int, now: int) -> int:
    return -(-min(length, began + length - now) // 1_000_000)


class UsageRecord(msgspec.Struct, frozen=True):
    """What a turn has used, for the table ``usage``."""

    owner: str
    key_id: UUID | None
    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0
    """In billionths of the currency of the prices."""
    epoch: int = 0
    """The epoch in which the reply ended; 0 if unknown."""

    @property
    def tokens(self) -> int:
        """All tokens, as limits count them."""
        return self.input_tokens + self.output_tokens


LIMITS = Limits.__struct_fields__
CONCURRENCY = "concurrent_replies"
# The windowed limits, with the positions of their window and their count in the result of `WindowUsage.told`.
WINDOWED = {
    "requests_per_minute": (0, 0),
    "requests_per_day": (1, 1),
    "tokens_per_minute": (0, 2),
    "tokens_per_day": (1, 3),
}


def quota_status(quotas: Quotas, spent: Mapping[str, WindowUsage], running: Mapping[str, int], now: int) -> QuotaStatus:
    """Return what remains of every limit, after a reset of windows that are over."""
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
    """Return what remains after one more turn begins; its tokens are charged when it ends."""
    return QuotaStatus(found.limits, tuple(map(sub, found.left, quotas.taken)), found.resets)


def estimate(texts: Iterable[str]) -> int:
    """Estimate the tokens of texts."""
    return -(-sum(len(text.encode(errors="replace")) for text in texts) // BYTES_PER_TOKEN)


def cost(prices: Prices, model: str, input_tokens: int, output_tokens: int) -> int:
    """Return the cost of tokens, in billionths, by the first name that is a prefix of the model's."""
    price = next((price for name, price in prices if model.startswith(name)), None)
    return round((input_tokens * price.input + output_tokens * price.output) * 1000) if price else 0


def read_defaults(text: str) -> Defaults:
    """Parse the default limits of a JSON object. Raises `ValueError` with the reason."""
    found: Defaults = _read(text, Defaults)
    return found


def read_limits(text: str) -> Limits:
    """Parse the limits of one subject. Raises `ValueError` with the reason."""
    found: Limits = _read(text, Limits)
    return found


def read_prices(text: str) -> Prices:
    """Parse prices by model name, the longest names first. Raises `ValueError` with the reason."""
    found: dict[str, Price] = _read(text, dict[str, Price])
    return tuple(sorted(found.items(), key=lambda pair: len(pair[0]), reverse=True))


def _read(text: str, kind: Any) -> Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error
