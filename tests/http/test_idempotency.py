"""One Idempotency-Key, one turn: repeats replay it or attach to it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from tests.conftest import ON_EVERY_PAIR
from tests.http.api import Api, asked, unique
from tests.upstream import Upstream, reply_to

pytestmark = ON_EVERY_PAIR


@pytest.fixture
def key() -> dict[str, str]:
    return {"Idempotency-Key": uuid4().hex}


def test_finished_turn_is_replayed(api: Api, beside: Api, upstream: Upstream, key: dict[str, str]) -> None:
    message = unique("Once")
    first = api.chat(message, headers=key)
    assert [api.chat(message, headers=key), beside.chat(message, headers=key)] == [first, first]
    assert len(asked(upstream, message)) == 1
    assert api.read(first["conversation_id"])["message_count"] == 2


def test_other_spelling_of_the_path_is_the_same_request(api: Api, key: dict[str, str]) -> None:
    first = api.chat("Once", headers=key)
    for path in ("/api/chat/", "//api/chat"):
        assert api.request("POST", path, json={"message": "Once"}, headers=key).json == first
    said = api.read(first["conversation_id"])["messages"]["data"][0]["id"]
    edited = [
        api.request("POST", f"/api/conversations/{conversation}/messages/{said}/edit", json={"message": "Twice"},
                    headers={"Idempotency-Key": f"{key['Idempotency-Key']}-2"})
        for conversation in (first["conversation_id"], first["conversation_id"].upper())
    ]  # fmt: skip
    assert [answer.status for answer in edited] == [200, 200]
    assert edited[0].json == edited[1].json


def test_finished_stream_is_replayed(api: Api, upstream: Upstream, key: dict[str, str]) -> None:
    message = unique("Once #n=9,r=50,think=1#")
    first, again = (api.streamed(message, stream=True, headers=key) for _ in range(2))
    assert (again.events[-1], again.text) == (first.events[-1], first.text)
    ids = ("conversation_id", "message_id")
    assert [again.events[0].data[name] for name in ids] == [first.events[0].data[name] for name in ids]
    assert len(asked(upstream, message)) == 1


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same", "another process"])
def test_repeated_request_attaches_to_the_running_turn(
    api: Api, beside: Api, upstream: Upstream, key: dict[str, str], *, elsewhere: bool
) -> None:
    message = unique("Once #n=20,r=40#")
    with api.running(message, headers=key) as reply:
        attached = (beside if elsewhere else api).streamed(message, headers=key)
    assert attached.events[0].data["message_id"] == reply.start["message_id"]
    assert attached.text == reply_to(message)
    assert len(asked(upstream, message)) == 1


@pytest.mark.parametrize("other", [{"message": "Other"}, {"temperature": 0.5}, {"ttl": None}, {"metadata": {"a": 1}}])
def test_key_with_another_request_is_refused(api: Api, key: dict[str, str], other: dict[str, Any]) -> None:
    first = api.chat("Once", headers=key)
    refused = api.post(**{"message": "Once", "headers": key} | other)
    assert (refused.status, refused.json["code"]) == (422, "idempotency_key_reused")
    assert api.read(first["conversation_id"])["message_count"] == 2


def test_concurrent_equal_requests_are_one_turn(api: Api, beside: Api, upstream: Upstream, key: dict[str, str]) -> None:
    message = unique("Once #n=9,r=50#")
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda number: (api, beside)[number % 2].chat(message, headers=key), range(20)))
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["reply"] == reply_to(message)
    assert len(asked(upstream, message)) == 1
    assert api.count("messages", "content = :message", message=message) == 1


def test_concurrent_turns_on_a_conversation_are_one_turn_and_conflicts(api: Api, beside: Api) -> None:
    conversation = api.chat("Hello")["conversation_id"]
    with ThreadPoolExecutor(16) as pool:
        message = "At once #n=9,r=20#"
        posts = pool.map(lambda n: (api, beside)[n % 2].post(message, conversation_id=conversation), range(16))
        statuses = sorted(post.status for post in posts)
    assert statuses == [200] + [409] * 15
    assert [item["position"] for item in api.read(conversation)["messages"]["data"]] == [1, 2, 3, 4]


def test_failed_turn_is_replayed_as_failed(api: Api, upstream: Upstream, key: dict[str, str]) -> None:
    message = unique("Once #status=401,should_retry=false#")
    first, again = (api.post(message, headers=key) for _ in range(2))
    assert first.status == again.status == 502
    assert first.json["code"] == again.json["code"] == "provider_refused"
    assert first.json["message_id"] == again.json["message_id"]
    assert len(asked(upstream, message)) == 1


def test_refused_request_does_not_use_up_its_key(api: Api, key: dict[str, str]) -> None:
    with api.running("Slowly #n=99,r=20#") as reply:
        conversation = reply.id
        assert api.post("Now", conversation_id=conversation, headers=key).status == 409
        api.stop(conversation)
    api.ended(conversation)
    assert api.chat("Now", conversation_id=conversation, headers=key)["status"] == "completed"


def test_key_of_a_deleted_conversation_is_404(api: Api, key: dict[str, str]) -> None:
    api.delete(api.chat("Once", headers=key)["conversation_id"])
    assert api.post("Once", headers=key).status == 404


@pytest.mark.parametrize("wrong", ["x" * 256, "a b", "", "ü"])
def test_malformed_key_is_422(api: Api, wrong: str) -> None:
    refused = api.post("Hello", headers={"Idempotency-Key": wrong})
    assert (refused.status, refused.json["errors"][0]["field"]) == (422, "Idempotency-Key")
