"""The headers `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers).

Each is a list of structured fields (RFC 9651) with an item for each limit.
"""

from __future__ import annotations

from functools import lru_cache

from flask import Response, g

from chatkeep.domain.quota import NamedLimit, QuotaStatus

MAX_CACHED = 1024


def note(quota_status: QuotaStatus) -> None:
    """Remember the quotas for the response, also if the request fails."""
    if quota_status.limits:
        g.quota_status = quota_status


def tell(response: Response) -> Response:
    """Set the headers if this request counted against limits."""
    quota_status: QuotaStatus | None = g.get("quota_status")
    if quota_status:
        policy, state = _texts(quota_status.limits)
        response.headers.add("RateLimit-Policy", policy)
        response.headers.add(
            "RateLimit", state.format(*(max(0, left) for left in quota_status.left), *quota_status.resets)
        )
    return response


@lru_cache(maxsize=MAX_CACHED)
def _texts(limits: tuple[NamedLimit, ...]) -> tuple[str, str]:
    """Return both headers; the second is a template for the remaining quotas and the seconds until reset."""
    states = [_state(limit, index, index + len(limits)) for index, limit in enumerate(limits)]
    return ", ".join(map(_policy, limits)), ", ".join(states)


def _policy(limit: NamedLimit) -> str:
    window = 'qu="concurrent-requests"' if limit.window is None else f"w={limit.window}"
    return f'"{limit.kind}.{limit.name}";q={limit.most};{window}'


def _state(limit: NamedLimit, left: int, resets: int) -> str:
    return f'"{limit.kind}.{limit.name}";r={{{left}}}' + ("" if limit.window is None else f";t={{{resets}}}")
