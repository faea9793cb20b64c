"""Signing in with OpenID Connect: the code flow with PKCE, for one provider that the operator has chosen.

What the browser brings back is believed only as far as it fits what the same browser was sent away with: `state` ties
the answer to it, the code's verifier ties the code to it, and `nonce` ties the token to it. Of a token the issuer, the
audience and the algorithm are the server's own to say, whatever the token says of itself.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from chatkeep.access import NewKey, Scope, is_name
from chatkeep.errors import SettingsError, SignInFailed
from chatkeep.hosts import is_loopback
from chatkeep.keys import Door, admit
from chatkeep.provider.fetch import Answer, Unreachable, fetch
from chatkeep.settings import Settings
from chatkeep.store.journal import Journal

LEEWAY_S = 30
# What the provider says of itself changes seldom; a key that is not known yet is looked for at once, but not at will.
TOLD_HOLDS_S, KEYS_HOLD_S = 3600.0, 10.0
OK = 200
_DEMANDED = ["iss", "sub", "aud", "exp", "iat"]
_FAILED, _DENIED, _UNAVAILABLE = "failed", "denied", "unavailable"


class Started(msgspec.Struct, frozen=True):
    """What a browser was sent away with; it keeps this itself, where no script reads it."""

    state: str
    nonce: str
    verifier: str
    to: str
    """Where it was on the pages."""

    @property
    def challenge(self) -> str:
        """What the provider is told of the verifier (RFC 7636, S256)."""
        return _text64(hashlib.sha256(self.verifier.encode()).digest())

    def sealed(self) -> str:
        """Return this as the value of a cookie."""
        return _text64(msgspec.json.encode(self))

    @classmethod
    def unsealed(cls, text: str) -> Started | None:
        """Return what a cookie's value says, None where it says nothing of the kind."""
        try:
            return msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=cls)
        except (ValueError, msgspec.MsgspecError):
            return None


@dataclass(frozen=True, slots=True)
class Returned:
    """What a browser came back with."""

    state: str
    code: str | None = None
    error: str | None = None
    issuer: str | None = None


