"""A Redis that answers but is unusable, or has lost or never had a value. All of them are real."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatkeep.auth.access import random_text
from chatkeep.domain.conversation import new_id
from chatkeep.domain.quota import Kind, Limits, Quota, Quotas
from chatkeep.limiting import redis_windows
from chatkeep.limiting.redis_windows import PREFIX, RedisWindows
from chatkeep.runtime.redis import RedisClient, Refused
from chatkeep.turns import cache
from chatkeep.turns.cache import Answer, MemoryCache, RedisCache
from tests.services.redis import UNUSABLE, Redis, ensure_installed, unusable_redis

pytestmark = pytest.mark.posix("Redis: the tests start it on Linux only")
# The identity of the database of the answers and counts.
NUMBER = 7


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    """A Redis for this file alone."""
    ensure_installed()
    with Redis() as running:
        yield running


@pytest.fixture(params=UNUSABLE)
def unusable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Redis]:
    """A Redis that only answers PING."""
    with unusable_redis(request.param, tmp_path) as running:
        assert RedisClient(running.url, "a test").demand("ping") is True
        yield running


def allowed(subject: str, requests: int) -> Quotas:
    return Quotas((Quota(Kind.ACCOUNT, subject, Limits(requests_per_day=requests)),))


def an_answer() -> Answer:
    return Answer(new_id(), new_id(), "hello", "", "m", "stop", 1, 2, 0)


def test_unusable_redis_is_detected_on_use(unusable: Redis) -> None:
    client = RedisClient(unusable.url, "a test")
    for try_out in (cache.try_out, redis_windows.try_out):
        with pytest.raises(Refused):
            try_out(client)


def test_outage_is_logged_once(unusable: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """Ends every pause at once, as if five seconds had passed."""
    client = RedisClient(unusable.url, "the cache goes on")
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            client._silent_until = 0.0  # noqa: SLF001 - in place of waiting
            assert client.ask("set", "a", b"b") is None
            client._silent_until = 0.0  # noqa: SLF001
            client.ask("ping")
    (line,) = [record.getMessage() for record in caplog.records if record.name == "chatkeep.runtime.redis"]
    assert line.startswith("Redis refuses, the cache goes on without: Refused < ")


def test_recovery_is_logged(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    client = RedisClient(redis.url, "the cache goes on")
    with caplog.at_level(logging.INFO):
        with redis.away():
            assert client.ask("get", "a") is None
        client._silent_until = 0.0  # noqa: SLF001
        client.ask("set", "a", b"b", px=1)
        client.ask("get", "a")
        client.ask("get", "a")
    told = [record.getMessage() for record in caplog.records if record.name == "chatkeep.runtime.redis"]
    assert [line.partition(",")[0] for line in told] == ["Redis does not answer", "Redis can be used again"]


@pytest.mark.parametrize(
    "planted",
    [
        ("SET", "", "\\x00"),
        ("SET", "", "not msgpack"),
        ("SET", "", "\x80"),
        ("SET", "", "\x93\x01\x02\x03"),
        ("SET", "", "\xa4text"),
        ("SET", "", "\xd9\x02\xff\xfe"),
        ("RPUSH", "", "1"),
        ("HSET", "", "a", "1"),
        ("SADD", "", "a"),
        ("ZADD", "", "1", "a"),
    ],
    ids=repr,
)
def test_invalid_value_is_a_miss_and_replaced(redis: Redis, planted: tuple[str, ...]) -> None:
    shared = RedisCache(redis.url, NUMBER, MemoryCache(100_000, 60), 60)
    key = os.urandom(32)
    redis.plant(planted[0], cache.PREFIX + f"{NUMBER:x}:{key.hex()}".encode(), *planted[2:])
    assert shared.get_shared(key) is None
    shared.put(key, an_answer())
    assert RedisCache(redis.url, NUMBER, MemoryCache(100_000, 60), 60).get_shared(key)


@pytest.mark.parametrize("change", [{"finish_reason": "x" * 65}, {"input_tokens": 2**63}, {"stored_at": -1}])
def test_unstorable_answer_is_a_miss(redis: Redis, change: dict[str, object]) -> None:
    import msgspec  # noqa: PLC0415

    shared, key = RedisCache(redis.url, NUMBER, MemoryCache(100_000, 60), 60), os.urandom(32)
    packed = msgspec.msgpack.encode(msgspec.structs.asdict(an_answer()) | change)
    redis.plant("SET", cache.PREFIX + f"{NUMBER:x}:{key.hex()}".encode(), packed)
    assert shared.get_shared(key) is None


@pytest.mark.parametrize(
    "planted",
    [
        ("SET", "x"),
        ("RPUSH", "1"),
        ("HSET", "began1", "x", "requests1", "y", "tokens1", "z"),
        ("HSET", "began2", "1e300", "requests2", "nan", "tokens2", "-5"),
        ("HSET", "requests2", "99"),
        ("HSET", "began1", "{now}", "began2", "{now}", "requests2", "inf"),
    ],
    ids=repr,
)
def test_invalid_counts_count_as_zero(redis: Redis, planted: tuple[str, ...]) -> None:
    windows, subject = RedisWindows(redis.url, NUMBER), random_text(12)
    now = RedisClient(redis.url, "a test").demand("time")[0] * 1_000_000
    command, *values = [word.format(now=now) for word in planted]
    redis.plant(command, f"{PREFIX}{NUMBER:x}:{subject}".encode(), *values)
    found = [windows.reserve(allowed(subject, 2)) for _ in range(3)]
    assert [one and one.refused for one in found] == [False, False, True]


def test_lost_counts_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Starts Redis twice."""
    with Redis() as redis:
        windows, subjects = RedisWindows(redis.url, NUMBER), [random_text(12) for _ in range(3)]
        for subject in subjects:
            assert windows.reserve(allowed(subject, 9))
        with redis.away():
            pass
        found = [windows.reserve(allowed(subject, 9)) for subject in subjects * 2]
        assert all(found)
    assert [record.getMessage() for record in caplog.records if record.name == "chatkeep.limiting.redis_windows"] == [
        redis_windows.LOST
    ]


def test_forgotten_subject_is_not_a_loss(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    windows, subject = RedisWindows(redis.url, NUMBER), random_text(12)
    for _ in range(2):
        assert windows.reserve(allowed(subject, 9))
        windows.forget(subject)
    assert [record for record in caplog.records if record.name == "chatkeep.limiting.redis_windows"] == []


def test_databases_on_one_redis_are_isolated(redis: Redis) -> None:
    key, subject = os.urandom(32), random_text(12)
    here, there = (RedisCache(redis.url, number, MemoryCache(100_000, 60), 60) for number in (1, 2))
    here.put(key, an_answer())
    assert there.get_shared(key) is None
    assert RedisCache(redis.url, 1, MemoryCache(100_000, 60), 60).get_shared(key)
    counting, other = (RedisWindows(redis.url, number) for number in (1, 2))
    found = [windows.reserve(allowed(subject, 1)) for windows in (counting, other, counting)]
    assert [one and one.refused for one in found] == [False, False, True]
