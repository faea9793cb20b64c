"""With Redis, processes share cached answers. Without it they continue alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import empty_database
from tests.http.api import Api, asked, unique
from tests.servers import Server, thrown_away
from tests.services.redis import Redis
from tests.upstream import Upstream


@pytest.fixture
def two(
    request: pytest.FixtureRequest, redis: Redis, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Api]]:
    """Two processes with one database and one Redis."""
    env = {
        "DATABASE_URL": empty_database(request, "sqlite", tmp_path_factory),
        "REDIS_URL": redis.url,
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": "test-key",
        "CHATKEEP_CACHE_SIZE": "1MiB",
        "WEB_CONCURRENCY": "1",
    }
    with ExitStack() as stack:
        folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
        commands = ("gunicorn", "waitress")
        yield [
            Api(stack.enter_context(thrown_away(Server(command, folder, env))))
            for command, folder in zip(commands, folders, strict=True)
        ]


def test_processes_share_cached_answers(two: list[Api], upstream: Upstream) -> None:
    message = unique("What is a haiku? 你好")
    first, second = two[0].chat(message), two[1].chat(message)
    assert (second["cached"], second["reply"], second["usage"]) == (True, first["reply"], first["usage"])
    assert len(asked(upstream, message)) == 1


def test_deleted_answer_leaves_the_caches_of_all_processes(two: list[Api]) -> None:
    message = unique("What is a haiku?")
    two[0].delete(two[0].chat(message)["conversation_id"])
    assert two[1].chat(message)["cached"] is False


@pytest.mark.parametrize("planted", ["not an answer", b"\x93\x01\x02\x03", None])
def test_malformed_cached_value_is_a_miss(two: list[Api], redis: Redis, planted: str | bytes | None) -> None:
    from redis import Redis as Client  # noqa: PLC0415 - an extra

    message = unique("What is a haiku?")
    assert two[0].chat(message)["cached"] is False
    with Client.from_url(redis.url) as client:
        for name in client.keys("chatkeep:answer:*"):
            redis.plant("DEL", name)
            redis.plant("RPUSH", name, "a list") if planted is None else redis.plant("SET", name, planted)
    assert two[1].chat(message)["cached"] is False


def test_processes_work_alone_without_redis(two: list[Api], redis: Redis) -> None:
    message = unique("What is a haiku?")
    with redis.away():
        assert two[0].chat(message)["cached"] is False
        assert two[0].chat(message)["cached"] is True
        assert two[1].chat(message)["cached"] is False


def test_answers_cached_before_redaction_are_not_used(two: list[Api], upstream: Upstream, tmp_path: Path) -> None:
    """Starts a third server: a second."""
    message = unique("call 13812345678")
    assert two[0].chat(message)["cached"] is False
    env = two[0].server.env | {"CHATKEEP_REDACT_OUTPUT": "mask"}
    del env["PORT"]
    with thrown_away(Server("waitress", tmp_path, env)) as judging:
        assert "[phone]" in Api(judging).chat(message)["reply"]
    assert len(asked(upstream, message)) == 2
    assert two[1].chat(message)["cached"] is True
