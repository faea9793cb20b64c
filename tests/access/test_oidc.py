"""Signing in with an OpenID provider: who comes back is believed only as far as everything fits together."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from chatkeep.access import owner_of
from chatkeep.errors import SettingsError
from chatkeep.keys import revoke_key
from chatkeep.oidc import Oidc
from chatkeep.settings import Settings
from tests.access.keys import Identity, bearer, journal_of, make_key
from tests.client import Response, request
from tests.servers import Server, thrown_away
from tests.services.oidc import CLIENT_ID, CLIENT_SECRET, Provider
from tests.upstream import Upstream

OWN = {"Sec-Fetch-Site": "same-origin"}
LIST = "/api/conversations"
ID = "01a202d1-2a30-79d4-9bd7-fd298a4c908a"


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture(autouse=True)
def provider(running: Provider) -> Provider:
    """The provider, which tells no lies yet."""
    running.lies, running.make_token, running.subject = {}, None, "alice"
    return running


@pytest.fixture(scope="module", params=["waitress", "gunicorn"])
def server(
    request: pytest.FixtureRequest, running: Provider, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server on loopback that has a provider, and no key."""
    folder = tmp_path_factory.mktemp("oidc")
    env = {
        "DATABASE_URL": f"sqlite:///{(folder / 'chatkeep.sqlite3').as_posix()}",
        "OPENAI_BASE_URL": upstream.url,
        "CHATKEEP_OIDC_ISSUER": running.url,
        "CHATKEEP_OIDC_CLIENT_ID": CLIENT_ID,
        "CHATKEEP_OIDC_CLIENT_SECRET": CLIENT_SECRET,
        "CHATKEEP_OIDC_ACCOUNT": "people",
        "CHATKEEP_OIDC_SCOPES": "chat,read",
    }
    with thrown_away(Server(request.param, folder, env)) as server:
        yield server


class Browser:
    """A browser that keeps cookies and follows no redirect by itself."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.cookies: dict[str, str] = {}

    def get(self, url: str, **headers: str) -> Response:
        sent = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = request("GET", url, headers={"Cookie": sent, **headers})
        for header in answer.headers.get_all("Set-Cookie", []):
            for name, morsel in SimpleCookie(header).items():
                self.cookies[name] = morsel.value
        return answer

    def begin(self, to: str = "") -> str:
        """Begin to sign in, and return where the provider sends the browser back to."""
        away = self.get(f"{self.server.url}/sign-in/oidc?{urlencode({'to': to})}")
        assert away.status == 302, away.body
        return str(request("GET", away.headers["Location"]).headers["Location"])

    def sign_in(self, to: str = "") -> str:
        """Sign in, and return where the browser is then."""
        return str(self.get(self.begin(to)).headers["Location"])

    def status(self) -> int:
        return self.get(self.server.url + LIST, **OWN).status


@pytest.fixture
def browser(server: Server) -> Browser:
    return Browser(server)


def test_who_signs_in_is_an_end_user_of_the_account(server: Server, provider: Provider, browser: Browser) -> None:
    assert browser.status() == 401  # on loopback, and without any key
    assert browser.sign_in(f"#{ID}") == f"/#{ID}"
    assert browser.cookies["chatkeep_oidc"] == ""
    who = browser.get(f"{server.url}/api/sign-in", **OWN).json
    owner = owner_of("people", "alice")
    assert who == {
        "object": "caller", "account": "people", "scopes": ["chat", "read"], "end_user": True, "owner": owner,
        "name": urlsplit(provider.url).netloc,
    }  # fmt: skip
    app = Identity(server, bearer(make_key(server.env["DATABASE_URL"], "people").text))
    said = app.named("alice").chat("of alice")["conversation_id"]
    assert browser.get(f"{server.url}{LIST}/{said}", **OWN).status == 200
    provider.subject = "bob"
    other = Browser(server)
    other.sign_in()
    assert other.get(f"{server.url}{LIST}/{said}", **OWN).status == 404


def test_the_cookies_are_out_of_reach(server: Server, provider: Provider, browser: Browser) -> None:
    away = browser.get(f"{server.url}/sign-in/oidc")
    cookie = str(away.headers["Set-Cookie"])
    assert {part.strip() for part in cookie.split(";")[1:]} >= {"HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=600"}
    asked = parse_qs(urlsplit(away.headers["Location"]).query)
    assert asked["scope"] == ["openid"]
    assert min(len(asked[name][0]) for name in ("state", "nonce", "code_challenge")) >= 43
    done = browser.get(request("GET", away.headers["Location"]).headers["Location"])
    key = next(one for one in done.headers.get_all("Set-Cookie", []) if one.startswith("chatkeep_key="))
    assert {part.strip() for part in key.split(";")[1:]} >= {"HttpOnly", "SameSite=Strict", "Max-Age=43200"}
    assert provider.url not in done.text
    assert done.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "admin/../x", "#x", "/admin", "\r\nX: y"])
def test_nobody_is_sent_anywhere_else(browser: Browser, to: str) -> None:
    assert browser.sign_in(to) == "/"


def test_the_operator_s_page_is_come_back_to(browser: Browser) -> None:
    assert browser.sign_in("admin") == "/admin"


def is_refused(browser: Browser, url: str, why: str = "failed") -> bool:
    answer = browser.get(url)
    cookie = browser.cookies.get("chatkeep_key")
    assert answer.status == 302
    return answer.headers["Location"] == f"/?sign-in={why}" and cookie is None and browser.status() == 401


def changed(url: str, **parameters: str | None) -> str:
    place = urlsplit(url)
    asked = {name: values[0] for name, values in parse_qs(place.query).items()} | parameters
    kept = {name: value for name, value in asked.items() if value is not None}
    return place._replace(query=urlencode(kept)).geturl()


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"state": "x" * 43}, "failed"),
        ({"state": None}, "failed"),
        ({"state": "\u00e9"}, "failed"),
        ({"code": None}, "failed"),
        ({"code": "made up"}, "failed"),
        ({"iss": "https://evil.example"}, "failed"),
        ({"error": "access_denied", "code": None}, "denied"),
        ({"error": "server_error", "code": None}, "failed"),
    ],
)
def test_an_answer_that_does_not_fit_lets_nobody_in(
    browser: Browser, parameters: dict[str, str | None], why: str
) -> None:
    assert is_refused(browser, changed(browser.begin(), **parameters), why)


def test_an_answer_is_for_the_browser_that_asked(server: Server, browser: Browser) -> None:
    """Somebody's answer in another browser would sign that one in as them."""
    theirs = browser.begin()
    for cookie in ("", "x", "e30", Browser(server).begin() and browser.cookies["chatkeep_oidc"][:-9]):
        victim = Browser(server)
        victim.cookies["chatkeep_oidc"] = cookie
        assert is_refused(victim, theirs)
    other = Browser(server)
    other.begin()
    assert is_refused(other, theirs)


