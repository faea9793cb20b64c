"""The windows of limits in Redis, which one script counts and checks atomically."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from chatkeep.domain.quota import DAY_US, MINUTE_US, Quota, Quotas, WindowUsage
from chatkeep.errors import StoreUnavailable
from chatkeep.i18n import _
from chatkeep.runtime.redis import RedisClient

MOST_REMEMBERED = 4096
PREFIX = "chatkeep:window:1:"
# Redis represents integers exactly up to here.
MOST = 2**53
TRIED = ("tried:one", "tried:two")
LOST = "Redis was restarted and has lost what it had counted, so the limits of the minute and the day begin anew"
log = logging.getLogger(__name__)
# KEYS are subjects. ARGV are the turns and tokens that each uses now, whether the script may refuse, and for each
# subject the limits of requests and of tokens, by minute and by day; -1 is no limit. The script returns whether it
# refused, the time, and for each subject when both windows began and what was used in them before. A value that is no
# count, which only another program can have written, counts as 0.
_TAKE = f"""
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local requests, tokens, refusing = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local lengths, found, refused = {{ {MINUTE_US}, {DAY_US} }}, {{}}, 0
local function counted(value)
  local number = tonumber(value)
  return number and number >= 0 and number < {MOST} and number
end
for k, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', key) end
  local was = redis.call('HMGET', key, 'began1', 'requests1', 'tokens1', 'began2', 'requests2', 'tokens2')
  for w = 1, 2 do
    local began, asked, used = counted(was[3 * w - 2]), counted(was[3 * w - 1]), counted(was[3 * w])
    if not (began and asked and used) or math.abs(now - began) >= lengths[w] then began, asked, used = now, 0, 0 end
    local most_asked, most_used = tonumber(ARGV[4 * k + 2 * w - 2]), tonumber(ARGV[4 * k + 2 * w - 1])
    if refusing and (most_asked >= 0 and asked >= most_asked or most_used >= 0 and used >= most_used) then
      refused = 1
    end
    for _, value in ipairs({{ began, asked, used }}) do found[#found + 1] = value end
  end
end
if refused == 0 then
  for k, key in ipairs(KEYS) do
    for w = 1, 2 do
      local began, asked, used = unpack(found, 6 * k + 3 * w - 8, 6 * k + 3 * w - 6)
      redis.call('HSET', key, 'began' .. w, string.format('%.0f', began),
        'requests' .. w, math.max(0, asked + requests), 'tokens' .. w, used + tokens)
    end
    redis.call('PEXPIRE', key, {DAY_US // 1000})
  end
end
return {{ refused, now, unpack(found) }}
"""


_ORDER = ("requests_per_minute", "tokens_per_minute", "requests_per_day", "tokens_per_day")


@dataclass(frozen=True, slots=True)
class Reservation:
    """Redis's answer to a turn: whether a limit refuses it, when, and what was used before."""

    refused: bool
    now: int
    spent: dict[str, WindowUsage]


class RedisWindows:
    """The windows of all subjects of one database in Redis, by Redis's clock."""

    def __init__(self, url: str, database: int) -> None:
        """``database`` is the number of the database."""
        self._prefix = f"{PREFIX}{database:x}:"
        self._redis = RedisClient(url, "the database counts what is limited")
        self._days: dict[str, int] = {}
        """When the days of subjects began that this process has counted recently."""
        self._run: str | None = None

    def reserve(self, quotas: Quotas) -> Reservation | None:
        """Count a turn, unless a limit is reached; None if Redis does not answer."""
        limited = [quota for quota in quotas.each if quota.windowed]
        reservation = self._count([quota.subject for quota in limited], 1, 0, limited)
        if reservation:
            self._notice_loss(reservation)
        return reservation

    def release(self, subjects: tuple[str, ...]) -> None:
        """Give back the reservation of a turn that did not begin."""
        self._count(list(subjects), -1, 0)

    def charge(self, subjects: tuple[str, ...], tokens: int) -> bool:
        """Count tokens; return False if Redis does not answer."""
        return self._count(list(subjects), 0, tokens) is not None

    def forget(self, subject: str) -> None:
        """Delete a subject's windows. Raises `StoreUnavailable`."""
        if self._redis.ask("unlink", self._prefix + subject) is None:
            raise StoreUnavailable(_("Redis does not answer, where counts are that must be forgotten."), retry_after=5)

    def _count(
        self, subjects: list[str], requests: int, tokens: int, refusing: list[Quota] | None = None
    ) -> Reservation | None:
        limits = [_limit(quota, name) for quota in refusing or [] for name in _ORDER]
        keys = [self._prefix + subject for subject in subjects]
        found = self._redis.ask("eval", *_script(keys, requests, tokens, limits))
        return _reservation(subjects, found) if found else None

    def _notice_loss(self, reservation: Reservation) -> None:
        """Log it once if another run of Redis has begun days anew that were not over."""
        began = {subject: spent.day_began for subject, spent in reservation.spent.items()}
        known = {subject: self._days[subject] for subject in began if subject in self._days}
        if self._run is None or any(day < began[subject] < day + DAY_US for subject, day in known.items()):
            before, self._run = self._run, self._run_id()
            if before and self._run and before != self._run:
                log.warning(LOST)
        if len(self._days) > MOST_REMEMBERED:
            self._days.clear()
        self._days |= began

    def _run_id(self) -> str:
        """Return the id of this run of Redis, which changes at a restart; empty if Redis does not tell."""
        try:
            return str(self._redis.demand("info", "server").get("run_id", ""))
        except OSError:
            return ""


def _limit(quota: Quota, name: str) -> int:
    limit = quota.limit(name)
    return -1 if limit is None else limit


def _script(keys: list[str], requests: int, tokens: int, limits: list[int]) -> list[Any]:
    """Return the arguments of `eval`; without limits the script refuses nothing."""
    most = limits or [-1] * (len(_ORDER) * len(keys))
    return [_TAKE, len(keys), *keys, requests, tokens, int(bool(limits)), *most]


def _reservation(subjects: list[str], found: list[int]) -> Reservation:
    refused, now, *used = found
    spent = {subject: WindowUsage(*used[6 * index : 6 * index + 6]) for index, subject in enumerate(subjects)}
    return Reservation(bool(refused), now, spent)


def try_out(redis: RedisClient) -> None:
    """Run the script on subjects of its own. Raises `OSError` if Redis refuses."""
    keys = [PREFIX + subject for subject in TRIED]
    redis.demand("eval", *_script(keys, 1, 0, [1] * (len(_ORDER) * len(keys))))
    redis.demand("unlink", *keys)
