"""Lets turns past their callers' limits, and charges what they use: in Redis if it can be used, else in the database.

Either way one place counts for all processes and hosts. In the database that is the turn's own transaction: what is
refused or fails counts nothing. Redis is asked before, and given back what did not become a turn. Replies at once are
counted by their leases, which are there as long as the replies are generated, and not a moment longer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any
from uuid import UUID

from chatkeep.auth.access import Caller
from chatkeep.domain.conversation import Message, Prompt, Usage, now_us
from chatkeep.domain.quota import (
    DAY_US,
    LIMITS,
    MINUTE_US,
    UNLIMITED,
    Defaults,
    Kind,
    Limits,
    Prices,
    Quota,
    Quotas,
    QuotaStatus,
    UsageRecord,
    WindowUsage,
    cost,
    counted,
    estimate,
    key_subject,
    quota_status,
    read_limits,
)
from chatkeep.errors import OutcomeUnknown, StoreUnavailable
from chatkeep.limiting.aggregator import UsageAggregator
from chatkeep.limiting.refusal import require
from chatkeep.runtime.redis import RedisClient
from chatkeep.store import leases
from chatkeep.store.journal import Journal
from chatkeep.store.leases import Lease
from chatkeep.store.sql import Connection

MOST_REMEMBERED = 4096
PREFIX = "chatkeep:window:1:"
# Up to here Redis's numbers are exact.
MOST = 2**53
TRIED = ("tried:one", "tried:two")
LOST = "Redis was restarted and has lost what it had counted, so the limits of the minute and the day begin anew"
log = logging.getLogger(__name__)
# KEYS are subjects; ARGV are how many turns and tokens each has used now, whether it may be refused, and then for each
# the limits of requests and of tokens by the minute and by the day, -1 where there is none. It answers whether it
# refused, the time, and for each subject when both windows began and what was used
# in them before. What is no count, which only another program can have written, counts as nothing.
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


@dataclass(frozen=True, slots=True)
class Taken:
    """Whether Redis has counted a turn, when, and what it had counted before."""

    refused: bool
    now: int
    spent: dict[str, WindowUsage]


class RedisWindows:
    """The windows of all subjects of one database in Redis, by its own clock."""

    def __init__(self, url: str, database: int) -> None:
        """``database`` is the number of the database."""
        self._prefix = f"{PREFIX}{database:x}:"
        self._redis = RedisClient(url, "the database counts what is limited")
        self._days: dict[str, int] = {}
        """When the days of subjects began that this process has counted for, as far as it remembers."""
        self._run: str | None = None

    def reserve(self, quotas: Quotas) -> Taken | None:
        """Count a turn, unless a limit is reached; None where Redis does not answer."""
        limited = [allowance for allowance in quotas.each if allowance.windowed]
        taken = self._count([allowance.subject for allowance in limited], 1, 0, limited)
        if taken:
            self._notice_loss(taken)
        return taken

    def release(self, subjects: tuple[str, ...]) -> None:
        """Count a turn less: it was none."""
        self._count(list(subjects), -1, 0)

    def charge(self, subjects: tuple[str, ...], tokens: int) -> bool:
        """Count tokens; return False where Redis does not answer."""
        return self._count(list(subjects), 0, tokens) is not None

    def forget(self, subject: str) -> None:
        """Forget what a subject has used. Raises `StoreUnavailable`."""
        if self._redis.ask("unlink", self._prefix + subject) is None:
            raise StoreUnavailable("Redis does not answer, where counts are that must be forgotten.", retry_after=5)

    def _count(
        self, subjects: list[str], requests: int, tokens: int, refusing: list[Quota] | None = None
    ) -> Taken | None:
        limits = [_limit(allowance, name) for allowance in refusing or [] for name in _ORDER]
        keys = [self._prefix + subject for subject in subjects]
        found = self._redis.ask("eval", *_script(keys, requests, tokens, limits))
        return _taken(subjects, found) if found else None

    def _notice_loss(self, taken: Taken) -> None:
        """Log it once if days began anew that are not over because another run of Redis knows nothing of them."""
        began = {subject: spent.day_began for subject, spent in taken.spent.items()}
        known = {subject: self._days[subject] for subject in began if subject in self._days}
        if self._run is None or any(day < began[subject] < day + DAY_US for subject, day in known.items()):
            before, self._run = self._run, self._run_id()
            if before and self._run and before != self._run:
                log.warning(LOST)
        if len(self._days) > MOST_REMEMBERED:
            self._days.clear()
        self._days |= began

    def _run_id(self) -> str:
        """Return what names this run of Redis, which changes when it restarts; nothing if Redis does not tell."""
        try:
            return str(self._redis.demand("info", "server").get("run_id", ""))
        except OSError:
            return ""


_ORDER = ("requests_per_minute", "tokens_per_minute", "requests_per_day", "tokens_per_day")


def _limit(allowance: Quota, name: str) -> int:
    limit = allowance.limit(name)
    return -1 if limit is None else limit


def _script(keys: list[str], requests: int, tokens: int, limits: list[int]) -> list[Any]:
    """Return what `eval` runs; without limits nothing is refused."""
    most = limits or [-1] * (len(_ORDER) * len(keys))
    return [_TAKE, len(keys), *keys, requests, tokens, int(bool(limits)), *most]


def try_out(redis: RedisClient) -> None:
    """Do with subjects of its own what limits do with Redis. Raises `OSError` if Redis refuses."""
    keys = [PREFIX + subject for subject in TRIED]
    redis.demand("eval", *_script(keys, 1, 0, [1] * (len(_ORDER) * len(keys))))
    redis.demand("unlink", *keys)


def _taken(subjects: list[str], found: list[int]) -> Taken:
    refused, now, *used = found
    spent = {subject: WindowUsage(*used[6 * index : 6 * index + 6]) for index, subject in enumerate(subjects)}
    return Taken(bool(refused), now, spent)


class Admission:
    """One turn's way past its caller's limits."""

    def __init__(self, quotas: Quotas, taken: Taken | None = None) -> None:
        self.quota_status = QuotaStatus()
        """What is left of each limit, the turn counted in."""
        self.counted = False
        """Whether it became a turn, and not the repetition of one."""
        self._taken = taken
        self._quotas = quotas
        self._here = () if taken else quotas.windowed
        self.subjects = self._here + quotas.concurrency
        """What the turn's transaction has to hold, so that nobody else is let past at the same time."""

    def check(self, connection: Connection, owner: str, key_id: UUID | None) -> None:
        """Raise `RateLimited` where a limit is reached, before anything is written. Runs in the journal."""
        self.counted = False
        if not self._quotas:
            return
        spent, now = (self._taken.spent, self._taken.now) if self._taken else (connection.ledger.spent, now_us())
        found = quota_status(self._quotas, spent, self._running(connection, owner, key_id), now)
        require(found)
        self.quota_status = counted(self._quotas, found)

    def count(self, connection: Connection) -> None:
        """Count the turn, which is stored now. Runs in the journal."""
        if self._here:
            connection.ledger.charge(self._here, now_us(), requests=1)
        self.counted = True

    def _running(self, connection: Connection, owner: str, key_id: UUID | None) -> Mapping[str, int]:
        """Return how many replies are being generated for the subjects, at least those where that is limited."""
        if not self._quotas.concurrency:
            return {}
        known = connection.ledger.running
        if not all(map(known.__contains__, self._quotas.concurrency)):
            known.update(leases.running(connection, owner, key_id))
        return known


