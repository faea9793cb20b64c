"""Usage: turns, tokens and cost, by caller, day and model. Pure."""

from __future__ import annotations

from typing import NamedTuple

# Stands for "no key", because columns of a primary key cannot be NULL.
NO_KEY = bytes(16)


class UsageKey(NamedTuple):
    """The group of a usage row; ``day`` counts from 1970. Sorts like the rows."""

    account: str
    day: int
    owner: str
    key_id: bytes
    model: str


class UsageTotals(NamedTuple):
    """Turns, tokens, and cost in billionths of the currency."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0

    def plus(self, other: UsageTotals) -> UsageTotals:
        """Return the sum of both."""
        requests, input_tokens, output_tokens, cost = other
        return UsageTotals(
            self.requests + requests,
            self.input_tokens + input_tokens,
            self.output_tokens + output_tokens,
            self.cost + cost,
        )
