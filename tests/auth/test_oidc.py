"""Sign-in with an OpenID provider that lies: inconsistent responses are refused."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.auth.signing_in import COOKIE, DEEP, Browser, by_hand
from tests.servers import Server, thrown_away
from tests.services.oidc import CLIENT_ID, CLIENT_SECRET, TOKEN, Provider
from tests.upstream import Upstream


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture(autouse=True)
def provider(running: Provider) -> Provider:
    """The provider, which tells no lies yet."""
    running.lies, running.make_token, running.sends = {}, None, {}
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


@pytest.fixture
def browser(server: Server) -> Browser:
    return Browser(server)


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "admin/../x", "#x", "/admin", "\r\nX: y"])
def test_sign_in_redirects_only_to_own_pages(browser: Browser, to: str) -> None:
    assert browser.sign_in(to) == "/"


def test_sign_in_returns_to_the_admin_page(browser: Browser) -> None:
    assert browser.sign_in("admin") == "/admin"


def changed(url: str, **parameters: str | None) -> str:
    place = urlsplit(url)
    asked = {name: values[0] for name, values in parse_qs(place.query).items()} | parameters
    kept = {name: value for name, value in asked.items() if value is not None}
    return place._replace(query=urlencode(kept)).geturl()


@pytest.mark.parametrize(
    ("parameters", "why", "cause"),
    [
        ({"state": "x" * 43}, "failed", "state_unknown"),
        ({"state": None}, "failed", "state_unknown"),
        ({"state": "\u00e9"}, "failed", "state_unknown"),
        ({"state": "\r\nSet-Cookie: x"}, "failed", "state_unknown"),
        ({"code": None}, "failed", "code_missing"),
        ({"code": "made up"}, "failed", "token_invalid_grant"),
        ({"iss": "https://evil.example"}, "failed", "response_issuer_mismatch"),
        ({"error": "access_denied", "code": None}, "denied", "provider_access_denied"),
        ({"error": "server_error", "code": None}, "failed", "provider_server_error"),
        ({"error": "\r\na word of a stranger"}, "failed", "provider_other_error"),
    ],
)
def test_mismatched_response_is_refused(
    browser: Browser, parameters: dict[str, str | None], why: str, cause: str
) -> None:
    assert browser.is_refused(changed(browser.begin(), **parameters), why, cause)


NESTED = "W1tb" * 1000
COOKIES = ["", "x", "e30", "W10", "\u00e9".encode().decode("latin-1"), NESTED, f"eyJhIjpb{NESTED}", "AAAA" * 1000]


@pytest.mark.parametrize("cookie", COOKIES)
def test_malformed_cookie_is_refused(browser: Browser, cookie: str) -> None:
    """Another user's response in this browser would sign it in as them."""
    back = browser.begin()
    [(name, path)] = [kept for kept in browser.cookies if kept[0].startswith(COOKIE)]
    victim = Browser(browser.server)
    victim.cookies[name, path] = cookie
    assert victim.is_refused(back, "failed", "state_unknown")


def test_response_in_another_browser_is_refused(browser: Browser) -> None:
    theirs, victim = browser.begin(), Browser(browser.server)
    assert victim.is_refused(theirs, "failed", "state_unknown")
    victim.begin()
    assert victim.is_refused(theirs, "failed", "state_unknown")
    # Under the name of their cookie is his own.
    [name] = [kept for kept in browser.cookies if kept[0].startswith(COOKIE)]
    victim.cookies[name] = victim.named(COOKIE)[0]
    assert victim.is_refused(theirs, "failed", "state_unknown")


@pytest.mark.parametrize("host", ["a b", "[", "a:x", "", "\xe9", "a/b", "evil.example"])
def test_odd_host_header_is_no_server_error(server: Server, host: str) -> None:
    connection = HTTPConnection("127.0.0.1", server.port)
    connection.putrequest("GET", "/sign-in/oidc", skip_host=True)
    connection.putheader("Host", host)
    connection.endheaders()
    assert connection.getresponse().status in {302, 400}
    connection.close()


