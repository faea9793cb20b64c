"""Repeated questions are answered from the cache, in the same shapes, and only while their answers are stored."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.http.api import Api, asked, unique
from tests.upstream import Upstream, reply_to

SEEDS = itertools.count(1000)


def test_a_repeated_question_is_answered_from_the_cache(own: Api, upstream: Upstream) -> None:
    message = unique("What is a haiku?")
    first, second = own.chat(message), own.chat(message)
    assert (first["cached"], second["cached"]) == (False, True)
    same = ("reply", "model", "finish_reason", "status", "usage")
    assert {name: first[name] for name in same} == {name: second[name] for name in same}
    assert len(asked(upstream, message)) == 1


def test_a_cached_reply_is_streamed_and_stored_like_any_other(own: Api) -> None:
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
def test_a_question_that_differs_in_anything_is_another_one(
    own: Api, upstream: Upstream, change: dict[str, Any]
) -> None:
    message = unique("What is a haiku?")
    own.chat(message)
    assert own.chat(message, **change)["cached"] is False
    assert len(asked(upstream, message)) == 2


def test_the_same_words_in_another_conversation_are_another_question(own: Api) -> None:
    message = unique("And then?")
    own.chat(message)
    other = own.chat(unique("Once upon a time"))
    assert own.chat(message, conversation_id=other["conversation_id"])["cached"] is False


def test_who_asks_for_no_cache_gets_none_and_teaches_none(own: Api, upstream: Upstream) -> None:
    message = unique("What is a haiku?")
    own.chat(message, cache=False)
    assert own.chat(message)["cached"] is False
    assert own.chat(message, cache=False)["cached"] is False
    assert len(asked(upstream, message)) == 3


@pytest.mark.parametrize("spec", ["fault=reset_after:3", "fault=cut_after:3", "status=401"])
def test_only_whole_replies_are_learnt(own: Api, upstream: Upstream, spec: str) -> None:
    message = unique(f"What is a haiku? #{spec},first=1,seed={next(SEEDS)}#")  # the upstream counts by the marker
    assert own.post(message).status != 200
    assert own.chat(message)["cached"] is False
    assert len(asked(upstream, message)) == 2


def test_a_regenerated_reply_is_a_new_one(own: Api, upstream: Upstream) -> None:
    message = unique("What is a haiku?")
    old = own.chat(message)
    path = f"/api/conversations/{old['conversation_id']}/messages/{old['message_id']}/regenerate"
    assert own.request("POST", path, json={}).json["cached"] is False
    assert len(asked(upstream, message)) == 2


def test_equal_questions_at_once_make_one_call(own: Api, upstream: Upstream) -> None:
    message = unique("What is a haiku? #n=20,r=40#")
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: own.chat(message), range(20)))
    assert {answer["reply"] for answer in answers} == {reply_to(message)}
    assert sum(not answer["cached"] for answer in answers) == len(asked(upstream, message)) == 1


def test_a_copy_can_be_stopped_alone(own: Api) -> None:
    message = unique("What is a haiku? #n=40,r=20#")
    with own.running(message) as leader, own.running(message) as copy:
        own.stop(copy.id)
        assert copy.rest().data["status"] == "stopped"
        assert leader.rest().data["status"] == "completed"
    assert leader.text == reply_to(message)


def test_a_failure_of_the_one_call_is_everybodys(own: Api) -> None:
    message = unique("What is a haiku? #n=20,r=40,fault=cut_after:10#")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: own.post(message), range(8)))
    assert {answer.json["code"] for answer in answers} == {"provider_broke"}


def test_what_was_deleted_is_not_repeated(own: Api, upstream: Upstream) -> None:
    message = unique("What is a haiku?")
    own.delete(own.chat(message)["conversation_id"])
    assert own.chat(message)["cached"] is False
    assert len(asked(upstream, message)) == 2


def test_the_cache_tells_how_it_serves(own: Api) -> None:
    before = own.request("GET", "/health").json["cache"]
    message = unique("What is a haiku?")
    own.chat(message)
    own.chat(message)
    after = own.request("GET", "/health").json["cache"]
    assert (after["hits"] - before["hits"], after["misses"] - before["misses"]) == (1, 1)
    assert after["entries"] == before["entries"] + 1
    assert after["bytes"] > before["bytes"]
