"""Every route x id x identity: a caller without access gets the same response for any id, and no foreign byte.

The routes come from the served OpenAPI document, on every kind of server and both databases; a route without a case
here fails the test. The canary that must not leak is in every text of an end user's conversation.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from chatkeep.auth.access import NewKey, Scope
from tests.auth.keys import Identity, bearer, make_key, revoke
from tests.client import Response
from tests.http.api import eventually
from tests.servers import Server

Ids = Mapping[str, str]
PLACEHOLDER = re.compile(r"\{\w+\}")
OWNERS = (Scope.CHAT, Scope.READ, Scope.EXPORT)
MESSAGE = "/api/conversations/{conversation_id}/messages/{message_id}"


@dataclass(frozen=True, slots=True)
class Call:
    """A valid request to a route, except for its caller; ``{name}`` stands for an id, also in the body."""

    body: Any = None
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    mine: int = 0
    """The status for the owner; 0 is success."""


THERE = [Call()]
SPOKEN = {"message": "hello", "conversation_id": "{conversation_id}"}
CALLS: dict[str, list[Call]] = {
    "POST /api/chat": [
        Call(SPOKEN),
        Call(SPOKEN | {"stream": True}),
        Call(SPOKEN | {"on_disconnect": "stop"}),
        Call(SPOKEN, headers=(("Idempotency-Key", "{key}"),), mine=422),
    ],
    f"POST {MESSAGE}/regenerate": [Call({}), Call({"stream": True})],
    f"POST {MESSAGE}/edit": [Call({"message": "hello"}), Call({"message": "hello", "stream": True})],
    f"GET {MESSAGE}/stream": [Call(), Call(query="after=3"), Call(headers=(("Last-Event-ID", "end"),))],
    "POST /api/conversations/{conversation_id}/stop": THERE,
    "POST /api/conversations/{conversation_id}/share": THERE,
    "GET /api/conversations/{conversation_id}/share": THERE,
    "DELETE /api/conversations/{conversation_id}/share": THERE,
    "GET /api/conversations": [
        Call(), Call(query="limit=100"), Call(query="after={conversation_id}"), Call(query="q={canary}"),
        Call(query="order=asc&limit=100"), Call(query="pinned=true"),
    ],
    "GET /api/conversations/{conversation_id}": [Call(), Call(query="order=desc"), Call(query="after={message_id}")],
    "PATCH /api/conversations/{conversation_id}": [Call({"title": "mine"}), Call({"current_id": "{message_id}"})],
    "DELETE /api/conversations/{conversation_id}": THERE,
    "GET /api/conversations/{conversation_id}/export": [
        Call(query=f"format={name}") for name in ("json", "csv", "ndjson", "md", "openai")
    ],
    "GET /api/conversations/export-all": [
        *(Call(query=f"format={name}") for name in ("json", "csv", "ndjson", "md", "openai")),
        Call(query="cursor={cursor}&format=ndjson"), Call(query="start_date=2020-01-01"),
    ],
    "POST /api/conversations/import": [
        Call({"object": "export", "version": 1, "conversations": [], "end": {}}, mine=422),
    ],
    "POST /api/exports": [Call({"format": "json", "conversation_id": "{conversation_id}"})],
    "GET /api/exports": [Call(), Call(query="limit=100"), Call(query="after={export_id}")],
    "GET /api/exports/{export_id}": THERE,
    "POST /api/exports/{export_id}/cancel": [Call(mine=409)],
    "DELETE /api/exports/{export_id}": THERE,
    "GET /api/exports/{export_id}/content": [Call(), Call(headers=(("Range", "bytes=0-99"),))],
    "GET /api/end-users/me": THERE,
    "DELETE /api/end-users/me": THERE,
    "POST /api/keys": [Call({"name": "mine", "scopes": ["admin"]})],
    "GET /api/keys": [Call(), Call(query="after={key_id}")],
    "GET /api/keys/{key_id}": THERE,
    "PATCH /api/keys/{key_id}": [Call({"name": "mine", "limits": {"requests_per_day": 1000}})],
    "DELETE /api/keys/{key_id}": THERE,
    "POST /api/keys/{key_id}/rotate": [Call({})],
    "GET /api/sign-in": THERE,
    "GET /api/usage": [Call(), Call(query="group_by=day,model,key,account,end_user")],
    "GET /api/audit": [Call(), Call(query="order=asc&limit=100")],
    "GET /api/audit/export": [Call(), Call(query="format=csv")],
    "GET /api/admin/summary": THERE,
    "GET /api/admin/series": [Call(query="name=chatkeep_turns_total")],
}  # fmt: skip
# These have no owner's data.
PUBLIC: dict[str, list[Call]] = {
    "POST /api/sign-in": [Call({"key": "ck_12345678_"}, mine=401)],
    "POST /api/sign-out": THERE,
    "GET /api/shared/{token}": [Call(mine=404), Call(query="after=1&limit=1", mine=404)],
    "GET /health": THERE,
    "GET /health/live": THERE,
    "GET /health/ready": THERE,
    "GET /openapi.json": THERE,
    "GET /openapi-3.1.json": THERE,
    "GET /openapi-3.2.json": THERE,
}


@dataclass(frozen=True, slots=True)
class Case:
    """One request to one route; any caller can send it."""

    method: str
    path: str
    call: Call
    scopes: frozenset[str]

    @property
    def names_ids(self) -> bool:
        """Whether the request names anything, so that it is another one with other ids."""
        sent = (self.path, self.call.query, json.dumps(self.call.body), *dict(self.call.headers).values())
        return any(PLACEHOLDER.search(text) for text in sent)

    def send(self, who: Identity, ids: Ids) -> Response:
        if self.path.endswith("/edit"):  # of a user message alone
            ids = {**ids, "message_id": ids["question_id"]}
        query = f"?{filled(self.call.query, ids)}" if self.call.query else ""
        headers = {name: filled(value, ids) for name, value in self.call.headers}
        body = None if self.call.body is None else json.loads(filled(json.dumps(self.call.body), ids))
        return who.request(self.method, filled(self.path, ids) + query, json=body, headers=headers)


def filled(text: str, ids: Ids) -> str:
    for name, value in ids.items():
        text = text.replace(f"{{{name}}}", value)
    return text


@dataclass(frozen=True, slots=True)
class Victim:
    """An end user with a conversation and an export, and what must not be seen of them."""

    who: Identity
    account: str
    name: str
    ids: Ids

    def state(self) -> Any:
        """Return all that the victim has."""
        conversation = self.who.get(filled("/api/conversations/{conversation_id}", self.ids)).json
        return conversation, self.who.get(filled("/api/exports/{export_id}", self.ids)).json


@pytest.fixture(scope="module")
def victim(keyed: Server) -> Victim:
    return a_victim(keyed)


def a_victim(keyed: Server) -> Victim:
    url, account, canary = keyed.env["DATABASE_URL"], f"v{uuid4().hex[:20]}", f"canary-{uuid4().hex}"
    made = make_key(url, account, *OWNERS)
    who = Identity(keyed, bearer(made.text)).named(canary)
    cursor = json.loads(who.get("/api/conversations/export-all?format=ndjson").text.splitlines()[-1])["cursor"]
    key, asked = uuid4().hex, {"message": f"tell me of {canary}", "system": canary, "metadata": {"note": canary}}
    said = who.request("POST", "/api/chat", json=asked, headers={"Idempotency-Key": key}).json
    pinned = {"title": canary, "pinned": True}
    assert who.request("PATCH", f"/api/conversations/{said['conversation_id']}", json=pinned).status == 200
    job = who.request("POST", "/api/exports", json={"format": "json"}).json["id"]
    assert eventually(lambda: who.get(f"/api/exports/{job}").json["status"] == "completed")
    question = who.get(f"/api/conversations/{said['conversation_id']}").json["messages"]["first_id"]
    ids = {
        "question_id": question, "conversation_id": said["conversation_id"], "message_id": said["message_id"],
        "export_id": job, "key_id": str(made.key.id), "key": key, "canary": canary, "cursor": cursor, "token": "none",
    }  # fmt: skip
    assert canary in who.get(f"/api/exports/{job}/content").text
    return Victim(who, account, canary, ids)


@pytest.fixture(scope="module")
def cases(keyed: Server) -> list[Case]:
    return [
        Case(method, path, call, scopes)
        for method, path, scopes in operations(keyed)
        for call in (CALLS | PUBLIC)[f"{method} {path}"]
    ]


def operations(server: Server) -> Iterator[tuple[str, str, frozenset[str]]]:
    """Yield every method and path of the served document, with the scopes of which any is enough."""
    for path, methods in Identity(server).get("/openapi.json").json["paths"].items():
        for method, operation in methods.items():
            scopes = frozenset(scope for one in operation["security"] for scope in one["key"])
            yield method.upper(), path, scopes


def test_matrix_covers_every_route(keyed: Server) -> None:
    found = {f"{method} {path}": scopes for method, path, scopes in operations(keyed)}
    assert found.keys() == CALLS.keys() | PUBLIC.keys()
    assert {name for name, scopes in found.items() if not scopes} == PUBLIC.keys()


def nowhere(victim: Victim) -> dict[str, str]:
    """Return ids of nothing, like those of the victim."""
    return {name: str(uuid4()) for name in victim.ids} | {"cursor": victim.ids["cursor"]}


def each_ids(case: Case, victim: Victim) -> list[Ids]:
    """Return the ids to send a request with: those of the victim, and those of nothing if it names any."""
    return [victim.ids, nowhere(victim)] if case.names_ids else [victim.ids]


def told(response: Response) -> tuple[int, Any]:
    """Return what an answer says but for the id that each has of its own."""
    body = response.json
    return response.status, {name: value for name, value in body.items() if name != "request_id"}


def has_canary(response: Response, victim: Victim) -> bool:
    return victim.name in response.body.decode("utf-8", "replace") + str(response.headers)


ANONYMOUS: dict[str, Callable[[Server, Victim], Identity]] = {
    "none": lambda server, _: Identity(server),
    "no key": lambda server, _: Identity(server, {"Authorization": "Bearer"}),
    "basic": lambda server, victim: Identity(server, {"Authorization": f"Basic {text_of(victim)}"}),
    "no scheme": lambda server, victim: Identity(server, {"Authorization": text_of(victim)}),
    "a letter more": lambda server, victim: Identity(server, bearer(f"{text_of(victim)}x")),
    "a letter less": lambda server, victim: Identity(server, bearer(text_of(victim)[:-1])),
    "twice": lambda server, victim: Identity(server, bearer(f"{text_of(victim)}, {text_of(victim)}")),
    "the secret of another key": lambda server, victim: Identity(
        server, bearer(text_of(victim)[:12] + make_key(server.env["DATABASE_URL"]).text[12:])
    ),
    "unknown": lambda server, _: Identity(server, bearer(f"ck_{uuid4().hex[:8]}_{uuid4().hex}{uuid4().hex[:8]}")),
    "revoked": lambda server, victim: Identity(server, bearer(ended_key(server, victim).text)),
    "expired": lambda server, victim: Identity(server, bearer(expired_key(server, victim).text)),
}


def text_of(victim: Victim) -> str:
    return victim.who.headers["Authorization"].removeprefix("Bearer ")


def ended_key(server: Server, victim: Victim) -> NewKey:
    made = make_key(server.env["DATABASE_URL"], victim.account)
    assert Identity(server, bearer(made.text)).get("/api/conversations").status == 200
    revoke(server.env["DATABASE_URL"], made)
    time.sleep(2)
    return made


def expired_key(server: Server, victim: Victim) -> NewKey:
    made = make_key(server.env["DATABASE_URL"], victim.account, lifetime=0.5)
    time.sleep(0.6)
    return made


@pytest.mark.parametrize("anonymous", ANONYMOUS.values(), ids=ANONYMOUS)
def test_every_route_gives_the_same_401_without_a_key(
    keyed: Server, victim: Victim, cases: list[Case], anonymous: Callable[[Server, Victim], Identity]
) -> None:
    """Sends some hundred requests, and waits until a key has ended: a second or two."""
    who, reference = anonymous(keyed, victim).named(victim.name), told(Identity(keyed).get("/api/conversations"))
    assert reference[0] == 401
    for case in cases:
        if not case.scopes:
            continue
        for ids in each_ids(case, victim):
            answer = case.send(who, ids)
            assert told(answer) == reference, case
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert not has_canary(answer, victim), case
        if case.method == "GET":
            assert who.request("HEAD", filled(case.path, victim.ids)).status == 401


@pytest.mark.parametrize("mode", ["cors", "navigate"])
def test_cookie_is_ignored_on_cross_site_requests(keyed: Server, victim: Victim, cases: list[Case], mode: str) -> None:
    """Sends some hundred requests: a second. A link may lead here; it is followed without a key."""
    before, cookie = victim.state(), {"Cookie": f"chatkeep_key={text_of(victim)}"}
    own = Identity(keyed, cookie | {"Sec-Fetch-Site": "same-origin"}).named(victim.name)
    assert own.get(filled("/api/conversations/{conversation_id}", victim.ids)).status == 200
    who = Identity(keyed, cookie | {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode}).named(victim.name)
    anonymous, foreign = (
        told(Identity(keyed).get("/api/conversations")),
        told(who.request("DELETE", "/api/conversations")),
    )
    assert (anonymous[0], foreign[0], foreign[1]["code"]) == (401, 403, "foreign_origin")
    for case in cases:
        if not case.scopes:
            continue
        reference = anonymous if (mode, case.method) == ("navigate", "GET") else foreign
        for ids in each_ids(case, victim):
            answer = case.send(who, ids)
            assert told(answer) == reference, case
            assert not has_canary(answer, victim), case
    assert victim.state() == before


@pytest.mark.parametrize("scope", Scope)
def test_every_route_gives_the_same_403_without_its_scope(
    keyed: Server, victim: Victim, cases: list[Case], scope: Scope
) -> None:
    """Sends some hundred requests: a second."""
    before = victim.state()
    who = Identity(keyed, bearer(make_key(keyed.env["DATABASE_URL"], victim.account, scope).text)).named(victim.name)
    refused = [case for case in cases if case.scopes and scope not in case.scopes]
    assert refused
    for case in refused:
        answers = [case.send(who, ids) for ids in each_ids(case, victim)]
        assert told(answers[0]) == told(answers[-1]), case
        assert (answers[0].status, answers[0].json["code"]) == (403, "missing_scope"), case
        assert not any(has_canary(answer, victim) for answer in answers), case
    assert victim.state() == before


def of_account(account: str) -> Callable[[Server], Identity]:
    return lambda server: Identity(server, bearer(make_key(server.env["DATABASE_URL"], account, *OWNERS).text))


STRANGERS: dict[str, Callable[[Server, Victim], Identity]] = {
    "the account itself": lambda server, victim: of_account(victim.account)(server),
    "another end user": lambda server, victim: of_account(victim.account)(server).named("another"),
    "an end user whose name begins the same": lambda server, victim: of_account(victim.account)(server).named(
        victim.name[:-1]
    ),
    "an end user who is called like the owner's row": lambda server, victim: of_account(victim.account)(server).named(
        f"{victim.account}/{victim.name}"
    ),
    "another account": lambda server, _: of_account(f"o{uuid4().hex[:20]}")(server),
    "the same name in another account": lambda server, victim: of_account(f"o{uuid4().hex[:20]}")(server).named(
        victim.name
    ),
}


@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS)
def test_another_owner_gets_nothing_and_no_hint(
    keyed: Server, victim: Victim, cases: list[Case], stranger: Callable[[Server, Victim], Identity]
) -> None:
    """Sends some hundred requests, some of which take turns: some seconds."""
    before, who = victim.state(), stranger(keyed, victim)
    for case in cases:
        if not case.scopes.intersection(OWNERS):
            continue
        answer, *without = (case.send(who, ids) for ids in each_ids(case, victim))
        assert {other.status for other in without} <= {answer.status}, case
        if answer.status >= 400:
            assert all(told(other) == told(answer) for other in without), case
        assert not has_canary(answer, victim) or victim.name in case.call.query, case
        if "{conversation_id}" in f"{case.path}{case.call.body}" or "{export_id}" in case.path:
            assert answer.status == 404, case
    assert victim.state() == before


@pytest.mark.parametrize("public", PUBLIC)
def test_public_routes_show_no_owner_s_data(victim: Victim, cases: list[Case], public: str) -> None:
    for case in cases:
        if f"{case.method} {case.path}" == public:
            for who in (Identity(victim.who.server), victim.who):
                answer = case.send(who, victim.ids)
                assert answer.status in {200, 401, 404}
                assert not has_canary(answer, victim)


def test_operator_reads_no_conversations_and_no_names(keyed: Server, victim: Victim, cases: list[Case]) -> None:
    admin = Identity(keyed, bearer(make_key(keyed.env["DATABASE_URL"], "ops", Scope.ADMIN).text))
    sent = 0
    for case in cases:
        if Scope.ADMIN in case.scopes and case.method == "GET":
            answer = case.send(admin, victim.ids)
            assert answer.status == 200, case
            assert not has_canary(answer, victim)
            sent += 1
    assert sent >= 5


def test_requests_of_the_matrix_succeed_for_the_right_caller(keyed: Server, cases: list[Case]) -> None:
    """Else a 404 would prove nothing. What deletes comes last, for nothing is left of this victim then."""
    victim = a_victim(keyed)
    who = Identity(keyed, bearer(make_key(keyed.env["DATABASE_URL"], victim.account).text)).named(victim.name)
    for case in sorted(cases, key=order):
        answer = case.send(who, victim.ids)
        is_right = answer.status == case.call.mine if case.call.mine else answer.status < 300
        assert is_right, (case, answer.body)


def order(case: Case) -> int:
    """Return when a request of the victim's own is sent: an edit and what deletes or revokes come after the others."""
    if case.method == "DELETE":
        return 1 if case.path.endswith("/share") else 2
    return int(case.path.endswith(("/edit", "/rotate")))
