"""What is left of the caller's limits, as headers: `RateLimit` and `RateLimit-Policy`.

By draft-ietf-httpapi-ratelimit-headers: lists of structured fields (RFC 9651), an item for each limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from flask import Response, g

from chatkeep.errors import Quota


def note(quotas: Sequence[Quota]) -> None:
    """Remember what is left, for the answer to this request, whatever becomes of it."""
    if quotas:
        g.quotas = quotas


def tell(response: Response) -> Response:
    """Set the headers where this request was counted against limits."""
    quotas: Sequence[Quota] = g.get("quotas", ())
    if quotas:
        response.headers["RateLimit-Policy"] = ", ".join(map(_policy, quotas))
        response.headers["RateLimit"] = ", ".join(map(_state, quotas))
    return response


def _name(quota: Quota) -> str:
    return f'"{quota.kind}.{quota.name}"'


def _policy(quota: Quota) -> str:
    return f"{_name(quota)};q={quota.limit};" + (f"w={quota.window}" if quota.window else 'qu="concurrent-requests"')


def _state(quota: Quota) -> str:
    left = f"{_name(quota)};r={max(0, quota.left)}"
    return left if quota.resets is None else f"{left};t={max(1, math.ceil(quota.resets))}"
