"""Repeated questions are answered from the cache, in the same form, while their answers are stored."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from chatkeep.config.settings import Settings
from chatkeep.server.app import create_app
from chatkeep.turns.begin import TurnRequest
from chatkeep.turns.live import End
from chatkeep.web.services import services_of
from tests.conftest import EMBEDDED_AND_SERVER, empty_database
from tests.http.api import Api, asked, eventually, unique
from tests.servers import COMMANDS, Server, thrown_away
from tests.upstream import Upstream, reply_to

SEEDS = itertools.count(1000)
SILENT = "#fault=hang_first,first=1,n=30,r=20,seed={}#"  # the first call hangs, the next one is slow


@pytest.fixture(scope="module", params=EMBEDDED_AND_SERVER)
def hosts(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Api]]:
    """Two servers on one database without Redis, one with two processes and one with one."""
    url = empty_database(request, request.param, tmp_path_factory)
    env = caching(url, upstream)
    with ExitStack() as stack:
        yield [
            Api(stack.enter_context(thrown_away(Server(command, tmp_path_factory.mktemp(command), env))))
            for command in (COMMANDS[0], "waitress")
        ]


def caching(url: str, upstream: Upstream) -> dict[str, str]:
    """Return the environment of a server with a cache; gunicorn has two processes."""
    return {
        "DATABASE_URL": url,
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": "test-key",
        "CHATKEEP_CACHE_SIZE": "1MiB",
        "WEB_CONCURRENCY": "2",
    }


def test_repeated_question_is_answered_from_the_cache(own: Api, upstream: Upstream) -> None:
    message = unique("What is a haiku?")
    first, second = own.chat(message), own.chat(message)
    assert (first["cached"], second["cached"]) == (False, True)
    same = ("reply", "model", "finish_reason", "status", "usage")
    assert {name: first[name] for name in same} == {name: second[name] for name in same}
    assert len(asked(upstream, message)) == 1


def test_cached_reply_is_streamed_and_stored_like_any_other(own: Api) -> None:
    message = unique("😀 你好 #think=1#")
    own.chat(message)
    stream = own.streamed(message)
    assert (stream.events[0].data["cached"], stream.events[-1].data["cached"]) == (True, True)
    stored = own.last(stream.events[0].data["conversation_id"])
    assert (stream.text, stored["content"], stored["cached"]) == (reply_to(message), reply_to(message), True)
    assert stored["reasoning"]


@pytest.mark.parametrize(
    "change", [{"model": "other"}, {"temperature": 0.5}, {"max_tokens": 9}, {"system": "Be brief."}]
)
def test_any_difference_misses_the_cache(own: Api, upstream: Upstream, change: dict[str, Any]) -> None:
    message = unique("What is a haiku?")
    own.chat(message)
    assert own.chat(message, **change)["cached"] is False
    assert len(asked(upstream, message)) == 2


def test_same_question_with_another_context_misses_the_cache(own: Api) -> None:
    message = unique("And then?")
    own.chat(message)
    other = own.chat(unique("Once upon a time"))
    assert own.chat(message, conversation_id=other["conversation_id"])["cached"] is False


def test_no_cache_neither_reads_nor_fills_the_cache(own: Api, upstream: Upstream) -> None:
    message = unique("What is a haiku?")
    own.chat(message, cache=False)
    assert own.chat(message)["cached"] is False
    assert own.chat(message, cache=False)["cached"] is False
    assert len(asked(upstream, message)) == 3


@pytest.mark.parametrize("spec", ["fault=reset_after:3", "fault=cut_after:3", "status=401"])
def test_only_complete_replies_are_cached(own: Api, upstream: Upstream, spec: str) -> None:
    message = unique(f"What is a haiku? #{spec},first=1,seed={next(SEEDS)}#")  # the upstream counts by the marker
    assert own.post(message).status != 200
    assert own.chat(message)["cached"] is False
    assert len(asked(upstream, message)) == 2


def test_regenerating_bypasses_the_cache(own: Api, upstream: Upstream) -> None:
    message = unique("What is a haiku?")
    old = own.chat(message)
    path = f"/api/conversations/{old['conversation_id']}/messages/{old['message_id']}/regenerate"
    assert own.request("POST", path, json={}).json["cached"] is False
    assert len(asked(upstream, message)) == 2


def test_concurrent_equal_questions_make_one_call(own: Api, upstream: Upstream) -> None:
    message = unique("What is a haiku? #n=20,r=40#")
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: own.chat(message), range(20)))
    assert {answer["reply"] for answer in answers} == {reply_to(message)}
    assert sum(not answer["cached"] for answer in answers) == len(asked(upstream, message)) == 1


def test_stopping_a_copy_leaves_the_leader_running(own: Api) -> None:
    message = unique("What is a haiku? #n=40,r=20#")
    with own.running(message) as leader, own.running(message) as copy:
        own.stop(copy.id)
        assert copy.rest().data["status"] == "stopped"
        assert leader.rest().data["status"] == "completed"
    assert leader.text == reply_to(message)


def test_failure_of_a_shared_call_reaches_all_its_callers(own: Api) -> None:
    message = unique("What is a haiku? #n=20,r=40,fault=cut_after:10#")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: own.post(message), range(8)))
    assert {answer.json["code"] for answer in answers} == {"provider_broke"}


def test_deleted_answer_leaves_the_cache(own: Api, upstream: Upstream) -> None:
    message = unique("What is a haiku?")
    own.delete(own.chat(message)["conversation_id"])
    assert own.chat(message)["cached"] is False
    assert len(asked(upstream, message)) == 2


def test_cache_reports_its_hits(own: Api) -> None:
    before = own.request("GET", "/health").json["cache"]
    message = unique("What is a haiku?")
    own.chat(message)
    own.chat(message)
    after = own.request("GET", "/health").json["cache"]
    assert (after["hits"] - before["hits"], after["misses"] - before["misses"]) == (1, 1)
    assert after["entries"] == before["entries"] + 1
    assert after["bytes"] > before["bytes"]


def concurrency(hosts: list[Api], message: str, number: int) -> list[Any]:
    """Send the same question to all hosts at once, and return the answers."""
    with ThreadPoolExecutor(number) as pool:
        responses = list(pool.map(lambda index: hosts[index % len(hosts)].post(message), range(number)))
    return [response.json for response in responses]


def test_hundred_equal_questions_to_all_processes_make_one_call(hosts: list[Api], upstream: Upstream) -> None:
    """The reply takes four seconds, so that all callers ask before it ends, even on a slow machine."""
    message = unique("What is a haiku? 你好 #n=80,r=20#")
    answers = concurrency(hosts, message, 100)
    assert {answer.get("reply") for answer in answers} == {reply_to(message)}
    assert sum(not answer["cached"] for answer in answers) == len(asked(upstream, message)) == 1
    assert len({answer["message_id"] for answer in answers}) == 100


def test_copy_from_another_process_is_streamed_and_stored_like_any_other(hosts: list[Api]) -> None:
    """The reply takes more than a second, so it is copied while it grows."""
    message = unique("😀 #think=3,n=30,r=20#")
    with hosts[0].running(message) as leader:
        stream = hosts[1].streamed(message)
        leader.rest()
    stored = hosts[0].last(stream.events[0].data["conversation_id"])
    assert (stream.events[0].data["cached"], stream.events[-1].data["cached"]) == (True, True)
    assert (stream.text, stored["content"], stored["cached"]) == (leader.text, reply_to(message), True)
    assert (stored["reasoning"], stored["usage"]) == tuple(
        hosts[0].last(leader.id)[name] for name in ("reasoning", "usage")
    )


def test_process_caches_what_it_copied(hosts: list[Api], upstream: Upstream) -> None:
    """The reply takes more than a second, so it is copied while it grows."""
    message = unique("What is a haiku? #n=30,r=20#")
    with hosts[0].running(message):
        assert hosts[1].chat(message)["cached"] is True
    assert hosts[1].chat(message)["cached"] is True
    assert len(asked(upstream, message)) == 1


def test_copy_from_another_process_can_be_stopped_alone(hosts: list[Api]) -> None:
    """The reply takes two seconds, which leaves time to stop its copy."""
    message = unique("What is a haiku? #n=40,r=20#")
    with hosts[0].running(message) as leader, hosts[1].running(message) as copy:
        hosts[0].stop(copy.id)
        assert copy.rest().data["status"] == "stopped"
        assert leader.rest().data["status"] == "completed"
    assert leader.text == reply_to(message)


def test_failure_of_a_shared_call_reaches_all_processes(hosts: list[Api], upstream: Upstream) -> None:
    """The provider fails after a second, when all callers have asked."""
    message = unique("What is a haiku? #n=30,r=20,fault=cut_after:20#")
    assert {answer["code"] for answer in concurrency(hosts, message, 8)} == {"provider_broke"}
    assert len(asked(upstream, message)) == 1


def test_no_cache_makes_its_own_call(hosts: list[Api], upstream: Upstream) -> None:
    message = unique("What is a haiku? #n=10,r=20#")
    with hosts[0].running(message):
        assert [api.chat(message, cache=False)["cached"] for api in hosts] == [False, False]
    assert len(asked(upstream, message)) == 3


def test_regenerating_makes_its_own_call(hosts: list[Api], upstream: Upstream) -> None:
    """The same reply three times, half a second each."""
    message = unique("What is a haiku? #n=10,r=20#")
    old = hosts[0].chat(message, cache=False)
    path = f"/api/conversations/{old['conversation_id']}/messages/{old['message_id']}/regenerate"
    with hosts[0].running(message):
        assert hosts[1].request("POST", path, json={}).json["cached"] is False
    assert len(asked(upstream, message)) == 3


def test_another_leader_follows_one_stopped_without_text(hosts: list[Api], upstream: Upstream) -> None:
    """The reply takes more than a second, so that all followers find the new leader."""
    message = unique(f"What is a haiku? {SILENT.format(next(SEEDS))}")
    with ThreadPoolExecutor(2) as pool:
        asked_first = pool.submit(hosts[0].post, message)
        leader, asking = copied(pool, hosts, upstream, message)
        hosts[0].stop(leader)
        assert asked_first.result().json["status"] == "stopped"
    answers = asking.result()
    assert {answer["reply"] for answer in answers} == {reply_to(message)}
    assert sorted(answer["cached"] for answer in answers) == [False, *[True] * 5]
    assert len(asked(upstream, message)) == 2


def test_another_leader_follows_one_whose_process_was_killed(
    hosts: list[Api], upstream: Upstream, tmp_path: Path
) -> None:
    """Starts and kills a server. The others consider it dead after about five seconds."""
    message = unique(f"What is a haiku? {SILENT.format(next(SEEDS))}")
    env = caching(hosts[0].server.env["DATABASE_URL"], upstream)
    with ThreadPoolExecutor(2) as pool, Server("waitress", tmp_path, env) as doomed:
        pool.submit(Api(doomed).post, message)
        _, asking = copied(pool, hosts, upstream, message)
        doomed.kill()
    answers = asking.result()
    assert {answer["reply"] for answer in answers} == {reply_to(message)}
    assert sorted(answer["cached"] for answer in answers) == [False, *[True] * 5]
    assert len(asked(upstream, message)) == 2


def copied(
    pool: ThreadPoolExecutor, hosts: list[Api], upstream: Upstream, message: str
) -> tuple[str, Future[list[Any]]]:
    """Wait until a question is asked, ask it six more times, and return the leader and all answers."""
    assert eventually(lambda: asked(upstream, message))
    (leader,) = (found["id"] for found in hosts[0].list(q=message.rpartition(" ")[2])["data"])
    asking = pool.submit(concurrency, hosts, message, 6)
    assert eventually(lambda: hosts[0].count("leases", "conversation_id > :leader", leader=UUID(leader).bytes) == 6)
    return leader, asking


def test_owners_do_not_share_calls(upstream: Upstream, tmp_path: Path) -> None:
    """Runs below HTTP, because a server without keys has only one owner."""
    message = unique("What is a haiku? #n=10,r=20#")
    settings = Settings(data_dir=tmp_path, openai_base_url=upstream.url, openai_api_key="test-key")
    parts = services_of(create_app(settings))
    taken = [parts.turns.begin_turn(TurnRequest(owner, message)) for owner in ("ann", "bob", "ann")]
    ends = [[*parts.turns.follow_begun(turn)][-1] for turn in taken]
    parts.close()
    assert [end.message.cached for end in ends if isinstance(end, End) and end.message] == [False, False, True]
    assert len(asked(upstream, message)) == 2
