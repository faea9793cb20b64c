"""What was used: turns, tokens and what they cost, by caller, day and model."""

from __future__ import annotations

from typing import NamedTuple

# A key that is none: a primary key has no NULL.
NO_KEY = bytes(16)


class UsageKey(NamedTuple):
    """Who used it, on which day since 1970, and of which model; ordered as the rows are."""

    account: str
    day: int
    owner: str
    key_id: bytes
    model: str


class UsageTotals(NamedTuple):
    """Turns, tokens, and their cost in billionths."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0

    def plus(self, other: UsageTotals) -> UsageTotals:
        """Return both together."""
        requests, input_tokens, output_tokens, cost = other
        return UsageTotals(
            self.requests + requests,
            self.input_tokens + input_tokens,
            self.output_tokens + output_tokens,
            self.cost + cost,
        )
