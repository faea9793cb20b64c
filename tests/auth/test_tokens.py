"""End users named by signed tokens; invalid tokens are refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from chatkeep.auth.access import owner_of
from chatkeep.auth.tokens import LEEWAY_S, Tokens
from chatkeep.config.parsing import PUBLIC_ALGORITHMS, TokenRule, token_rules
from chatkeep.config.settings import Settings
from chatkeep.errors import SettingsError, Unauthorized
from tests import client
from tests.auth.keys import Identity, bearer, make_key
from tests.servers import ROOT, Server, thrown_away
from tests.upstream import Upstream

SECRET, OLD_SECRET, OTHER = "s" * 64, "t" * 40, "u" * 32
PRIVATE = ec.generate_private_key(ec.SECP256R1())
PUBLIC = (
    PRIVATE.public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode()
)
RULES = {
    "local": {"algorithm": "HS256", "keys": [SECRET, OLD_SECRET]},
    "shop": {"algorithm": "ES256", "keys": [PUBLIC], "issuer": "https://shop.example", "audience": "chatkeep"},
}
LIST = "/api/conversations"


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    """A server that has keys for the tokens of two accounts."""
    folder = tmp_path_factory.mktemp("signing")
    env = {
        "DATABASE_URL": f"sqlite:///{(folder / 'chatkeep.sqlite3').as_posix()}",
        "OPENAI_BASE_URL": upstream.url,
        "CHATKEEP_END_USER_TOKENS": json.dumps(RULES),
    }
    with thrown_away(Server("waitress", folder, env)) as server:
        make_key(env["DATABASE_URL"])
        yield server


@pytest.fixture(scope="module")
def local(signing: Server) -> Identity:
    return Identity(signing, bearer(make_key(signing.env["DATABASE_URL"], "local").text))


@pytest.fixture(scope="module")
def shop(signing: Server) -> Identity:
    return Identity(signing, bearer(make_key(signing.env["DATABASE_URL"], "shop").text))


def claims(**changed: Any) -> dict[str, Any]:
    """Return what is in a token; None leaves out what would be there."""
    there = {"sub": "alice", "exp": int(time.time()) + 60, "iss": "https://shop.example", "aud": "chatkeep", **changed}
    return {name: value for name, value in there.items() if value is not None}


def signed(key: Any = SECRET, algorithm: str = "HS256", **changed: Any) -> str:
    return jwt.encode(claims(**changed), key, algorithm)


def by_hand(header: dict[str, Any], secret: bytes | None, body: dict[str, Any] | None = None) -> str:
    """Return a token that no library would make."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, body or claims())]
    text = b".".join(parts)
    signature = b"" if secret is None else hmac.new(secret, text, hashlib.sha256).digest()
    return (text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def status(who: Identity, token: str) -> int:
    return who.request("GET", LIST, headers={"X-End-User-Token": token}).status


def test_token_names_the_same_end_user_as_the_header(local: Identity) -> None:
    name = f"小明 {uuid4()}"
    made = local.request("POST", "/api/chat", json={"message": "hello"}, headers={"X-End-User-Token": signed(sub=name)})
    assert made.status == 200
    path = f"{LIST}/{made.json['conversation_id']}"
    others = [{"X-End-User-Token": signed(sub="bob")}, {}]
    assert local.request("GET", path, headers={"X-End-User-Token": signed(sub=name)}).status == 200
    assert [local.request("GET", path, headers=other).status for other in others] == [404, 404]
    assert owner_of("local", name) != owner_of("local", "bob")


@pytest.mark.parametrize("key", [SECRET, OLD_SECRET])
def test_both_keys_are_accepted_during_a_rotation(local: Identity, key: str) -> None:
    assert status(local, signed(key)) == 200


def test_public_key_verifies_a_token(shop: Identity) -> None:
    assert status(shop, signed(PRIVATE, "ES256")) == 200
    assert status(shop, signed(PRIVATE, "ES256", aud=["other", "chatkeep"])) == 200


WRONG: dict[str, Callable[[], str]] = {
    "empty": lambda: "",
    "no token": lambda: "alice",
    "two parts": lambda: "a.b",
    "another secret": lambda: signed(OTHER),
    "another algorithm": lambda: signed(SECRET, "HS512"),
    "no algorithm": lambda: by_hand({"typ": "JWT", "alg": "none"}, None),
    "no algorithm, in capitals": lambda: by_hand({"typ": "JWT", "alg": "NONE"}, None),
    "no algorithm, signed": lambda: by_hand({"alg": "none"}, SECRET.encode()),
    "an algorithm that is missing": lambda: by_hand({"typ": "JWT"}, SECRET.encode()),
    "a list of algorithms": lambda: by_hand({"alg": ["HS256"]}, SECRET.encode()),
    "a critical extension": lambda: by_hand({"alg": "HS256", "crit": ["x"], "x": 1}, SECRET.encode()),
    "cut": lambda: signed()[:-2],
    "without its signature": lambda: signed().rpartition(".")[0] + ".",
    "expired": lambda: signed(exp=int(time.time()) - 60),
    "no end": lambda: signed(exp=None),
    "an end that is no number": lambda: signed(exp="never"),
    "not yet": lambda: signed(nbf=int(time.time()) + 60),
    "no subject": lambda: signed(sub=None),
    "an empty name": lambda: signed(sub=""),
    "a number for a name": lambda: by_hand({"alg": "HS256"}, SECRET.encode(), claims(sub=7)),
    "a long name": lambda: signed(sub="x" * 256),
    "a control character": lambda: signed(sub="a\0b"),
    "half a character": lambda: signed(sub="a\ud800"),
    "deep": lambda: f"{'W1tb' * 1500}.e30.AAAA",
    "no object": lambda: jwt.api_jws.encode(b"[]", SECRET, "HS256"),
}


@pytest.mark.parametrize("token", WRONG.values(), ids=WRONG)
def test_invalid_token_is_refused(local: Identity, token: Callable[[], str]) -> None:
    refused = local.request("GET", LIST, headers={"X-End-User-Token": token()})
    assert (refused.status, refused.json["code"]) == (401, "unauthorized")
    assert "alice" not in refused.text


WRONG_IN_SHOP: dict[str, Callable[[], str]] = {
    "the public key as a secret": lambda: by_hand({"alg": "HS256", "typ": "JWT"}, PUBLIC.encode()),
    "the public key as a secret, stripped": lambda: by_hand({"alg": "HS256"}, PUBLIC.strip().encode()),
    "the public key's secret under its own name": lambda: by_hand({"alg": "ES256"}, PUBLIC.encode()),
    "a key that the token brings": lambda: by_hand(
        {"alg": "HS256", "jwk": {"kty": "oct", "k": base64.urlsafe_b64encode(OTHER.encode()).decode()}}, OTHER.encode()
    ),
    "the other account's secret": signed,
    "another issuer": lambda: signed(PRIVATE, "ES256", iss="https://evil.example"),
    "no issuer": lambda: signed(PRIVATE, "ES256", iss=None),
    "another audience": lambda: signed(PRIVATE, "ES256", aud="other"),
    "no audience": lambda: signed(PRIVATE, "ES256", aud=None),
    "another key of the kind": lambda: signed(ec.generate_private_key(ec.SECP256R1()), "ES256"),
    "another kind of key": lambda: signed(rsa.generate_private_key(65537, 2048), "RS256"),
}


@pytest.mark.parametrize("token", WRONG_IN_SHOP.values(), ids=WRONG_IN_SHOP)
def test_token_signed_with_another_algorithm_is_refused(shop: Identity, token: Callable[[], str]) -> None:
    assert status(shop, token()) == 401


def test_every_algorithm_verifies_its_tokens() -> None:
    rsa_key = rsa.generate_private_key(65537, 2048)
    curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1(), "ES256K": ec.SECP256K1()}
    edwards: dict[str, Any] = {
        "Ed25519": ed25519.Ed25519PrivateKey.generate(), "Ed448": ed448.Ed448PrivateKey.generate()
    }  # fmt: skip
    for algorithm in PUBLIC_ALGORITHMS:
        curve, edwards_key = curves.get(algorithm), edwards.get(algorithm.replace("EdDSA", "Ed448"))
        key = ec.generate_private_key(curve) if curve else edwards_key or rsa_key
        tokens = Tokens([("local", TokenRule(algorithm, (pem_of(key),)))])
        assert tokens.read("local", signed(key, algorithm)).end_user == "alice"
    both = Tokens([("local", TokenRule("EdDSA", tuple(map(pem_of, edwards.values()))))])
    for curve_name, other in (("Ed25519", "Ed448"), ("Ed448", "Ed25519")):
        assert both.read("local", signed(edwards[curve_name], curve_name)).end_user == "alice"
        for rule, alg in ((curve_name, "EdDSA"), ("EdDSA", curve_name), ("EdDSA", "EdDSA")):
            tokens = Tokens([("local", TokenRule(rule, (pem_of(edwards[curve_name]),)))])
            assert tokens.read("local", signed(edwards[curve_name], alg)).end_user == "alice"
            with pytest.raises(Unauthorized):
                tokens.read("local", signed(edwards[other], "EdDSA"))
        with pytest.raises(SettingsError, match=f"a key of the account local is not valid for {other}"):
            Tokens([("local", TokenRule(other, (pem_of(edwards[curve_name]),)))])


