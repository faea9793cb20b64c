"""Sign-in on the page sets a cookie that scripts cannot read and that works on own pages only."""

from __future__ import annotations

import time
from collections.abc import Mapping
from http.cookies import SimpleCookie
from typing import Any

import pytest

from chatkeep.auth.access import NewKey, Scope
from tests.auth.keys import Identity, bearer, make_key, revoke, until_expired
from tests.client import Response, request
from tests.servers import Server, thrown_away
from tests.upstream import Upstream

OWN = {"Sec-Fetch-Site": "same-origin"}
LIST = "/api/conversations"


def call(server: Server, method: str, path: str, cookie: str = "", **headers: str) -> Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return request(method, server.url + path, headers={"Cookie": f"chatkeep_key={cookie}", **sent})


def sign_in(server: Server, made: NewKey) -> tuple[Response, str]:
    """Sign in with a key; return the answer and the key in its cookie."""
    answer = request("POST", f"{server.url}/api/sign-in", json={"key": made.text}, headers=OWN)
    assert answer.status == 200, answer.body
    return answer, SimpleCookie(answer.headers["Set-Cookie"])["chatkeep_key"].value


@pytest.fixture
def made(keyed: Server) -> NewKey:
    return make_key(keyed.env["DATABASE_URL"], "local", Scope.READ, Scope.CHAT)


def test_session_reaches_what_its_key_reaches(keyed: Server, made: NewKey) -> None:
    answer, cookie = sign_in(keyed, made)
    who = {"object": "caller", "account": "local", "scopes": ["chat", "read"], "end_user": False}
    assert answer.json == who | {"owner": "local", "name": "a test"}
    attributes = {part.strip().partition("=")[0] for part in answer.headers["Set-Cookie"].split(";")}
    assert {"HttpOnly", "SameSite", "Path", "Max-Age"} <= attributes
    assert "SameSite=Strict" in answer.headers["Set-Cookie"]
    assert cookie != made.text
    assert made.text not in answer.text + str(answer.headers)
    assert call(keyed, "GET", LIST, cookie, **OWN).status == 200
    assert call(keyed, "GET", "/api/sign-in", cookie, **OWN).json == answer.json
    assert call(keyed, "GET", "/api/keys", cookie, **OWN).status == 403


@pytest.mark.parametrize("key", ["", "x", "ck_12345678_" + "x" * 40])
def test_sign_in_with_an_invalid_key_is_refused(keyed: Server, key: str) -> None:
    answer = request("POST", f"{keyed.url}/api/sign-in", json={"key": key})
    assert (answer.status, answer.json["code"], answer.headers["Set-Cookie"]) == (401, "unauthorized", None)


def test_sign_in_tells_that_the_key_is_revoked_or_expired(keyed: Server, made: NewKey) -> None:
    """Waits until a key has expired: half a second."""
    revoke(keyed.env["DATABASE_URL"], made)
    short = make_key(keyed.env["DATABASE_URL"], lifetime=0.5)
    until_expired(short)
    for text, code in (
        (made.text, "key_revoked"),
        (short.text, "key_expired"),
        (made.text[:-1] + "!", "unauthorized"),
        (made.text[:12] + short.text[12:], "unauthorized"),  # the name of one and the secret of the other
    ):
        answer = request("POST", f"{keyed.url}/api/sign-in", json={"key": text}, headers=OWN)
        assert (answer.status, answer.json["code"], answer.headers["Set-Cookie"]) == (401, code, None)


COUNTS: list[tuple[str, Mapping[str, str]]] = [
    ("GET", OWN),
    ("POST", OWN),
    ("GET", {"Sec-Fetch-Site": "none"}),
    ("GET", {}),
    ("GET", {"Origin": "{own}"}),
    ("POST", {"Origin": "{own}"}),
]
# Accepted, because programs send such requests and links lead here; but the cookie is ignored.
COUNTS_NOT: list[tuple[str, Mapping[str, str]]] = [
    ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}),
    ("GET", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"}),
    ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Origin": "{own}"}),
    ("GET", {"Origin": "null", "Sec-Fetch-Mode": "navigate"}),
    ("POST", {"Sec-Fetch-Site": "none"}),
    ("POST", {"Sec-Fetch-Site": "none", "Origin": "{own}"}),
    ("POST", {}),
]
FOREIGN: list[tuple[str, Mapping[str, str]]] = [
    ("GET", {"Sec-Fetch-Site": "cross-site"}),
    ("GET", {"Sec-Fetch-Site": "same-site"}),
    ("POST", {"Sec-Fetch-Site": "cross-site", "Origin": "{own}"}),
    ("POST", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}),
    ("POST", {"Sec-Fetch-Site": ""}),
    ("POST", {"Origin": "null"}),
    ("POST", {"Origin": "http://evil.example.com"}),
    ("POST", {"Origin": "{own}.evil.example.com"}),
    ("GET", {"Origin": "http://127.0.0.1"}),
]


def answered(server: Server, cookie: str, method: str, headers: Mapping[str, str]) -> tuple[int, Any]:
    """Return the status of a request with a cookie, and the code of its problem."""
    path = LIST if method == "GET" else f"{LIST}/01a21503-9c1f-7a52-8f0e-5b1c7a0d9e44/stop"
    sent = {name: value.format(own=server.url) for name, value in headers.items()}
    answer = call(server, method, path, cookie, **sent)
    return answer.status, answer.json.get("code")


