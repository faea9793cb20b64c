"""Malformed documents, unusable keys and failures of an OpenID issuer, without a server in front."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from chatkeep.auth.issuer import MOST_AT_ONCE, ask
from chatkeep.auth.oidc import Oidc
from chatkeep.config.settings import Settings
from chatkeep.errors import SettingsError, SignInFailed
from chatkeep.httpclient.fetch import LIMIT
from tests.auth.signing_in import DEEP, Client, by_hand, clients
from tests.client import request
from tests.http.api import eventually
from tests.servers import Server, thrown_away
from tests.services.oidc import CLIENT_ID, CLIENT_SECRET, DISCOVERY, KEYS, TOKEN, Provider


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture(autouse=True)
def provider(running: Provider) -> Provider:
    """The provider, which tells no lies yet."""
    running.lies, running.make_token, running.sends = {}, None, {}
    return running


OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
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
    with pytest.raises(SettingsError, match="CHATKEEP_OIDC_CLIENT_ID: not set"):
        Oidc(Settings.from_env({"CHATKEEP_OIDC_ISSUER": "https://idp.example"}, tmp_path))
    for name, value in {"SCOPES": "admin", "ALGORITHM": "HS256", "ACCOUNT": "A b"}.items():
        with pytest.raises(SettingsError, match=f"CHATKEEP_OIDC_{name}"):
            Settings.from_env({f"CHATKEEP_OIDC_{name}": value}, tmp_path)
