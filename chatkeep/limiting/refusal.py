"""Refuse a turn whose caller has reached a limit."""

from __future__ import annotations

from operator import itemgetter

from chatkeep.domain.quota import CONCURRENCY, CONCURRENT_RETRY_S, Kind, NamedLimit, QuotaStatus
from chatkeep.errors import RateLimited


def require(found: QuotaStatus) -> None:
    """Raise `RateLimited` for the exhausted limit that takes longest to reset, if any limit is exhausted."""
    if min(found.left) > 0:
        return
    used_up = [(resets or CONCURRENT_RETRY_S, limit) for limit, left, resets in zip(*found, strict=True) if left <= 0]
    wait, worst = max(used_up, key=itemgetter(0))
    raise RateLimited(_told(worst, wait), retry_after=wait).with_quota_status(found)


_SUBJECTS = {Kind.KEY: "this key", Kind.END_USER: "this end user", Kind.ACCOUNT: "this account"}
_UNITS = {
    "requests_per_minute": "{} requests per minute",
    "requests_per_day": "{} requests per day",
    "tokens_per_minute": "{} tokens per minute",
    "tokens_per_day": "{} tokens per day",
    CONCURRENCY: "{} replies at once",
}


def _told(limit: NamedLimit, wait: int) -> str:
    subject, unit = _SUBJECTS[Kind(limit.kind)], _UNITS[limit.name].format(limit.most)
    if limit.window is None:
        return f"The limit of {unit} for {subject} is reached; wait until one of them has ended."
    return f"The limit of {unit} for {subject} is reached; come back in {wait} s."
