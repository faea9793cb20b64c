"""Limits are exact across processes and hosts, and refused turns store nothing."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.client import Response
from tests.conftest import DATABASES, EMBEDDED_AND_SERVER, empty_database
from tests.http.api import Api, eventually, unique
from tests.servers import Server, thrown_away
from tests.services.redis import Redis
from tests.upstream import Upstream

ADMITTED, ASKED = 20, 60
# Limits are counted in a database or in Redis.
PLACES = (*DATABASES, "redis")
TOKENS_OF_A_TURN = 100

needs_gunicorn = pytest.mark.posix("there is no gunicorn on Windows")


@pytest.fixture
def environment(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The environment of a server that counts in one of them."""
    place: str = request.param
    database = "sqlite" if place == "redis" else place
    env = {
        "DATABASE_URL": empty_database(request, database, tmp_path_factory),
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": "test-key",
        "WEB_CONCURRENCY": "1",
    }
    if place == "redis":
        redis: Redis = request.getfixturevalue("redis")
        redis.forget()
        env["REDIS_URL"] = redis.url
    return env


everywhere = pytest.mark.parametrize("environment", PLACES, indirect=True)
# The API reports limits independently of where they are counted.
on_each_kind = pytest.mark.parametrize("environment", [*EMBEDDED_AND_SERVER, "redis"], indirect=True)
anywhere = pytest.mark.parametrize("environment", ["sqlite"], indirect=True)


@pytest.fixture
def folders(tmp_path_factory: pytest.TempPathFactory) -> pytest.TempPathFactory:
    return tmp_path_factory


@contextmanager
def limited(
    environment: dict[str, str],
    folders: pytest.TempPathFactory,
    limits: dict[str, int],
    *,
    command: str = "waitress",
    **more: str,
) -> Iterator[Api]:
    """Run a server whose account has these limits."""
    env = environment | {"CHATKEEP_LIMITS": json.dumps({"account": limits})} | more
    with thrown_away(Server(command, folders.mktemp(command), env)) as server:
        yield Api(server)