class _Told(msgspec.Struct, frozen=True):
    """What a provider says of itself."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class _Keys(msgspec.Struct, frozen=True):
    keys: list[dict[str, Any]]


class _Tokens(msgspec.Struct, frozen=True):
    id_token: str


class Oidc:
    """Signs people in with the provider of the settings, for one process. Raises `SettingsError`."""

    def __init__(self, settings: Settings) -> None:
        self.is_configured = settings.oidc_issuer is not None
        self._issuer = settings.oidc_issuer or ""
        self._client_id = settings.oidc_client_id or ""
        self._secret = settings.oidc_client_secret
        self._algorithm = settings.oidc_algorithm
        scopes = tuple(map(Scope, settings.oidc_scopes))
        self._door = Door(self._door_id(settings.oidc_account), settings.oidc_label, settings.oidc_account, scopes)
        self._told: tuple[float, _Told] | None = None
        self._keys: tuple[float, dict[str | None, Any]] = (-KEYS_HOLD_S, {})
        if self.is_configured:
            _require(self._client_id)

    def begin(self, redirect_uri: str, to: str) -> tuple[str, Started]:
        """Return where to send a browser, and what it must come back with. Raises `SignInFailed`."""
        started = Started(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48), to)
        asked = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": redirect_uri,
            "scope": "openid",
            "state": started.state,
            "nonce": started.nonce,
            "code_challenge": started.challenge,
            "code_challenge_method": "S256",
        }
        endpoint = self._provider().authorization_endpoint
        return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(asked)}", started

    def finish(
        self, journal: Journal, started: Started | None, returned: Returned, redirect_uri: str, request_id: str
    ) -> NewKey:
        """Return a new key for whom the provider vouches for.

        Raises `SignInFailed`, `KeyRevoked` where the operator lets nobody in this way any more, `StoreUnavailable`.
        """
        if started is None or not _same(started.state, returned.state):
            raise SignInFailed(_FAILED)
        told = self._provider()
        if returned.issuer is None and told.authorization_response_iss_parameter_supported:
            raise SignInFailed(_FAILED)
        if returned.issuer not in {None, self._issuer}:
            raise SignInFailed(_FAILED)
        if returned.error or not returned.code:
            raise SignInFailed(_DENIED if returned.error == "access_denied" else _FAILED)
        token = self._exchange(told, returned.code, started.verifier, redirect_uri)
        return admit(journal, self._door, self._verified(told, token, started.nonce), request_id)

    def _door_id(self, account: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"{self._issuer}\0{self._client_id}\0{account}")

    def _provider(self) -> _Told:
        now = time.monotonic()
        if self._told is None or now - self._told[0] > TOLD_HOLDS_S:
            found = _read(fetch_or_fail(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"), _Told)
            endpoints = (found.authorization_endpoint, found.token_endpoint, found.jwks_uri)
            if found.issuer != self._issuer or not all(map(self._is_safe, endpoints)):
                raise SignInFailed(_UNAVAILABLE)
            self._told = now, found
        return self._told[1]

    def _is_safe(self, url: str) -> bool:
        """Return whether a secret may go to a URL: over TLS, or within this machine where the issuer is there."""
        return url.startswith("https://") or (self._issuer.startswith("http://") and is_local(url))

    def _exchange(self, told: _Told, code: str, verifier: str, redirect_uri: str) -> str:
        """Return the ID token that a code is good for."""
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier}
        form |= {"redirect_uri": redirect_uri, "client_id": self._client_id}
        if self._secret is None:
            answer = fetch_or_fail(told.token_endpoint, form)
        elif "client_secret_basic" in told.token_endpoint_auth_methods_supported:
            pair = f"{quote_plus(self._client_id)}:{quote_plus(self._secret)}"
            answer = fetch_or_fail(told.token_endpoint, form, f"Basic {base64.b64encode(pair.encode()).decode()}")
        else:
            answer = fetch_or_fail(told.token_endpoint, form | {"client_secret": self._secret})
        if OK < answer.status < 500:  # noqa: PLR2004 - what is the client's fault: the code is no good, or used
            raise SignInFailed(_FAILED)
        return str(_read(answer, _Tokens).id_token)

    def _verified(self, told: _Told, token: str, nonce: str) -> str:
        """Return the name of whom a token is about (OpenID Connect Core 1.0, section 3.1.3.7)."""
        import jwt  # noqa: PLC0415 - an extra

        try:
            key = self._key(told, jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(
                token,
                key,
                algorithms=[self._algorithm],
                issuer=self._issuer,
                audience=self._client_id,
                leeway=LEEWAY_S,
                options={"require": _DEMANDED},
            )
        except jwt.PyJWTError as error:
            raise SignInFailed(_FAILED) from error
        alone = claims["aud"] in (self._client_id, [self._client_id])
        party = claims.get("azp", self._client_id if alone else None)
        subject, said = claims["sub"], claims.get("nonce")
        if party != self._client_id or not isinstance(said, str) or not _same(said, nonce) or not is_name(subject):
            raise SignInFailed(_FAILED)
        return str(subject)

    def _key(self, told: _Told, kid: str | None) -> Any:
        """Return the provider's key of a name; one that has none is meant where there is only one."""
        now = time.monotonic()
        if kid not in self._keys[1] and now - self._keys[0] >= KEYS_HOLD_S:
            self._keys = now, self._usable(_read(fetch_or_fail(told.jwks_uri), _Keys))
        found = self._keys[1]
        if kid is None and len(found) == 1:
            return next(iter(found.values()))
        if kid not in found:
            raise SignInFailed(_FAILED)
        return found[kid]

    def _usable(self, published: _Keys) -> dict[str | None, Any]:
        """Return the keys that are for the one algorithm: a secret among them is none, nor a key of another kind."""
        import jwt  # noqa: PLC0415 - an extra

        found = {}
        for one in published.keys:
            if one.get("use", "sig") == "sig" and one.get("alg", self._algorithm) == self._algorithm:
                try:
                    found[one.get("kid")] = jwt.PyJWK(one, self._algorithm).key
                except jwt.PyJWTError:
                    continue
        return found


def fetch_or_fail(url: str, form: dict[str, str] | None = None, authorization: str | None = None) -> Answer:
    """Return what the provider answers. Raises `SignInFailed`."""
    try:
        return fetch(url, form, authorization)
    except Unreachable as error:
        raise SignInFailed(_UNAVAILABLE) from error


def is_local(url: str) -> bool:
    """Return whether a URL leads to this machine."""
    return is_loopback(urlsplit(url).hostname or "")


def _read(answer: Answer, shape: type[Any]) -> Any:
    try:
        if answer.status != OK:
            raise SignInFailed(_UNAVAILABLE)
        return msgspec.json.decode(answer.body, type=shape)
    except (ValueError, msgspec.MsgspecError) as error:
        raise SignInFailed(_UNAVAILABLE) from error


def _require(client_id: str) -> None:
    """Raise `SettingsError` where something is missing without which nobody could sign in."""
    if not client_id:
        raise SettingsError(["CHATKEEP_OIDC_CLIENT_ID: set the name under which the issuer knows this server"])
    try:
        import jwt  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise SettingsError(
            ["CHATKEEP_OIDC_ISSUER: the package pyjwt is missing; run: pip install 'chatkeep[oidc]'"]
        ) from error


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _text64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