def test_algorithm_registered_by_an_embedding_program_is_kept() -> None:
    """Starts a process, for PyJWT keeps it for good: half a second."""
    subprocess.run([sys.executable, "-m", "tests.auth.registered_algorithm"], cwd=ROOT, check=True)


def pem_of(key: Any) -> str:
    """Return the public half of a key."""
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return str(key.public_key().public_bytes(serialization.Encoding.PEM, kind).decode())


def test_x_end_user_is_refused_if_the_account_requires_tokens(local: Identity) -> None:
    refused = local.named("alice").get(LIST)
    assert (refused.status, refused.json["errors"][0]["field"]) == (422, "X-End-User")
    assert local.named("alice").request("GET", LIST, headers={"X-End-User-Token": signed()}).status == 422


def test_token_is_refused_for_an_account_without_a_rule(signing: Server) -> None:
    other = Identity(signing, bearer(make_key(signing.env["DATABASE_URL"], "other").text))
    refused = other.request("GET", LIST, headers={"X-End-User-Token": signed()})
    assert (refused.status, refused.json["errors"][0]["field"]) == (422, "X-End-User-Token")
    assert other.named("alice").get(LIST).status == 200


def test_token_without_a_key_is_refused(signing: Server) -> None:
    assert status(Identity(signing), signed()) == 401


