"""A share link shows the messages at its creation and nothing else, and can be revoked."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from chatkeep.auth.access import Scope
from tests.auth.keys import Identity, bearer, make_key
from tests.auth.test_matrix import told
from tests.client import Response
from tests.http.api import eventually, unique
from tests.servers import Server
from tests.upstream import reply_to


@pytest.fixture
def owner(keyed: Server) -> Identity:
    """An end user with isolated data."""
    key = make_key(keyed.env["DATABASE_URL"], "local", Scope.CHAT, Scope.READ)
    return Identity(keyed, bearer(key.text)).named(unique("sharer"))


def share(who: Identity, conversation_id: str) -> str:
    made = who.request("POST", f"/api/conversations/{conversation_id}/share")
    assert made.status == 201, made.body
    assert made.json["path"] == f"/shared/{made.json['token']}"
    return str(made.json["token"])


def is_shared(who: Identity, conversation_id: str) -> bool:
    found = who.get(f"/api/conversations/{conversation_id}/share").json
    assert (found["created_at"] is not None) == found["shared"]
    return bool(found["shared"])


def read(server: Server, token: str, query: str = "") -> Response:
    return Identity(server).get(f"/api/shared/{token}{query}")


def shown(server: Server, token: str, query: str = "") -> list[str]:
    answer = read(server, token, query)
    assert answer.status == 200, answer.body
    return [message["content"] for message in answer.json["messages"]["data"]]


def test_link_shows_the_messages_and_nothing_else(keyed: Server, owner: Identity) -> None:
    secret, message = uuid4().hex, unique("Hello #think=2#")
    said = owner.chat(message, system=secret, metadata={"note": secret})
    token = share(owner, said["conversation_id"])
    answer = read(keyed, token)
    assert answer.json == {
        "object": "shared_conversation",
        "title": owner.get(f"/api/conversations/{said['conversation_id']}").json["title"],
        "messages": {
            "object": "list",
            "data": [
                {"role": "user", "content": message, "status": "completed", "finish_reason": None, "cached": False},
                {
                    "role": "assistant",
                    "content": said["reply"],
                    "status": "completed",
                    "finish_reason": "stop",
                    "cached": False,
                },
            ],
            "has_more": False,
        },
    }
    for hidden in (secret, said["conversation_id"], said["message_id"], "sharer"):
        assert hidden not in answer.text + str(answer.headers)
    assert answer.headers["X-Robots-Tag"] == "noindex, nofollow"
    assert (answer.headers["Referrer-Policy"], answer.headers["Cache-Control"]) == ("no-referrer", "no-store")
    page = Identity(keyed).get(f"/shared/{token}")
    assert (page.status, page.headers["X-Robots-Tag"]) == (200, "noindex, nofollow")
    assert page.headers["Referrer-Policy"] == "no-referrer"


def test_token_has_over_128_bits_and_is_shown_once(owner: Identity) -> None:
    conversation = owner.chat("Hello")["conversation_id"]
    tokens = {share(owner, conversation) for _ in range(20)}
    assert len(tokens) == 20
    assert {len(token) for token in tokens} == {32}  # of 62 characters: 190 bits
    found = owner.get(f"/api/conversations/{conversation}/share").text
    assert not any(token in found for token in tokens)


def test_link_shows_the_messages_at_its_creation(keyed: Server, owner: Identity) -> None:
    first = owner.chat("First")
    conversation = first["conversation_id"]
    token = share(owner, conversation)
    before = shown(keyed, token)
    assert len(before) == 2
    owner.chat("Said later", conversation_id=conversation)
    assert shown(keyed, token) == before
    again = owner.request(
        "POST", f"/api/conversations/{conversation}/messages/{first['message_id']}/regenerate", json={}
    )
    assert again.status == 200
    assert shown(keyed, token) == before
    anew = share(owner, conversation)
    assert shown(keyed, anew) == ["First", again.json["reply"]]
    assert read(keyed, token).status == 404


def test_link_shows_a_running_reply_until_it_ends(keyed: Server, owner: Identity) -> None:
    message = unique("Go on #n=40,r=40#")
    with owner.stream(message) as stream:
        start = next(iter(stream)).data
        token = share(owner, start["conversation_id"])
        assert read(keyed, token).json["messages"]["data"][1]["status"] == "generating"
        for _ in stream:
            pass
    assert eventually(lambda: shown(keyed, token)[1] == reply_to(message))


def test_messages_are_paged_in_order(keyed: Server, owner: Identity) -> None:
    conversation = owner.chat("0")["conversation_id"]
    for number in range(1, 4):
        owner.chat(str(number), conversation_id=conversation)
    token = share(owner, conversation)
    every = shown(keyed, token)
    assert every[::2] == ["0", "1", "2", "3"]
    assert [text for after in range(0, 8, 3) for text in shown(keyed, token, f"?limit=3&after={after}")] == every
    assert [read(keyed, token, f"?limit=4&after={after}").json["messages"]["has_more"] for after in (0, 3, 4, 9)] == [
        True, True, False, False,
    ]  # fmt: skip
    assert shown(keyed, token, "?after=100") == []
    for query in ("?limit=0", "?limit=101", "?after=-1", "?after=x", "?order=desc"):
        assert read(keyed, token, query).status == 422


def ended(owner: Identity, conversation: str) -> None:
    assert owner.request("DELETE", f"/api/conversations/{conversation}/share").status == 200


def deleted(owner: Identity, conversation: str) -> None:
    assert owner.request("DELETE", f"/api/conversations/{conversation}").status == 200


def shared_anew(owner: Identity, conversation: str) -> None:
    share(owner, conversation)


def expired(owner: Identity, conversation: str) -> None:
    path = f"/api/conversations/{conversation}"
    assert owner.request("PATCH", path, json={"ttl": 1}).status == 200
    assert eventually(lambda: owner.get(path).status == 404)


@pytest.mark.parametrize("end", [ended, deleted, shared_anew, expired])
def test_revoked_link_looks_like_an_unknown_one(keyed: Server, owner: Identity, end: Any) -> None:
    """Waits until a conversation has expired: a second."""
    conversation = owner.chat("Hello")["conversation_id"]
    token = share(owner, conversation)
    assert read(keyed, token).status == 200
    end(owner, conversation)
    gone = told(read(keyed, token))
    assert gone[0] == 404
    never = (uuid4().hex, token[:-1], token + "x", token.swapcase(), conversation, "%00", "%F0%9F%98%80", "x" * 4000)
    assert [told(read(keyed, one)) for one in never] == [gone] * len(never)


def test_sharing_and_unsharing_are_idempotent(keyed: Server, owner: Identity) -> None:
    conversation = owner.chat("Hello")["conversation_id"]
    assert not is_shared(owner, conversation)
    token = share(owner, conversation)
    assert is_shared(owner, conversation)
    for _ in range(2):
        ended(owner, conversation)
        assert not is_shared(owner, conversation)
    assert read(keyed, token).status == 404


def test_link_grants_no_other_access(keyed: Server, owner: Identity) -> None:
    conversation = owner.chat("Hello")["conversation_id"]
    token = share(owner, conversation)
    for method in ("POST", "PATCH", "DELETE", "PUT"):
        assert Identity(keyed).request(method, f"/api/shared/{token}", json={}).status == 405
    assert Identity(keyed, bearer(token)).get(f"/api/conversations/{conversation}").status == 401
    assert Identity(keyed, bearer(f"ck_{token}")).get(f"/api/conversations/{conversation}").status == 401