# Of turns that nothing limits: all of them share it.
FREE = Admission(UNLIMITED)
_FREELY = nullcontext(FREE)


@contextmanager
def _asking(redis: RedisWindows, quotas: Quotas) -> Iterator[Admission]:
    """Count in Redis, and give back what does not become a turn."""
    taken = redis.reserve(quotas)
    admission, certain = Admission(quotas, taken), True
    try:
        yield admission
    except OutcomeUnknown:
        certain = False  # the turn may have been stored
        raise
    except BaseException:
        admission.counted = False
        raise
    finally:
        if taken and not taken.refused and certain and not admission.counted:
            redis.release(quotas.windowed)


def _estimated(message: Message, asked: Prompt | None) -> Usage:
    """Return about how many tokens a reply took of which the provider has counted none; without a word it took none."""
    said = [message.content, message.reasoning]
    if asked is None or not any(said):
        return Usage(0, 0)
    return Usage(estimate(one.content for one in asked.messages), estimate(said))


def _quotas(defaults: Defaults, account: str, key_id: UUID | None, own: str | None, end_user: str | None) -> Quotas:
    found = [Quota(Kind.ACCOUNT, account, defaults.account)]
    if key_id:
        limits = read_limits(own) if own else Limits()
        found.append(Quota(Kind.KEY, key_subject(key_id), limits.over(defaults.key)))
    if end_user:
        found.append(Quota(Kind.END_USER, end_user, defaults.end_user))
    return Quotas(tuple(one for one in found if one.has(*LIMITS)))