def test_an_answer_is_good_once(server: Server, browser: Browser) -> None:
    back, kept = browser.begin(), dict(browser.cookies)
    assert browser.get(back).headers["Location"] == "/"
    again = Browser(server)
    assert is_refused(again, back)
    again.cookies |= kept  # the code is used up, even where the browser's own part fits
    assert is_refused(again, back)


def test_a_code_of_another_sign_in_is_refused(server: Server, browser: Browser) -> None:
    """An attacker's code with the victim's state: the verifier does not fit it."""
    code = parse_qs(urlsplit(Browser(server).begin()).query)["code"][0]
    assert is_refused(browser, changed(browser.begin(), code=code))


NOW = int(time.time())
LIES: dict[str, dict[str, Any]] = {
    "another nonce": {"nonce": "x" * 43},
    "no nonce": {"nonce": None},
    "a nonce that is no text": {"nonce": 7},
    "another audience": {"aud": "another client"},
    "no audience": {"aud": None},
    "for another audience by us": {"aud": "another client", "azp": CLIENT_ID},
    "several audiences": {"aud": [CLIENT_ID, "another client"]},
    "for another party": {"aud": [CLIENT_ID, "another client"], "azp": "another client"},
    "another issuer": {"iss": "https://evil.example"},
    "an issuer with a slash more": {"iss": "{url}/"},
    "no issuer": {"iss": None},
    "expired": {"exp": NOW - 120, "iat": NOW - 300},
    "without an end": {"exp": None},
    "of the future": {"iat": NOW + 3600, "exp": NOW + 7200},
    "nobody": {"sub": None},
    "an empty name": {"sub": ""},
    "a name with a line break": {"sub": "a\nb"},
    "a name that is too long": {"sub": "a" * 129},
}


@pytest.mark.parametrize("lies", LIES.values(), ids=LIES)
def test_a_token_that_does_not_fit_lets_nobody_in(browser: Browser, provider: Provider, lies: dict[str, Any]) -> None:
    provider.lies = {
        name: value.format(url=provider.url) if isinstance(value, str) else value for name, value in lies.items()
    }
    assert is_refused(browser, browser.begin())


