"""Authentication and scopes, on every kind of server."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from chatkeep.auth.access import Scope
from tests.auth.keys import Identity, bearer, make_key, revoke, until_expired
from tests.client import request
from tests.servers import Server

LIST = "/api/conversations"


def without_id(problem: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in problem.items() if name != "request_id"}


MALFORMED: dict[str, Callable[[str], dict[str, str]]] = {
    "none": lambda _: {},
    "empty": lambda _: {"Authorization": ""},
    "no scheme": lambda key: {"Authorization": key},
    "no key": lambda _: {"Authorization": "Bearer"},
    "basic": lambda key: {"Authorization": f"Basic {key}"},
    "two spaces": lambda key: {"Authorization": f"Bearer  {key}"},
    "more behind": lambda key: {"Authorization": f"Bearer {key} x"},
    "a comma behind": lambda key: {"Authorization": f"Bearer {key}, Bearer {key}"},
    "a letter more": lambda key: {"Authorization": f"Bearer {key}x"},
    "a letter less": lambda key: {"Authorization": f"Bearer {key[:-1]}"},
    "another letter": lambda key: {"Authorization": f"Bearer {key[:-1]}{'a' if key[-1] != 'a' else 'b'}"},
    "capitals": lambda key: {"Authorization": f"Bearer {key.upper()}"},
    "quoted": lambda key: {"Authorization": f'Bearer "{key}"'},
    "the name alone": lambda key: {"Authorization": f"Bearer {key[:11]}"},
    "x-api-key": lambda key: {"X-API-Key": key},
    "full-width": lambda key: {"Authorization": f"Bearer {key[:-1]}\xc1"},
}


@pytest.mark.parametrize("form", MALFORMED.values(), ids=MALFORMED)
def test_key_is_accepted_only_as_a_bearer_token(caller: Identity, form: Callable[[str], dict[str, str]]) -> None:
    key = caller.headers["Authorization"].removeprefix("Bearer ")
    refused = request("GET", caller.server.url + LIST, headers=form(key))
    assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert without_id(refused.json) == {
        "type": "urn:chatkeep:problem:unauthorized",
        "title": "API key missing or invalid",
        "status": 401,
        "code": "unauthorized",
        "detail": "Send a valid key in the header Authorization: Bearer ck_... "
        "Yours may be mistyped, revoked or expired.",
    }


REFUSED: dict[str, tuple[int, Callable[[Server], dict[str, str]]]] = {
    "no key": (401, lambda _: {}),
    "a foreign page": (403, lambda _: {"Sec-Fetch-Site": "cross-site"}),
    "no scope": (403, lambda server: bearer(make_key(server.env["DATABASE_URL"], "local", Scope.READ).text)),
}


@pytest.mark.parametrize(("status", "headers"), REFUSED.values(), ids=REFUSED)
def test_body_of_an_unauthorized_request_is_not_read(
    keyed: Server, status: int, headers: Callable[[Server], dict[str, str]]
) -> None:
    """On gunicorn, which would wait for the rest; Waitress reads bodies before it calls the application."""
    if keyed.command != "gunicorn":
        return
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers(keyed).items())
    head = f"POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n{lines}\r\n"
    with socket.create_connection(("127.0.0.1", keyed.port), timeout=5) as client:
        client.sendall(head.encode())
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(f"HTTP/1.1 {status}".encode())


def test_key_in_the_query_string_is_ignored(caller: Identity) -> None:
    key = caller.headers["Authorization"].removeprefix("Bearer ")
    assert request("GET", f"{caller.server.url}{LIST}?access_token={key}").status == 401


def test_bearer_scheme_is_case_insensitive(caller: Identity) -> None:
    """RFC 9110 §11.1."""
    key = caller.headers["Authorization"].removeprefix("Bearer ")
    assert request("GET", caller.server.url + LIST, headers={"Authorization": f"bearer {key}"}).status == 200


def test_401_is_translated_by_accept_language(keyed: Server) -> None:
    problem = request("GET", keyed.url + LIST, headers={"Accept-Language": "zh"}).json
    assert (problem["code"], problem["title"]) == ("unauthorized", "缺少有效的 API 密钥")


@pytest.mark.parametrize("path", ["/", "/docs", "/admin", "/openapi.json", "/health", "/health/live", "/health/ready"])
def test_public_routes_need_no_key(keyed: Server, path: str) -> None:
    assert request("GET", keyed.url + path).status == 200


def test_unread_body_does_not_delay_a_401(keyed: Server) -> None:
    refused = request(
        "POST", f"{keyed.url}/api/chat", body=b"x" * 300_000, headers={"Content-Type": "application/json"}
    )
    assert refused.status == 401


NEEDED = {
    Scope.CHAT: [("POST", "/api/chat"), ("DELETE", f"{LIST}/{uuid4()}")],
    Scope.READ: [("GET", LIST)],
    Scope.EXPORT: [("GET", f"{LIST}/export-all"), ("GET", "/api/exports")],
    Scope.ADMIN: [("GET", "/metrics"), ("GET", "/api/admin/summary")],
}


@pytest.mark.parametrize("scope", Scope)
def test_key_can_do_only_what_its_scopes_allow(keyed: Server, scope: Scope) -> None:
    who = Identity(keyed, bearer(make_key(keyed.env["DATABASE_URL"], "local", scope).text))
    for needed, calls in NEEDED.items():
        for method, path in calls:
            answer = who.request(method, path)
            assert (answer.status == 403) is (needed is not scope), path
            if answer.status == 403:
                assert answer.json["code"] == "missing_scope"
                assert answer.json["detail"] == f"This request requires one of these scopes: {needed}."


@pytest.mark.parametrize("scope", [Scope.CHAT, Scope.READ])
def test_following_a_reply_needs_chat_or_read(keyed: Server, scope: Scope) -> None:
    who = Identity(keyed, bearer(make_key(keyed.env["DATABASE_URL"], "local", scope).text))
    assert who.get(f"{LIST}/{uuid4()}/messages/{uuid4()}/stream").status == 404


def test_revoked_key_gets_401_within_five_seconds(keyed: Server) -> None:
    """Waits for what the server promises: a second or two."""
    made = make_key(keyed.env["DATABASE_URL"])
    who = Identity(keyed, bearer(made.text))
    assert who.statuses(LIST) == {200}
    revoke(keyed.env["DATABASE_URL"], made)
    begun = time.monotonic()
    # Whichever process answers: each of them sees it at its own time.
    while who.statuses(LIST) != {401}:
        assert time.monotonic() - begun < 5


def test_expired_key_gets_401(keyed: Server) -> None:
    """Waits until a key has expired: three seconds."""
    made = make_key(keyed.env["DATABASE_URL"], lifetime=3)
    who = Identity(keyed, bearer(made.text))
    assert who.statuses(LIST) == {200}
    until_expired(made)
    assert who.statuses(LIST) == {401}


def test_end_user_is_isolated_from_the_account_and_other_end_users(caller: Identity) -> None:
    alice, bob = caller.named(f"alice {uuid4()}"), caller.named(f"bob {uuid4()}")
    path = f"{LIST}/{alice.chat('mine')['conversation_id']}"
    assert alice.get(path).status == 200
    assert (caller.get(path).status, bob.get(path).status) == (404, 404)
    assert [item["id"] for item in alice.get(LIST).json["data"]] == [path.rpartition("/")[2]]
    assert bob.get(LIST).json["data"] == []


def test_keys_share_the_data_of_their_account_only(keyed: Server) -> None:
    url, accounts = keyed.env["DATABASE_URL"], [f"a{uuid4().hex[:20]}", f"b{uuid4().hex[:20]}"]
    first, second, other = (
        Identity(keyed, bearer(make_key(url, account).text)) for account in (accounts[0], accounts[0], accounts[1])
    )
    path = f"{LIST}/{first.chat('ours')['conversation_id']}"
    assert (second.get(path).status, other.get(path).status) == (200, 404)
    assert other.named("x").get(path).status == 404


NAMES = {
    "composed": "é",
    "decomposed": "e\u0301",
    "full-width": "\uff21",
    "plain": "A",
    "small": "a",
    "joined": "a\u200db",
}


def test_similar_names_are_different_end_users(caller: Identity) -> None:
    ids = {caller.named(name).chat("hello")["conversation_id"]: caller.named(name) for name in NAMES.values()}
    for made, who in ids.items():
        assert [made == item["id"] for item in who.get(LIST).json["data"]].count(True) == 1
        others = [other for known, other in ids.items() if known != made]
        assert {other.get(f"{LIST}/{made}").status for other in others} == {404}


@pytest.mark.parametrize("name", ["小明", "a b", "用户\U0001f600", "x" * 255, "字" * 255, "a,b"])
def test_end_user_name_may_have_any_text(caller: Identity, name: str) -> None:
    assert caller.named(name).get(LIST).status == 200


@pytest.mark.parametrize("sent", ["", "x" * 256, "\x80", "a\xff", "a\xc2\x85"])
def test_invalid_end_user_name_is_refused(caller: Identity, sent: str) -> None:
    refused = caller.request("GET", LIST, headers={"X-End-User": sent})
    assert (refused.status, refused.json["errors"][0]["field"]) == (422, "X-End-User")


def test_end_user_names_are_never_stored(caller: Identity) -> None:
    name = f"secret-{uuid4()}"
    caller.named(name).chat("hello")
    answer = caller.named(name).get(f"{LIST}/export-all")
    assert name.encode() not in answer.body
    assert name not in caller.server.log()
    if caller.server.env["DATABASE_URL"].startswith("sqlite"):
        folder = Path(caller.server.env["DATABASE_URL"].removeprefix("sqlite:///")).parent
        assert all(name.encode() not in file.read_bytes() for file in folder.glob("chatkeep.sqlite3*"))
