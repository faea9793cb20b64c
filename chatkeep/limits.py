"""What callers may use, what they have used of it, and what it costs. Pure: no I/O and no clock.

A window begins with a subject's first turn after the one before has ended, and holds for a minute or a day. Within it
as many turns are admitted as the limit says, and no more. Tokens are charged when a reply ends: while any are left a
turn is admitted, and what it takes beyond them counts, too. Times are µs since 1970.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from chatkeep.errors import Quota, RateLimited

MINUTE_S, DAY_S = 60, 86_400
MINUTE_US, DAY_US = MINUTE_S * 1_000_000, DAY_S * 1_000_000
# How many bytes of text make a token where the provider has counted none: about right for English and for Chinese.
BYTES_PER_TOKEN = 4
CONCURRENT_RETRY_S = 1.0
MOST = 10**15 - 1  # more is no integer of a structured field
Limit = Annotated[int, msgspec.Meta(ge=1, le=MOST)] | None | UnsetType


class Kind(StrEnum):
    """What kind of subject a limit holds for."""

    KEY = "key"
    END_USER = "end_user"
    ACCOUNT = "account"


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
class Allowance:
    """A subject, as it is counted under, and its limits."""

    kind: Kind
    subject: str
    limits: Limits

    @cached_property
    def windowed(self) -> tuple[tuple[str, int, bool, bool], ...]:
        """The limits within windows: name, limit, whether it is by the minute, and whether it is on requests."""
        named = ((name, self.limit(name)) for name in WINDOWED)
        return tuple(
            (name, limit, name.endswith("minute"), name.startswith("requests"))
            for name, limit in named
            if limit is not None
        )

    def limit(self, name: str) -> int | None:
        """Return a limit by its name; None where there is none."""
        found = getattr(self.limits, name)
        return found if isinstance(found, int) else None

    def has(self, *names: str) -> bool:
        """Return whether there is a limit of any of these names."""
        return any(self.limit(name) is not None for name in names)


@dataclass(slots=True)
class Window:
    """What was used since the window began."""

    length: int
    began: int = 0
    requests: int = 0
    tokens: int = 0

    def roll(self, now: int) -> None:
        """Begin anew where the window is over, or where a clock has jumped: those of several hosts differ by less."""
        if not -self.length < now - self.began < self.length:
            self.began, self.requests, self.tokens = now, 0, 0

    def left(self, now: int) -> float:
        """Return the seconds until the window ends."""
        return min(self.length, self.began + self.length - now) / 1_000_000


@dataclass(slots=True)
class Spent:
    """What a subject has used within its minute and within its day."""

    minute: Window = field(default_factory=lambda: Window(MINUTE_US))
    day: Window = field(default_factory=lambda: Window(DAY_US))

    def roll(self, now: int) -> None:
        """Begin the windows anew that are over."""
        self.minute.roll(now)
        self.day.roll(now)

    def add(self, now: int, *, requests: int = 0, tokens: int = 0) -> None:
        """Count what is used now."""
        self.roll(now)
        for window in (self.minute, self.day):
            window.requests += requests
            window.tokens += tokens


@dataclass(frozen=True, slots=True)
class Bill:
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
WINDOWED = ("requests_per_minute", "requests_per_day", "tokens_per_minute", "tokens_per_day")
_TOKENS = ("tokens_per_minute", "tokens_per_day")


def windowed(allowances: Iterable[Allowance]) -> tuple[str, ...]:
    """Return the subjects of which some use is counted."""
    return tuple(allowance.subject for allowance in allowances if allowance.windowed)


def of_tokens(allowances: Iterable[Allowance]) -> tuple[str, ...]:
    """Return the subjects whose tokens are limited."""
    return tuple(allowance.subject for allowance in allowances if allowance.has(*_TOKENS))


def quotas(
    allowances: Iterable[Allowance], spent: Mapping[str, Spent], running: Mapping[str, int], now: int
) -> tuple[Quota, ...]:
    """Return what is left of every limit, windows that are over begun anew."""
    for used in spent.values():
        used.roll(now)
    return tuple(quota for one in allowances for quota in _quotas(one, spent, running, now))


def _quotas(allowance: Allowance, spent: Mapping[str, Spent], running: Mapping[str, int], now: int) -> Iterator[Quota]:
    kind, used = allowance.kind.value, spent.get(allowance.subject)
    if used is not None:
        minute, day = used.minute.left(now), used.day.left(now)
        for name, limit, of_minute, of_requests in allowance.windowed:
            window, resets = (used.minute, minute) if of_minute else (used.day, day)
            left = limit - (window.requests if of_requests else window.tokens)
            yield Quota(kind, name, limit, left, MINUTE_S if of_minute else DAY_S, resets)
    at_once = allowance.limits.concurrent_replies
    if isinstance(at_once, int):
        yield Quota(kind, "concurrent_replies", at_once, at_once - running.get(allowance.subject, 0))


def require(found: tuple[Quota, ...]) -> None:
    """Raise `RateLimited` where nothing is left of a limit: of that which takes the longest to be there again."""
    used_up = [quota for quota in found if quota.left <= 0]
    if used_up:
        worst = max(used_up, key=_wait)
        raise RateLimited(_told(worst), retry_after=_wait(worst)).with_quotas(found)


def _wait(quota: Quota) -> float:
    return CONCURRENT_RETRY_S if quota.resets is None else quota.resets


_SUBJECTS = {Kind.KEY: "this key", Kind.END_USER: "this end user", Kind.ACCOUNT: "this account"}
_UNITS = {
    "requests_per_minute": "{} requests per minute",
    "requests_per_day": "{} requests per day",
    "tokens_per_minute": "{} tokens per minute",
    "tokens_per_day": "{} tokens per day",
    "concurrent_replies": "{} replies at once",
}


def _told(quota: Quota) -> str:
    subject, unit = _SUBJECTS[Kind(quota.kind)], _UNITS[quota.name].format(quota.limit)
    if quota.resets is None:
        return f"The limit of {unit} for {subject} is reached; wait until one of them has ended."
    return f"The limit of {unit} for {subject} is reached; come back in {max(1, -int(-quota.resets // 1))} s."


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