def ask_at_once(apis: list[Api], times: int) -> list[Response]:
    """Take concurrent turns, spread over the servers."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda number: apis[number % len(apis)].post(unique()), range(times)))


@needs_gunicorn
@pytest.mark.parametrize("environment", EMBEDDED_AND_SERVER, indirect=True)
def test_four_workers_enforce_a_limit_exactly(environment: dict[str, str], folders: pytest.TempPathFactory) -> None:
    """Starts four workers: some seconds."""
    limits = {"requests_per_minute": ADMITTED}
    with limited(environment, folders, limits, command="gunicorn", WEB_CONCURRENCY="4") as api:
        answers = ask_at_once([api], ASKED)
        assert Counter(answer.status for answer in answers) == {200: ADMITTED, 429: ASKED - ADMITTED}
        assert (api.count("conversations"), api.count("messages")) == (ADMITTED, 2 * ADMITTED)
        assert api.count("leases") == 0


@needs_gunicorn
@everywhere
def test_two_hosts_enforce_a_limit_exactly(environment: dict[str, str], folders: pytest.TempPathFactory) -> None:
    """Starts two servers: some seconds."""
    limits = {"requests_per_minute": ADMITTED, "requests_per_day": 1000}
    with ExitStack() as stack:
        hosts = [
            stack.enter_context(limited(environment, folders, limits, command=command, WEB_CONCURRENCY="2"))
            for command in ("gunicorn", "waitress")
        ]
        answers = ask_at_once(hosts, ASKED)
        assert Counter(answer.status for answer in answers) == {200: ADMITTED, 429: ASKED - ADMITTED}
        assert hosts[0].count("conversations") == ADMITTED
        assert (hosts[0].count("windows") == 0) == ("REDIS_URL" in environment)


@needs_gunicorn
@everywhere
def test_concurrency_limit_is_exact(environment: dict[str, str], folders: pytest.TempPathFactory) -> None:
    limits = {"concurrent_replies": 3}
    with limited(environment, folders, limits, command="gunicorn", WEB_CONCURRENCY="2") as api:
        slow = "#n=200,r=20#"
        with ThreadPoolExecutor(12) as pool:
            streams = list(pool.map(lambda _: api.stream(unique(slow)), range(12)))
        assert Counter(stream.status for stream in streams) == {200: 3, 429: 9}
        assert api.count("leases") == 3
        running = next(stream for stream in streams if stream.status == 200)
        api.stop(next(iter(running)).data["conversation_id"])
        assert eventually(lambda: api.post(unique()).status == 200)
        for stream in streams:
            stream.close()


@needs_gunicorn
@pytest.mark.parametrize("environment", EMBEDDED_AND_SERVER, indirect=True)
def test_replies_of_a_killed_worker_free_their_slots(
    environment: dict[str, str], folders: pytest.TempPathFactory
) -> None:
    """Waits until the killed worker is considered dead: a few seconds."""
    with limited(environment, folders, {"concurrent_replies": 2}, command="gunicorn") as api:
        replies = [api.running(unique("#n=400,r=20#")) for _ in range(2)]
        assert api.post(unique()).status == 429
        for pid in api.server.worker_pids():
            os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: status_of(api) == 200, 15)
        for reply in replies:
            reply.stream.close()


def status_of(api: Api) -> int:
    """Return the status of a turn, or 0 without an answer."""
    try:
        return api.post(unique()).status
    except OSError:
        return 0


@on_each_kind
def test_headers_report_the_remaining_quota(environment: dict[str, str], folders: pytest.TempPathFactory) -> None:
    limits = {"requests_per_minute": 3, "tokens_per_day": 100_000, "concurrent_replies": 5}
    with limited(environment, folders, limits) as api:
        whole, streamed = api.post(unique()), api.streamed(unique())
        assert whole.headers["RateLimit-Policy"] == streamed.headers["RateLimit-Policy"]
        assert whole.headers["RateLimit-Policy"] == (
            '"account.requests_per_minute";q=3;w=60, "account.tokens_per_day";q=100000;w=86400,'
            ' "account.concurrent_replies";q=5;qu="concurrent-requests"'
        )
        first, second = (told(answer.headers["RateLimit"]) for answer in (whole, streamed))
        assert first["account.requests_per_minute"]["r"] == 2
        assert second["account.requests_per_minute"]["r"] == 1
        assert 50 < second["account.requests_per_minute"]["t"] <= 60
        used = whole.json["usage"]
        assert first["account.tokens_per_day"]["r"] == 100_000
        assert second["account.tokens_per_day"]["r"] == 100_000 - used["input_tokens"] - used["output_tokens"]
        assert first["account.concurrent_replies"] == {"r": 4}
        failed = api.post(unique("#status=400#"))
        assert failed.status == 502
        assert told(failed.headers["RateLimit"])["account.requests_per_minute"]["r"] == 0


def told(header: str) -> dict[str, dict[str, int]]:
    """Return the parameters of each item of a list of structured fields."""
    found = {}
    for item in header.split(", "):
        name, *parameters = item.split(";")
        pairs = (parameter.split("=") for parameter in parameters)
        found[name.strip('"')] = {key: int(value) for key, value in pairs}
    return found


@on_each_kind
def test_429_names_the_limit_and_when_to_retry(environment: dict[str, str], folders: pytest.TempPathFactory) -> None:
    with limited(environment, folders, {"requests_per_minute": 1, "requests_per_day": 9}) as api:
        api.chat(unique())
        refused = api.post(unique())
        assert (refused.status, refused.json["code"]) == (429, "rate_limited")
        assert 50 < int(refused.headers["Retry-After"]) <= 60
        assert refused.json["detail"].startswith(
            "Rate limit exceeded for this account: 1 requests per minute. Retry in "
        )
        left = told(refused.headers["RateLimit"])
        assert (left["account.requests_per_minute"]["r"], left["account.requests_per_day"]["r"]) == (0, 8)
        in_chinese = api.post(unique(), headers={"Accept-Language": "zh"}).json
        assert in_chinese["title"] == "已触发限流"
        assert in_chinese["detail"].startswith("该账户已触发限流\uff1a每分钟 1 次请求")
        assert api.stream(unique()).status == 429
        assert (api.count("conversations"), api.count("messages"), api.count("leases")) == (1, 2, 0)


@on_each_kind
def test_regenerating_and_editing_count_and_failures_do_not(
    environment: dict[str, str], folders: pytest.TempPathFactory
) -> None:
    with limited(environment, folders, {"requests_per_minute": 4}) as api:
        first = api.chat(unique())
        path = f"/api/conversations/{first['conversation_id']}/messages"
        assert api.post(unique(), conversation_id="01a202d1-2a30-79d4-9bd7-fd298a4c908a").status == 404
        assert api.request("POST", f"{path}/{first['conversation_id']}/regenerate", json={}).status == 404
        assert api.request("POST", f"{path}/{first['message_id']}/edit", json={"message": "no"}).status == 422
        asked = api.read(first["conversation_id"])["messages"]["data"][0]["id"]
        assert api.request("POST", f"{path}/{first['message_id']}/regenerate", json={}).status == 200
        assert api.request("POST", f"{path}/{asked}/edit", json={"message": unique()}).status == 200
        with api.running(unique("#n=100,r=20#")) as running:
            assert api.post(unique(), conversation_id=running.id).status == 429
        assert api.request("POST", f"{path}/{asked}/edit", json={"message": unique()}).status == 429


@on_each_kind
def test_conflicting_turn_does_not_count(environment: dict[str, str], folders: pytest.TempPathFactory) -> None:
    with limited(environment, folders, {"requests_per_minute": 2}) as api:
        with api.running(unique("#n=100,r=20#")) as running:
            assert api.post(unique(), conversation_id=running.id).status == 409
        assert api.post(unique()).status == 200
        assert api.post(unique()).status == 429


@on_each_kind
def test_repeated_request_counts_once_and_is_answered_past_the_limit(
    environment: dict[str, str], folders: pytest.TempPathFactory
) -> None:
    with limited(environment, folders, {"requests_per_minute": 2}) as api:
        message, key = unique(), {"Idempotency-Key": unique("a-key").replace(" ", "-")}
        first = api.chat(message, headers=key)
        assert api.chat(message, headers=key) == first
        assert told(api.post(unique()).headers["RateLimit"])["account.requests_per_minute"]["r"] == 0
        assert api.chat(message, headers=key) == first
        assert api.post(unique(), headers={"Idempotency-Key": "another"}).status == 429
        assert api.count("idempotency_keys") == 1


@on_each_kind
def test_used_up_tokens_refuse_further_turns(environment: dict[str, str], folders: pytest.TempPathFactory) -> None:
    with limited(environment, folders, {"tokens_per_minute": TOKENS_OF_A_TURN}) as api:
        assert api.chat(unique("#n=150#"))["usage"]["output_tokens"] > TOKENS_OF_A_TURN
        refused = api.post(unique())
        assert refused.status == 429
        assert refused.json["detail"].startswith(
            "Rate limit exceeded for this account: 100 tokens per minute. Retry in "
        )


@on_each_kind
@pytest.mark.parametrize("ending", ["stopped", "deleted", "uncounted"])
def test_tokens_without_provider_usage_are_estimated(
    environment: dict[str, str], folders: pytest.TempPathFactory, ending: str
) -> None:
    """Otherwise a stop or a deletion just before the end would make a turn free."""
    with limited(environment, folders, {"tokens_per_minute": TOKENS_OF_A_TURN}) as api:
        if ending == "uncounted":
            api.chat(unique("#n=200,no_usage#"))
        else:
            reply = api.running(unique("#n=2000,r=500#"))
            reply.until(8 * TOKENS_OF_A_TURN)
            api.stop(reply.id) if ending == "stopped" else api.delete(reply.id)
            reply.rest()
        assert api.post(unique()).status == 429


@on_each_kind
def test_cached_answers_count_as_requests(environment: dict[str, str], folders: pytest.TempPathFactory) -> None:
    message = unique("What is a haiku?")
    with limited(environment, folders, {"requests_per_minute": 2, "tokens_per_minute": 999}, **WITH_CACHE) as api:
        assert [api.chat(message)["cached"] for _ in range(2)] == [False, True]
        refused = api.post(message)
        assert refused.status == 429
        used = eventually(lambda: total if (total := used_by(api))["requests"] == 2 else None)
        left = told(refused.headers["RateLimit"])["account.tokens_per_minute"]["r"]
        assert used
        assert left == 999 - used["input_tokens"] - used["output_tokens"]


def used_by(api: Api) -> Any:
    return api.request("GET", "/api/usage").json["total"]


WITH_CACHE = {"CHATKEEP_CACHE_SIZE": "1MiB"}


@pytest.mark.parametrize("environment", ["redis"], indirect=True)
def test_answers_from_the_shared_cache_count_as_requests(
    environment: dict[str, str], folders: pytest.TempPathFactory
) -> None:
    """Starts two servers: some seconds."""
    message = unique("What is a haiku?")
    with (
        limited(environment, folders, {"tokens_per_minute": 999}, **WITH_CACHE) as one,
        limited(environment, folders, {"tokens_per_minute": 999}, **WITH_CACHE) as other,
    ):
        used = one.chat(message)["usage"]
        assert other.chat(message)["cached"] is True
        left = told(one.post(unique()).headers["RateLimit"])["account.tokens_per_minute"]["r"]
        assert left == 999 - 2 * (used["input_tokens"] + used["output_tokens"])


@pytest.mark.parametrize("environment", EMBEDDED_AND_SERVER, indirect=True)
@pytest.mark.parametrize("ago", [60_000_000, -120_000_000], ids=["its minute is over", "the clock went back"])
def test_window_ends(environment: dict[str, str], folders: pytest.TempPathFactory, ago: int) -> None:
    with limited(environment, folders, {"requests_per_minute": 1, "requests_per_day": 3}) as api:
        api.chat(unique())
        assert api.post(unique()).status == 429
        api.execute("UPDATE windows SET minute_began = minute_began - :ago", ago=ago)
        assert told(api.post(unique()).headers["RateLimit"])["account.requests_per_day"]["r"] == 1


@pytest.mark.parametrize("environment", ["redis"], indirect=True)
def test_limits_hold_without_redis(environment: dict[str, str], folders: pytest.TempPathFactory, redis: Redis) -> None:
    with limited(environment, folders, {"requests_per_minute": 2, "tokens_per_minute": 99_999}) as api:
        api.chat(unique())
        with redis.away():
            answers = [api.post(unique()) for _ in range(3)]
            assert [answer.status for answer in answers] == [200, 200, 429]
            used = answers[0].json["usage"]
            left = told(answers[1].headers["RateLimit"])["account.tokens_per_minute"]["r"]
            assert left == 99_999 - used["input_tokens"] - used["output_tokens"]


@anywhere
def test_nothing_is_counted_without_limits(environment: dict[str, str], folders: pytest.TempPathFactory) -> None:
    with limited(environment, folders, {}) as api:
        answer = api.post(unique())
        assert "RateLimit" not in answer.headers
        assert api.count("windows") == 0