def by_hand(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def public_pem(provider: Provider) -> bytes:
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return provider.key.public_key().public_bytes(serialization.Encoding.PEM, kind)


def with_secret(secret: bytes, kid: str, claims: dict[str, Any]) -> str:
    header = {"alg": "HS256", "kid": kid}
    said = by_hand(header, claims).rpartition(".")[0].encode()
    return by_hand(header, claims, hmac.digest(secret, said, "sha256"))


FORGED: dict[str, Callable[[Provider, dict[str, Any]], str]] = {
    "algorithm none": lambda _, claims: by_hand({"alg": "none", "kid": "first"}, claims),
    "algorithm None": lambda _, claims: by_hand({"alg": "None", "kid": "first"}, claims, b"x"),
    "no algorithm": lambda _, claims: by_hand({"kid": "first"}, claims),
    "the public key as a secret": lambda provider, claims: with_secret(public_pem(provider), "first", claims),
    "the published secret": lambda _, claims: with_secret(b"s" * 32, "secret", claims),
    "another algorithm": lambda provider, claims: jwt.encode(
        claims, provider.curve_key, "ES256", headers={"kid": "curve"}
    ),
    "another hash": lambda provider, claims: jwt.encode(claims, provider.key, "RS512", headers={"kid": "first"}),
    "another key": lambda provider, claims: jwt.encode(claims, provider.other_key, "RS256", headers={"kid": "first"}),
    "an unknown key": lambda provider, claims: jwt.encode(claims, provider.other_key, "RS256", headers={"kid": "?"}),
    "a key of its own": lambda provider, claims: jwt.encode(
        claims, provider.other_key, "RS256", headers={"jwk": provider.keys()["keys"][0], "jku": f"{provider.url}/keys"}
    ),
    "no token": lambda *_: "x.y.z",
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_forged_token_lets_nobody_in(
    browser: Browser, provider: Provider, forge: Callable[[Provider, dict[str, Any]], str]
) -> None:
    provider.make_token = lambda claims: forge(provider, claims)
    assert is_refused(browser, browser.begin())


def test_what_fits_in_another_way_lets_in(server: Server, provider: Provider) -> None:
    """Else the refusals above would prove nothing."""
    for lies in ({"aud": [CLIENT_ID]}, {"aud": [CLIENT_ID, "b"], "azp": CLIENT_ID}, {"sub": "a" * 128}, {"iat": NOW}):
        provider.lies = lies
        browser = Browser(server)
        assert browser.sign_in() == "/"
        assert browser.status() == 200
    provider.lies = {}
    provider.make_token = lambda claims: jwt.encode(claims, provider.key, "RS256")
    # Of several keys none is meant by a token that names none; here only one is of the right kind.
    assert Browser(server).sign_in() == "/"


def test_the_operator_ends_it_for_all(server: Server, provider: Provider, browser: Browser) -> None:
    """Waits until every process has seen it: two seconds. Comes last, for nobody signs in afterwards."""
    browser.sign_in()
    url = server.env["DATABASE_URL"]
    found = Identity(server, bearer(make_key(url).text)).get("/api/keys?limit=100").json["data"]
    door = next(key for key in found if key["name"] == urlsplit(provider.url).netloc and key["parent_id"] is None)
    with journal_of(url) as journal:
        revoke_key(journal, UUID(door["id"]))
    time.sleep(2.5)
    assert browser.status() == 401
    again = Browser(server)
    assert is_refused(again, again.begin(), "denied")


def test_a_provider_that_is_away_or_lies_of_itself_is_unavailable(tmp_path: Path) -> None:
    """Starts two servers: some seconds."""
    with Provider() as gone:
        places = {"away": "http://127.0.0.1:9", "another": gone.url.replace("127.0.0.1", "localhost")}
        for name, issuer in places.items():
            env = {"CHATKEEP_OIDC_ISSUER": issuer, "CHATKEEP_OIDC_CLIENT_ID": CLIENT_ID}
            with thrown_away(Server("waitress", tmp_path / name, env)) as server:
                answer = request("GET", f"{server.url}/sign-in/oidc")
                assert (answer.status, answer.headers["Location"]) == (302, "/?sign-in=unavailable")


def test_without_a_provider_there_is_no_such_place(tmp_path: Path) -> None:
    """Starts a server: a second."""
    with thrown_away(Server("waitress", tmp_path)) as server:
        for path in ("/sign-in/oidc", "/sign-in/oidc/done?state=x&code=y"):
            assert request("GET", server.url + path).status == 404


@pytest.mark.parametrize(
    "issuer", ["http://idp.example", "idp.example", "https://", "https://idp.example/?x", "ftp://x"]
)
def test_an_issuer_that_is_not_safe_is_refused(issuer: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="CHATKEEP_OIDC_ISSUER"):
        Settings.from_env({"CHATKEEP_OIDC_ISSUER": issuer}, tmp_path)


def test_what_is_missing_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="CHATKEEP_OIDC_CLIENT_ID: set the name"):
        Oidc(Settings.from_env({"CHATKEEP_OIDC_ISSUER": "https://idp.example"}, tmp_path))
    for name, value in {"SCOPES": "admin", "ALGORITHM": "HS256", "ACCOUNT": "A b"}.items():
        with pytest.raises(SettingsError, match=f"CHATKEEP_OIDC_{name}"):
            Settings.from_env({f"CHATKEEP_OIDC_{name}": value}, tmp_path)
