"""Read and cache an OpenID issuer's discovery document and keys, and verify its ID tokens.

The documents are untrusted input: any malformed document raises `SignInFailed`.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from chatkeep.auth import signatures
from chatkeep.errors import SignInFailed
from chatkeep.httpclient.fetch import Answer, Unreachable, fetch
from chatkeep.runtime.hosts import is_loopback

# How long documents are cached, and how often an unknown key may cause another read of the keys.
CACHED_S, REREAD_S = 3600.0, 10.0
LEEWAY_S = 30
OK = 200
FAILED, DENIED, UNAVAILABLE = "failed", "denied", "unavailable"
UNKNOWN_KEY, WRONG_SIGNATURE = "id_token_key_unknown", "id_token_signature"
_MOST_KEYS = 100
# Sign-in needs no key: this bounds how many threads a hanging issuer can block.
MOST_AT_ONCE = 16
_slots = threading.BoundedSemaphore(MOST_AT_ONCE)
_REQUIRED_CLAIMS = ["iss", "sub", "aud", "exp", "iat"]
_URL = re.compile(r"https?://[!-~]+")
T = TypeVar("T")
# Enough for an RSA key of 16,384 bits, the largest that OpenSSL verifies with.
_Part = Annotated[str, msgspec.Meta(max_length=2800)]


class Discovery(msgspec.Struct, frozen=True):
    """An issuer's metadata (OpenID Connect Discovery 1.0, section 3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False
    id_token_signing_alg_values_supported: tuple[str, ...] = ()


class _KeySet(msgspec.Struct, frozen=True):
    keys: list[Any]


class _PublicKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """A public key (RFC 7517); private members are not read."""

    kty: str
    n: _Part = ""
    e: _Part = ""
    crv: str = ""
    x: _Part = ""
    y: _Part = ""


class _KeyUse(msgspec.Struct, frozen=True):
    """The id, use and algorithm of a key."""

    kid: str | None = None
    use: str = "sig"
    alg: str | None = None


class Keys(NamedTuple):
    """The issuer's keys for one algorithm, each with its ``kid``, and when they were read."""

    found: tuple[tuple[str | None, Any], ...]
    read_at: float

    def matching(self, kid: str | None) -> list[Any]:
        """Return the keys that may have signed a token; a missing ``kid`` on either side matches any."""
        return [key for name, key in self.found if kid is None or name in (None, kid)]