NOW = int(time.time())
NONCE, PARTY, SUBJECT, INVALID = "id_token_nonce", "id_token_party", "id_token_subject", "id_token_invalid"
LIES: dict[str, tuple[str, dict[str, Any]]] = {
    "another nonce": (NONCE, {"nonce": "x" * 43}),
    "no nonce": (NONCE, {"nonce": None}),
    "a nonce that is no text": (NONCE, {"nonce": 7}),
    "a nonce that is nested": (NONCE, {"nonce": [["x"]]}),
    "a nonce of half a character": (NONCE, {"nonce": "\ud800"}),
    "another audience": (INVALID, {"aud": "another client"}),
    "no audience": (INVALID, {"aud": None}),
    "an audience that is nested": (INVALID, {"aud": [[CLIENT_ID]]}),
    "an audience that is an object": (INVALID, {"aud": {CLIENT_ID: 1}}),
    "for another audience by us": (INVALID, {"aud": "another client", "azp": CLIENT_ID}),
    "several audiences": (PARTY, {"aud": [CLIENT_ID, "another client"]}),
    "for another party": (PARTY, {"aud": [CLIENT_ID, "another client"], "azp": "another client"}),
    "for a party that is no text": (PARTY, {"azp": [CLIENT_ID]}),
    "another issuer": (INVALID, {"iss": "https://evil.example"}),
    "an issuer with a slash more": (INVALID, {"iss": "{url}/"}),
    "no issuer": (INVALID, {"iss": None}),
    "expired": (INVALID, {"exp": NOW - 120, "iat": NOW - 300}),
    "without an end": (INVALID, {"exp": None}),
    "an end that is nested": (INVALID, {"exp": [NOW + 60]}),
    "an end that is no time": (INVALID, {"exp": "never"}),
    "no end at all": (INVALID, {"exp": float("inf")}),
    "an end that is no number": (INVALID, {"exp": float("nan")}),
    "of the future": (INVALID, {"iat": NOW + 3600, "exp": NOW + 7200}),
    "not valid yet": (INVALID, {"nbf": NOW + 3600}),
    "valid from no time": (INVALID, {"nbf": {}}),
    "no subject": (INVALID, {"sub": None}),
    "a number": (INVALID, {"sub": 7}),
    "a list of people": (INVALID, {"sub": ["alice"]}),
    "an empty name": (SUBJECT, {"sub": ""}),
    "a name with a line break": (SUBJECT, {"sub": "a\nb"}),
    "a name of half a character": (SUBJECT, {"sub": "\ud800"}),
    "a name that is too long": (SUBJECT, {"sub": "a" * 256}),
}


@pytest.mark.parametrize(("cause", "lies"), LIES.values(), ids=LIES)
def test_invalid_id_token_is_refused(browser: Browser, provider: Provider, cause: str, lies: dict[str, Any]) -> None:
    url = {"{url}/": f"{provider.url}/"}
    provider.lies = {name: url.get(value, value) if isinstance(value, str) else value for name, value in lies.items()}
    assert browser.is_refused(browser.begin(), "failed", cause)


def public_pem(provider: Provider) -> bytes:
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return provider.key.public_key().public_bytes(serialization.Encoding.PEM, kind)


def with_secret(secret: bytes, kid: str, claims: dict[str, Any]) -> str:
    header = {"alg": "HS256", "kid": kid}
    said = by_hand(header, claims).rpartition(".")[0].encode()
    return by_hand(header, claims, hmac.digest(secret, said, "sha256"))


