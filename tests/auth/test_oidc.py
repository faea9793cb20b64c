"""Sign-in with an OpenID provider that lies: inconsistent responses are refused."""

from __future__ import annotations

import base64
import gzip
import hmac
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from chatkeep.auth.issuer import MOST_AT_ONCE, ask
from chatkeep.auth.oidc import Oidc
from chatkeep.config.settings import Settings
from chatkeep.errors import SettingsError, SignInFailed
from chatkeep.httpclient.fetch import LIMIT
from tests.auth.signing_in import COOKIE, Browser, Client, clients
from tests.client import request
from tests.http.api import eventually
from tests.servers import Server, thrown_away
from tests.services.oidc import CLIENT_ID, CLIENT_SECRET, DISCOVERY, KEYS, TOKEN, Provider
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


DEEP = b"[" * 100_000 + b"]" * 100_000
# What an issuer may send for any of its documents, and how it ends the cause of the failure.
DOCUMENTS: dict[str, tuple[str, int, bytes]] = {
    "nested": ("malformed", 200, b'{"id_token":' + DEEP + b"}"),
    "nested in an ignored member": ("malformed", 200, b'{"x":' + DEEP + b"}"),
    "nested objects": ("malformed", 200, b'{"keys":' * 100_000),
    "as large as the limit": ("unreachable", 200, b'{"x":"' + b"x" * (LIMIT - 8) + b'"}'),
    "too large": ("unreachable", 200, b'{"x":"' + b"x" * 2_000_000 + b'"}'),
    "nothing": ("malformed", 200, b""),
    "a page": ("malformed", 200, b"<!doctype html><title>Sign in</title>"),
    "a list": ("malformed", 200, b"[]"),
    "a number": ("malformed", 200, b"7"),
    "nothing at all": ("malformed", 200, b"null"),
    "nothing of it": ("malformed", 200, b"{}"),
    "other types": ("malformed", 200, b'{"issuer":7,"keys":{"a":1},"id_token":[]}'),
    "cut off": ("malformed", 200, b'{"keys":[{"kty":"RSA"'),
    "bytes": ("malformed", 200, b'{"id_token":"\xff\xfe"}'),
    "compressed": ("malformed", 200, gzip.compress(b"{}")),
    "another place": ("status_302", 302, b"{}"),
    "no such place": ("status_404", 404, b"{}"),
    "a fault": ("status_500", 500, b"<h1>Oops</h1>"),
    "an answer for later": ("status_202", 202, b"{}"),
}


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Client]]:
    with clients(tmp_path_factory.mktemp("clients")) as made:
        yield made


@pytest.fixture
def client(make: Callable[..., Client], provider: Provider) -> Client:
    return make(ISSUER=provider.url, CLIENT_ID=CLIENT_ID, CLIENT_SECRET=CLIENT_SECRET)


def failure(client: Client) -> tuple[str, str]:
    """Return what the page and the log say of a sign-in that fails."""
    with pytest.raises(SignInFailed) as failed:
        client.sign_in()
    return failed.value.reason, failed.value.cause


@pytest.mark.parametrize(("what", "path"), [("discovery", DISCOVERY), ("keys", KEYS), ("token", TOKEN)])
@pytest.mark.parametrize(("cause", "status", "body"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_malformed_document_is_refused(
    client: Client, provider: Provider, what: str, path: str, cause: str, status: int, body: bytes
) -> None:
    provider.sends = {path: (status, body)}
    assert failure(client) == ("unavailable", f"{what}_{cause}")
    provider.sends = {}
    assert client.sign_in()  # and nothing of it is kept


def test_deeply_nested_response_is_no_server_error(browser: Browser, provider: Provider) -> None:
    provider.sends = {TOKEN: (200, b'{"id_token":' + DEEP + b"}")}
    assert browser.is_refused(browser.begin(), "unavailable", "token_malformed")


@pytest.mark.parametrize(
    ("status", "body", "cause"),
    [
        (400, b'{"error":"invalid_client"}', ("failed", "token_invalid_client")),
        (401, b'{"error":"invalid_client"}', ("failed", "token_invalid_client")),
        (400, b'{"error":"what a provider made up\\n"}', ("failed", "token_other_error")),
        (400, b'{"error":["invalid_grant"]}', ("unavailable", "token_refusal_malformed")),
        (400, b"<h1>No</h1>", ("unavailable", "token_refusal_malformed")),
        (400, DEEP, ("unavailable", "token_refusal_malformed")),
    ],
)
def test_error_of_the_provider_is_logged(
    client: Client, provider: Provider, status: int, body: bytes, cause: tuple[str, str]
) -> None:
    provider.sends = {TOKEN: (status, body)}
    assert failure(client) == cause


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://", "https:///x", "http://idp.example/x", "ftp://127.0.0.1/x", "//127.0.0.1/x", "/x", "", "data:x",
        "https://idp.example/\r\nSet-Cookie: x", "https://idp.example/a b", "https://idp.example:99999/", "https://[::1",
        "https://idp.example:x/", "https://idp.example/#x", "https://\u00e9.example/", "https://idp.example/\ud800",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "jwks_uri"])
def test_endpoint_without_tls_is_refused(client: Client, provider: Provider, name: str, endpoint: str) -> None:
    provider.sends = {DISCOVERY: (200, json.dumps(provider.about() | {name: endpoint}).encode())}
    reason, cause = failure(client)
    assert reason == "unavailable"
    assert cause in {"discovery_unsafe_endpoint", "discovery_malformed"}