class Issuer:
    """One issuer and the one algorithm accepted from it; ``now`` is a monotonic clock."""

    def __init__(self, url: str, algorithm: str, now: Callable[[], float] = time.monotonic) -> None:
        self.url = url
        self._algorithm = algorithm
        self._now = now
        self._discovery: tuple[float, Discovery] | None = None
        self._keys: Keys | None = None
        self._reread_at = -REREAD_S
        self._reread_lock = threading.Lock()

    def discovery(self) -> Discovery:
        """Return the issuer's metadata, cached. Raises `SignInFailed`."""
        now = self._now()
        if self._discovery is None or now - self._discovery[0] > CACHED_S:
            found = self.read_discovery()
            if cause := self.fault_of(found):
                raise SignInFailed(UNAVAILABLE, cause)
            self._discovery = now, found
        return self._discovery[1]

    def read_discovery(self) -> Discovery:
        """Fetch the issuer's metadata without checking it. Raises `SignInFailed`."""
        return read("discovery", f"{self.url.rstrip('/')}/.well-known/openid-configuration", Discovery)

    def fault_of(self, discovery: Discovery) -> str | None:
        """Return why a discovery document cannot be used, or None."""
        if discovery.issuer != self.url:
            return "discovery_issuer_mismatch"
        endpoints = (discovery.authorization_endpoint, discovery.token_endpoint, discovery.jwks_uri)
        return None if all(map(self._is_safe, endpoints)) else "discovery_unsafe_endpoint"

    def _is_safe(self, url: str) -> bool:
        """Return whether a URL may receive secrets: over TLS, or on loopback if the issuer is on loopback."""
        try:
            place = urlsplit(url)
            is_url = _URL.fullmatch(url) and place.hostname and not place.fragment and place.port != 0
        except ValueError:
            return False
        is_protected = place.scheme == "https" or (self.url.startswith("http://") and is_loopback(place.hostname or ""))
        return bool(is_url and is_protected)

    def claims(self, token: str, audience: str) -> dict[str, Any]:
        """Verify an ID token for an audience and return its claims. Raises `SignInFailed`.

        If no key fits, the issuer may have rotated its keys: they are read again, at most once every `REREAD_S`.
        """
        keys = self._current_keys()
        try:
            return self._verified(token, audience, keys)
        except SignInFailed as failure:
            if failure.cause not in {UNKNOWN_KEY, WRONG_SIGNATURE} or not (newer := self._newer_keys(keys)):
                raise
        return self._verified(token, audience, newer)

    def _current_keys(self) -> Keys:
        keys = self._keys
        if keys is None or self._now() - keys.read_at > CACHED_S:
            keys = self._keys = self.read_keys(self.discovery())
        return keys

    def _newer_keys(self, seen: Keys) -> Keys | None:
        """Return keys newer than ``seen``, or None if they were read a moment ago."""
        with self._reread_lock:
            if self._keys is not seen:
                return self._keys
            now = self._now()
            if now - self._reread_at < REREAD_S:
                return None
            self._reread_at = now
            self._keys = self.read_keys(self.discovery())
            return self._keys

    def read_keys(self, discovery: Discovery) -> Keys:
        """Fetch the issuer's keys for the algorithm. Raises `SignInFailed`."""
        now = self._now()
        published = read("keys", discovery.jwks_uri, _KeySet).keys[:_MOST_KEYS]
        return Keys(tuple(found for one in published for found in self._usable(one)), now)

    def _usable(self, published: Any) -> Iterator[tuple[str | None, Any]]:
        """Yield a key and its ``kid``, unless it is malformed, secret or for another use (RFC 7517, section 5)."""
        algorithm = signatures.algorithm_named(self._algorithm)
        try:
            about, parts = msgspec.convert(published, _KeyUse), msgspec.convert(published, _PublicKey)
            if about.use == "sig" and about.alg in {None, *signatures.names_of(self._algorithm)}:
                yield about.kid, algorithm.prepare_key(algorithm.from_jwk(msgspec.to_builtins(parts)))
        except Exception:  # noqa: BLE001 - libraries don't document what they raise for a malformed key
            return

    def _verified(self, token: str, audience: str, keys: Keys) -> dict[str, Any]:
        import jwt  # noqa: PLC0415 - an extra

        names = signatures.names_of(self._algorithm)
        try:
            header = jwt.get_unverified_header(token)
        except Exception as error:
            raise SignInFailed(FAILED, "id_token_malformed") from error
        if header.get("alg") not in names:
            raise SignInFailed(FAILED, "id_token_algorithm")
        candidates = keys.matching(header.get("kid"))
        if not candidates:
            raise SignInFailed(FAILED, UNKNOWN_KEY)
        requirements: dict[str, Any] = {
            "issuer": self.url,
            "audience": audience,
            "leeway": LEEWAY_S,
            "algorithms": names,
        }
        options: Any = {"require": _REQUIRED_CLAIMS, "enforce_minimum_key_length": True}
        for key in candidates:
            try:
                return jwt.decode(token, key, options=options, **requirements)
            except (jwt.InvalidSignatureError, jwt.InvalidKeyError):
                continue
            except Exception as error:
                raise SignInFailed(FAILED, "id_token_invalid") from error
        raise SignInFailed(FAILED, WRONG_SIGNATURE)


def read(what: str, url: str, shape: type[T]) -> T:
    """Fetch and decode a document; ``what`` names it in the cause of a failure. Raises `SignInFailed`."""
    answer = ask(what, url)
    if answer.status != OK:
        raise SignInFailed(UNAVAILABLE, f"{what}_status_{answer.status}")
    return decoded(what, answer.body, shape)


def ask(what: str, url: str, form: dict[str, str] | None = None, authorization: str | None = None) -> Answer:
    """Send a GET, or POST a form, to the issuer. Raises `SignInFailed`."""
    if not _slots.acquire(blocking=False):
        raise SignInFailed(UNAVAILABLE, f"{what}_busy")
    try:
        return fetch(url, form, authorization)
    except Unreachable as error:
        raise SignInFailed(UNAVAILABLE, f"{what}_unreachable") from error
    finally:
        _slots.release()


def decoded(what: str, body: bytes | str, shape: type[T]) -> T:
    """Decode JSON into a type; unknown members are ignored. Raises `SignInFailed`."""
    try:
        return msgspec.json.decode(body, type=shape)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise SignInFailed(UNAVAILABLE, f"{what}_malformed") from error