ALGORITHM, MALFORMED = "id_token_algorithm", "id_token_malformed"
SIGNATURE, KEY = "id_token_signature", "id_token_key_unknown"
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
FORGED: dict[str, tuple[str, Callable[[Provider, dict[str, Any]], str]]] = {
    "algorithm none": (ALGORITHM, lambda _, claims: by_hand({"alg": "none", "kid": "first"}, claims)),
    "algorithm None": (ALGORITHM, lambda _, claims: by_hand({"alg": "None", "kid": "first"}, claims, b"x")),
    "no algorithm": (ALGORITHM, lambda _, claims: by_hand({"kid": "first"}, claims)),
    "a list of algorithms": (ALGORITHM, lambda _, claims: by_hand({"alg": ["RS256"]}, claims)),
    "the public key as a secret": (
        ALGORITHM, lambda provider, claims: with_secret(public_pem(provider), "first", claims)
    ),
    "the published secret": (ALGORITHM, lambda _, claims: with_secret(b"s" * 32, "secret", claims)),
    "another algorithm": (
        ALGORITHM, lambda provider, claims: jwt.encode(claims, provider.curve_key, "ES256", headers={"kid": "curve"})
    ),
    "another hash": (
        ALGORITHM, lambda provider, claims: jwt.encode(claims, provider.key, "RS512", headers={"kid": "first"})
    ),
    "another key": (SIGNATURE, lambda _, claims: jwt.encode(claims, OTHER_KEY, "RS256", headers={"kid": "first"})),
    "an unknown key": (KEY, lambda _, claims: jwt.encode(claims, OTHER_KEY, "RS256", headers={"kid": "?"})),
    "a key of its own": (
        SIGNATURE,
        lambda provider, claims: jwt.encode(
            claims, OTHER_KEY, "RS256", headers={"jwk": provider.keys()["keys"][0], "jku": f"{provider.url}/keys"}
        ),
    ),
    "a key's number": (MALFORMED, lambda _, claims: by_hand({"alg": "RS256", "kid": 7}, claims)),
    "nested keys": (MALFORMED, lambda _, claims: by_hand({"alg": "RS256", "kid": [["first"]]}, claims)),
    "an unknown extension": (MALFORMED, lambda _, claims: by_hand({"alg": "RS256", "crit": ["x"], "x": 1}, claims)),
    "no text": (SIGNATURE, lambda _, claims: by_hand({"alg": "RS256"}, claims, b"x" * 256)),
    "a list of issuers": (
        INVALID,
        lambda provider, claims: jwt.api_jws.encode(
            json.dumps(claims | {"iss": [provider.url]}).encode(), provider.key, "RS256"
        ),
    ),
    "no token": (MALFORMED, lambda *_: "x.y.z"),
    "nothing": (MALFORMED, lambda *_: ""),
    "a head that is a list": (MALFORMED, lambda *_: "W10.e30.AAAA"),
    "a deep head": (MALFORMED, lambda *_: f"{'W1tb' * 10_000}.e30.AAAA"),
    "a large one": (MALFORMED, lambda *_: "A" * 900_000),
    "many parts": (MALFORMED, lambda *_: "." * 900_000),
}  # fmt: skip


@pytest.mark.parametrize(("cause", "forge"), FORGED.values(), ids=FORGED)
def test_forged_id_token_is_refused(
    browser: Browser, provider: Provider, cause: str, forge: Callable[[Provider, dict[str, Any]], str]
) -> None:
    provider.make_token = lambda claims: forge(provider, claims)
    assert browser.is_refused(browser.begin(), "failed", cause)


def test_deeply_nested_response_is_no_server_error(browser: Browser, provider: Provider) -> None:
    provider.sends = {TOKEN: (200, b'{"id_token":' + DEEP + b"}")}
    assert browser.is_refused(browser.begin(), "unavailable", "token_malformed")


def test_valid_variants_of_a_response_are_accepted(server: Server, provider: Provider) -> None:
    """Else the refusals above would prove nothing."""
    for lies in ({"aud": [CLIENT_ID]}, {"aud": [CLIENT_ID, "b"], "azp": CLIENT_ID}, {"sub": "a" * 255}, {"iat": NOW}):
        provider.lies = lies
        browser = Browser(server)
        assert browser.sign_in() == "/"
        assert browser.status() == 200
    provider.lies = {}
    provider.make_token = lambda claims: jwt.encode(claims, provider.key, "RS256")
    # Of several keys none is meant by a token that names none; here only one is of the right kind.
    assert Browser(server).sign_in() == "/"