RULE = {"algorithm": "HS256", "keys": [SECRET]}


@pytest.mark.parametrize(
    "rule",
    [
        {}, {"algorithm": "HS256"}, {"algorithm": "HS256", "keys": []}, {"algorithm": "HS256", "keys": SECRET},
        RULE | {"algorithm": "none"}, RULE | {"algorithm": "hs256"}, RULE | {"keys": ["s" * 31]},
        RULE | {"algorithm": "HS512", "keys": ["s" * 63]},
        RULE | {"keys": [7]}, RULE | {"issuers": "x"}, RULE | {"issuer": 7},
    ],
)  # fmt: skip
def test_invalid_rule_is_refused_without_showing_it(rule: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^CHATKEEP_END_USER_TOKENS: the value is invalid; write ") as refused:
        Settings.from_env({"CHATKEEP_END_USER_TOKENS": json.dumps({"local": rule})}, tmp_path)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "rule",
    [
        {"algorithm": "HS256", "keys": [PUBLIC]},
        {"algorithm": "ES256", "keys": [SECRET]},
        {"algorithm": "RS256", "keys": [PUBLIC]},
    ],
)
def test_key_of_another_type_is_refused_at_start(rule: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"a key of the account local is not valid for {rule['algorithm']}"):
        Tokens(token_rules(json.dumps({"local": rule})))


def test_repr_of_a_rule_hides_its_secrets() -> None:
    assert SECRET not in repr(token_rules(json.dumps({"local": RULE})))


def test_stream_ends_with_its_token_and_resumes_with_a_new_one(local: Identity) -> None:
    """Waits until a token has ended: some seconds, which are the leeway. The reply itself goes on."""
    long, name = "#n=140,r=20,seed=7#", f"user-{uuid4()}"
    headers = {"X-End-User-Token": signed(sub=name, exp=int(time.time()) - LEEWAY_S + 1)}
    with ThreadPoolExecutor(1) as pool:
        whole = pool.submit(local.request, "POST", "/api/chat", json={"message": long}, headers=headers)
        cut = Identity(local.server, {**local.headers, **headers}).stream(long)
        last = list(cut)[-1]
        assert (last.event, last.data["code"], last.data["status"]) == ("error", "unauthorized", 401)
        seen = [event.id for event in cut.events if event.id][-1] or ""  # as an EventSource remembers it
        anew = {**local.headers, "X-End-User-Token": signed(sub=name)}
        path = f"{LIST}/{last.data['conversation_id']}/messages/{last.data['message_id']}/stream"
        rest = client.stream(f"{local.server.url}{path}", headers={**anew, "Last-Event-ID": seen})
        assert list(rest)[-1].data["status"] == "completed"
        # Who asked for one answer gets it: it was asked for while the token held.
        assert (whole.result().status, whole.result().json["reply"]) == (200, cut.text + rest.text)