# What stands beside the key that has signed.
ODD_KEYS: list[Any] = [
    None, 7, "x", [], {}, {"kty": 7}, {"kty": ["RSA"]}, {"kty": "RSA"}, {"kty": "RSA", "n": 7, "e": "AQAB"},
    {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": ["x"]}, {"kty": "RSA", "n": "!", "e": "!"},
    {"kty": "RSA", "n": "", "e": ""}, {"kty": "RSA", "n": "A" * 500_000, "e": "A" * 300_000},
    {"kty": "RSA", "n": "AQAB", "e": "AQAB", "d": "AQAB"}, {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
    {"kty": "OKP", "crv": "Ed25519", "x": ""}, {"kty": "oct", "k": "c" * 43, "alg": "RS256"}, {"kty": "AKP"},
    [[[[]]]], {"kty": {"kty": {}}}, {"kty": "RSA", "use": 7}, {"kty": "RSA", "alg": {"a": []}},
]  # fmt: skip


def test_malformed_keys_beside_a_valid_one_are_ignored(client: Client, provider: Provider) -> None:
    for odd in ODD_KEYS:
        provider.sends = {KEYS: (200, json.dumps({"keys": [odd, *provider.keys()["keys"]]}).encode())}
        client.passed += 3601
        assert client.sign_in()
        provider.sends = {KEYS: (200, json.dumps({"keys": [odd]}).encode())}
        client.passed += 3601
        assert failure(client) == ("failed", "id_token_key_unknown")


def test_weak_key_is_refused(client: Client, provider: Provider) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - it is refused
    jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(weak.public_key()))
    provider.sends = {KEYS: (200, json.dumps({"keys": [jwk]}).encode())}
    head = {"alg": "RS256"}

    def signed(claims: dict[str, Any]) -> str:
        said = by_hand(head, claims).rpartition(".")[0].encode()
        return by_hand(head, claims, weak.sign(said, padding.PKCS1v15(), hashes.SHA256()))

    provider.make_token = signed
    assert failure(client) == ("failed", "id_token_signature")


def test_keys_without_kid_are_tried(client: Client, provider: Provider) -> None:
    """Also after a rotation, with several keys at a time."""
    for turn in range(3):
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        mine = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
        keys = [one | {"kid": None} for one in provider.keys()["keys"]]
        provider.sends = {KEYS: (200, json.dumps({"keys": [*keys, mine]}).encode())}
        provider.make_token = partial(
            jwt.encode, key=key, algorithm="RS256", headers={"kid": "named"} if turn else None
        )
        assert client.sign_in()
        client.passed += 10


def test_hanging_issuer_blocks_a_bounded_number_of_requests(provider: Provider) -> None:
    url, most = provider.url + KEYS, MOST_AT_ONCE + 8
    provider.answers.clear()
    with ThreadPoolExecutor(most) as pool:
        asked = [pool.submit(ask, "keys", url) for _ in range(most)]
        assert eventually(lambda: sum(one.done() for one in asked) == most - MOST_AT_ONCE, 4)
        provider.answers.set()
    failed = [error for error in (one.exception() for one in asked) if error]
    assert [getattr(error, "cause", error) for error in failed] == ["keys_busy"] * 8
    assert ask("keys", url).status == 200


def test_keys_are_read_again_at_most_every_ten_seconds(client: Client, provider: Provider) -> None:
    client.sign_in()
    provider.make_token = lambda claims: jwt.encode(claims, OTHER_KEY, "RS256", headers={"kid": "first"})
    asked = provider.asked[KEYS]
    with ThreadPoolExecutor(8) as pool:
        assert {found[1] for found in pool.map(lambda _: failure(client), range(24))} == {"id_token_signature"}
    assert provider.asked[KEYS] == asked + 1
    client.passed += 10
    failure(client)
    assert provider.asked[KEYS] == asked + 2


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


CAUSES = {
    "away": "discovery_unreachable (Unreachable < ConnectionRefusedError 111)\n",
    "another": "discovery_issuer_mismatch\n",
}


def test_unreachable_or_mismatched_provider_is_unavailable(tmp_path: Path) -> None:
    """Starts two servers: some seconds."""
    with Provider() as gone:
        places = {"away": "http://127.0.0.1:9", "another": gone.url.replace("127.0.0.1", "localhost")}
        for name, issuer in places.items():
            env = {"CHATKEEP_OIDC_ISSUER": issuer, "CHATKEEP_OIDC_CLIENT_ID": CLIENT_ID}
            with thrown_away(Server("waitress", tmp_path / name, env)) as server:
                answer = request("GET", f"{server.url}/sign-in/oidc")
                assert (answer.status, answer.headers["Location"]) == (302, "/?sign-in=unavailable")
                assert server.log().count(f"sign-in failed: {CAUSES[name]}") == 1


def test_routes_are_404_without_a_provider(tmp_path: Path) -> None:
    """Starts a server: a second."""
    with thrown_away(Server("waitress", tmp_path)) as server:
        for path in ("/sign-in/oidc", "/sign-in/oidc/done?state=x&code=y"):
            assert request("GET", server.url + path).status == 404


@pytest.mark.parametrize(
    "issuer", ["http://idp.example", "idp.example", "https://", "https://idp.example/?x", "ftp://x"]
)
def test_issuer_without_tls_is_refused(issuer: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="CHATKEEP_OIDC_ISSUER"):
        Settings.from_env({"CHATKEEP_OIDC_ISSUER": issuer}, tmp_path)


def test_missing_settings_are_named_at_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="CHATKEEP_OIDC_CLIENT_ID: set the name"):
        Oidc(Settings.from_env({"CHATKEEP_OIDC_ISSUER": "https://idp.example"}, tmp_path))
    for name, value in {"SCOPES": "admin", "ALGORITHM": "HS256", "ACCOUNT": "A b"}.items():
        with pytest.raises(SettingsError, match=f"CHATKEEP_OIDC_{name}"):
            Settings.from_env({f"CHATKEEP_OIDC_{name}": value}, tmp_path)