class Limiter:
    """Counts for one process what is counted for all."""

    def __init__(
        self,
        limits: Defaults,
        prices: Prices,
        journal: Journal,
        usage: UsageAggregator,
        redis: RedisWindows | None = None,
    ) -> None:
        self._limits_all = limits != Defaults()
        self._quotas = lru_cache(MOST_REMEMBERED)(partial(_quotas, limits))
        self._prices = prices
        self._journal = journal
        self._usage = usage
        self._redis = redis

    def quotas(self, caller: Caller) -> Quotas:
        """Return the limits that hold for what a caller asks for."""
        if caller.limits is None and not self._limits_all:
            return UNLIMITED
        end_user = caller.owner if caller.end_user else None
        return self._quotas(caller.account, caller.counts_for, caller.limits, end_user)

    def asking(self, quotas: Quotas) -> AbstractContextManager[Admission]:
        """Return what lets the turn past that is taken within."""
        if not quotas:
            return _FREELY
        if self._redis and quotas.windowed:
            return _asking(self._redis, quotas)
        return nullcontext(Admission(quotas))

    def forget(self, subject: str) -> None:
        """Forget what a subject has used, as far as it is not in the database. Raises `StoreUnavailable`."""
        if self._redis:
            self._redis.forget(subject)

    def usage_record(self, lease: Lease, message: Message, quotas: Quotas, asked: Prompt | None = None) -> UsageRecord:
        """Return what a reply has used: as the provider counted it, else about what its text and the prompt have.

        An answer that was given before counts like any other, and costs nothing.
        """
        used = message.usage or _estimated(message, asked)
        model, tokens = message.model or "", (used.input_tokens, used.output_tokens)
        price = 0 if message.cached else cost(self._prices, model, *tokens)
        here = self.charged(quotas)
        far = () if here else quotas.of_tokens
        return UsageRecord(lease.owner, lease.key_id, model, *tokens, price, here, far)

    def charged(self, quotas: Quotas) -> tuple[str, ...]:
        """Return the subjects whose tokens a reply's end charges in its transaction, which has to hold them."""
        return () if self._redis else quotas.of_tokens

    def charge(self, usage_record: UsageRecord) -> None:
        """Charge what was used, as far as the reply's end has not; call it before anybody is told of that."""
        self._usage.add(usage_record)
        if usage_record.far and self._redis and not self._redis.charge(usage_record.far, usage_record.tokens):
            self._journal.write(
                lambda connection: connection.ledger.charge(usage_record.far, now_us(), tokens=usage_record.tokens),
                retry_until_up=True,
                subjects=usage_record.far,
            )