@pytest.mark.parametrize(("method", "headers"), COUNTS)
def test_cookie_works_on_own_pages(keyed: Server, made: NewKey, method: str, headers: Any) -> None:
    expected = (200, None) if method == "GET" else (404, "not_found")
    assert answered(keyed, sign_in(keyed, made)[1], method, headers) == expected


@pytest.mark.parametrize(("method", "headers"), COUNTS_NOT)
def test_cookie_is_ignored_from_other_sites(keyed: Server, made: NewKey, method: str, headers: Any) -> None:
    assert answered(keyed, sign_in(keyed, made)[1], method, headers) == (401, "unauthorized")


@pytest.mark.parametrize(("method", "headers"), FOREIGN)
def test_page_of_another_origin_is_refused_even_with_a_cookie(
    keyed: Server, made: NewKey, method: str, headers: Any
) -> None:
    refused = (403, "foreign_origin")
    assert answered(keyed, sign_in(keyed, made)[1], method, headers) == refused
    assert answered(keyed, "", method, headers) == refused


def test_cookie_is_ignored_on_pages_of_listed_origins(
    upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It may call the API, with a key of its own."""
    listed = "https://app.example.com"
    env = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "test-key", "CHATKEEP_CORS_ORIGINS": listed}
    folder = tmp_path_factory.mktemp("listed")
    env["DATABASE_URL"] = f"sqlite:///{(folder / 'chatkeep.sqlite3').as_posix()}"
    made = make_key(env["DATABASE_URL"])
    with thrown_away(Server("waitress", folder, env)) as server:
        cookie = sign_in(server, made)[1]
        for headers in ({"Origin": listed}, {"Origin": listed, "Sec-Fetch-Site": "cross-site"}):
            for method in ("GET", "POST"):
                assert answered(server, cookie, method, headers) == (401, "unauthorized")
            assert Identity(server, {**bearer(made.text), **headers}).get(LIST).status == 200


def test_invalid_header_is_refused_even_with_a_cookie(keyed: Server, made: NewKey) -> None:
    cookie = sign_in(keyed, made)[1]
    assert call(keyed, "GET", LIST, cookie, Authorization="Bearer x", **OWN).status == 401


def until_refused(server: Server, cookie: str) -> None:
    deadline = time.monotonic() + 5
    while {call(server, "GET", LIST, cookie, **OWN).status for _ in range(10)} != {401}:
        assert time.monotonic() < deadline


def test_sign_out_ends_only_this_session(keyed: Server, made: NewKey) -> None:
    """Waits until every process has seen it: a second or two."""
    cookies = [sign_in(keyed, made)[1] for _ in range(2)]
    answer = call(keyed, "POST", "/api/sign-out", cookies[0], **OWN)
    assert (answer.status, answer.json) == (200, {"signed_out": True})
    assert SimpleCookie(answer.headers["Set-Cookie"])["chatkeep_key"].value == ""
    until_refused(keyed, cookies[0])
    assert call(keyed, "GET", LIST, cookies[1], **OWN).status == 200
    assert Identity(keyed, bearer(made.text)).get(LIST).status == 200


def test_sign_out_needs_the_cookie_of_an_own_page(keyed: Server, made: NewKey) -> None:
    """Waits as long as a server takes to see that a key has ended: two seconds."""
    cookie = sign_in(keyed, made)[1]
    assert call(keyed, "POST", "/api/sign-out", cookie, Sec_Fetch_Site="cross-site").status == 403
    assert call(keyed, "POST", "/api/sign-out", cookie).json == {"signed_out": False}
    assert call(keyed, "POST", "/api/sign-out", made.text, **OWN).json == {"signed_out": False}
    time.sleep(2)
    assert call(keyed, "GET", LIST, cookie, **OWN).status == 200
    assert Identity(keyed, bearer(made.text)).get(LIST).status == 200


def test_revoking_a_key_ends_its_sessions(keyed: Server, made: NewKey) -> None:
    """Waits until every process has seen it: a second or two."""
    cookie = sign_in(keyed, made)[1]
    revoke(keyed.env["DATABASE_URL"], made)
    until_refused(keyed, cookie)


def test_session_expires_with_its_key(keyed: Server) -> None:
    """Waits until a key has expired: three seconds."""
    made = make_key(keyed.env["DATABASE_URL"], lifetime=3)
    cookie = sign_in(keyed, made)[1]
    assert call(keyed, "GET", LIST, cookie, **OWN).status == 200
    until_expired(made)
    assert call(keyed, "GET", LIST, cookie, **OWN).status == 401


def test_cookie_has_the_host_prefix_over_https(keyed: Server, made: NewKey) -> None:
    """gunicorn trusts a proxy on this machine about HTTPS; the two other servers trust none."""
    https = {**OWN, "X-Forwarded-Proto": "https"}
    name = "__Host-chatkeep_key" if keyed.command == "gunicorn" else "chatkeep_key"
    answer = request("POST", f"{keyed.url}/api/sign-in", json={"key": made.text}, headers=https)
    (found,) = SimpleCookie(answer.headers["Set-Cookie"]).values()
    assert (found.key, found["path"], found["domain"]) == (name, "/", "")
    assert ("; Secure" in answer.headers["Set-Cookie"]) == (keyed.command == "gunicorn")
    for sent in ("chatkeep_key", "__Host-chatkeep_key"):
        status = request("GET", keyed.url + LIST, headers={"Cookie": f"{sent}={found.value}", **https}).status
        assert status == (200 if sent == name else 401)
