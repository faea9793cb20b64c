"""Refuse a turn whose caller has reached a limit."""

from __future__ import annotations

from operator import itemgetter

from chatkeep.domain.quota import CONCURRENCY, CONCURRENT_RETRY_S, Kind, NamedLimit, QuotaStatus
from chatkeep.errors import RateLimited
from chatkeep.i18n import N_, Text, _


def require(found: QuotaStatus) -> None:
    """Raise `RateLimited` for the exhausted limit that takes longest to reset, if any limit is exhausted."""
    if min(found.left) > 0:
        return
    used_up = [(resets or CONCURRENT_RETRY_S, limit) for limit, left, resets in zip(*found, strict=True) if left <= 0]
    wait, worst = max(used_up, key=itemgetter(0))
    raise RateLimited(_told(worst, wait), retry_after=wait).with_quota_status(found)


_SUBJECTS = {Kind.KEY: _("this key"), Kind.END_USER: _("this end user"), Kind.ACCOUNT: _("this account")}
_UNITS = {
    "requests_per_minute": N_("{most} requests per minute"),
    "requests_per_day": N_("{most} requests per day"),
    "tokens_per_minute": N_("{most} tokens per minute"),
    "tokens_per_day": N_("{most} tokens per day"),
    CONCURRENCY: N_("{most} concurrent replies"),
}


def _told(limit: NamedLimit, wait: int) -> Text:
    subject, unit = _SUBJECTS[Kind(limit.kind)], Text(_UNITS[limit.name], most=limit.most)
    if limit.window is None:
        return _(
            "Rate limit exceeded for {subject}: {limit}. Wait until a running reply ends.",
            limit=unit,
            subject=subject,
        )
    return _(
        "Rate limit exceeded for {subject}: {limit}. Retry in {seconds} s.",
        limit=unit,
        subject=subject,
        seconds=wait,
    )
