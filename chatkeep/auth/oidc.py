"""Sign in with OpenID Connect: the authorization code flow with PKCE, for one provider that the operator configures.

Three values tie the response to the browser's request: `state` the response, the verifier the code, and `nonce` the ID
token. The issuer, the audience and the algorithm of a token come from the settings, never from the token.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote_plus, urlencode, urlsplit
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from chatkeep.auth import signatures
from chatkeep.auth.access import NewKey, Scope, is_end_user
from chatkeep.auth.issuer import DENIED, FAILED, OK, UNAVAILABLE, Discovery, Issuer, ask, decoded
from chatkeep.auth.keys import SignInKey, sign_in_end_user
from chatkeep.config.settings import Settings
from chatkeep.errors import SettingsError, SignInFailed
from chatkeep.i18n import _
from chatkeep.store.journal import Journal

# Error codes of RFC 6749 and OpenID Connect Core 1.0.
_ERRORS = {
    "access_denied", "account_selection_required", "consent_required", "interaction_required", "invalid_client",
    "invalid_grant", "invalid_request", "invalid_request_object", "invalid_request_uri", "invalid_scope",
    "login_required", "registration_not_supported", "request_not_supported", "request_uri_not_supported",
    "server_error", "temporarily_unavailable", "unauthorized_client", "unsupported_grant_type",
    "unsupported_response_type",
}  # fmt: skip


class AuthorizationRequest(msgspec.Struct, frozen=True):
    """The secrets of one authorization request, kept in the browser's HttpOnly cookie."""

    state: str
    nonce: str
    verifier: str
    to: str
    """The page to return to."""

    @property
    def challenge(self) -> str:
        """The code challenge of the verifier (RFC 7636, S256)."""
        return _text64(hashlib.sha256(self.verifier.encode()).digest())

    def sealed(self) -> str:
        """Encode this as the value of a cookie."""
        return _text64(msgspec.json.encode(self))

    @classmethod
    def unsealed(cls, text: str) -> AuthorizationRequest | None:
        """Decode the value of a cookie; return None if it is malformed."""
        try:
            return msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=cls)
        except (ValueError, msgspec.MsgspecError, RecursionError):
            return None


@dataclass(frozen=True, slots=True)
class AuthorizationResponse:
    """The parameters of the redirect back from the provider."""

    state: str
    code: str | None = None
    error: str | None = None
    issuer: str | None = None


class _Tokens(msgspec.Struct, frozen=True):
    id_token: str


class _Refusal(msgspec.Struct, frozen=True):
    error: str


class Oidc:
    """Sign people in with the configured provider. Raises `SettingsError`."""

    def __init__(self, settings: Settings, now: Callable[[], float] = time.monotonic) -> None:
        self.is_configured = settings.oidc_issuer is not None
        self.issuer = Issuer(settings.oidc_issuer or "", settings.oidc_algorithm, now)
        self._client_id = settings.oidc_client_id or ""
        self._secret = settings.oidc_client_secret
        scopes = tuple(map(Scope, settings.oidc_scopes))
        self._sign_in_key = SignInKey(
            self._sign_in_key_id(settings.oidc_account), settings.oidc_label, settings.oidc_account, scopes
        )
        if self.is_configured:
            _require(self._client_id, settings.oidc_algorithm)

    def begin(self, redirect_uri: str, to: str) -> tuple[str, AuthorizationRequest]:
        """Return the URL to redirect the browser to, and the request to keep in its cookie. Raises `SignInFailed`."""
        started = AuthorizationRequest(
            secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48), to
        )
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
        endpoint = self.issuer.discovery().authorization_endpoint
        return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(asked)}", started

    def finish(
        self,
        journal: Journal,
        started: AuthorizationRequest | None,
        returned: AuthorizationResponse,
        redirect_uri: str,
        request_id: str,
    ) -> NewKey:
        """Verify the provider's response and create a session.

        Raises `SignInFailed`, `KeyRevoked` if the operator revoked sign-in with the provider, and `StoreUnavailable`.
        """
        if started is None or not _same(started.state, returned.state):
            raise SignInFailed(FAILED, "state_unknown")
        discovery = self.issuer.discovery()
        if returned.issuer is None and discovery.authorization_response_iss_parameter_supported:
            raise SignInFailed(FAILED, "response_issuer_missing")
        if returned.issuer not in {None, self.issuer.url}:
            raise SignInFailed(FAILED, "response_issuer_mismatch")
        if returned.error:
            reason = DENIED if returned.error == "access_denied" else FAILED
            raise SignInFailed(reason, _cause("provider", returned.error))
        if not returned.code:
            raise SignInFailed(FAILED, "code_missing")
        token = self._exchange(discovery, returned.code, started.verifier, redirect_uri)
        return sign_in_end_user(journal, self._sign_in_key, self._subject(token, started.nonce), request_id)

    def _sign_in_key_id(self, account: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"{self.issuer.url}\0{self._client_id}\0{account}")

    def _exchange(self, discovery: Discovery, code: str, verifier: str, redirect_uri: str) -> str:
        """Exchange a code for an ID token."""
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier}
        form |= {"redirect_uri": redirect_uri, "client_id": self._client_id}
        authorization = None
        if self._secret is not None and "client_secret_basic" in discovery.token_endpoint_auth_methods_supported:
            pair = f"{quote_plus(self._client_id)}:{quote_plus(self._secret)}"
            authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
        elif self._secret is not None:
            form |= {"client_secret": self._secret}
        answer = ask("token", discovery.token_endpoint, form, authorization)
        if answer.status in {400, 401}:  # RFC 6749, section 5.2
            raise SignInFailed(FAILED, _cause("token", decoded("token_refusal", answer.body, _Refusal).error))
        if answer.status != OK:
            raise SignInFailed(UNAVAILABLE, f"token_status_{answer.status}")
        return decoded("token", answer.body, _Tokens).id_token

    def _subject(self, token: str, nonce: str) -> str:
        """Verify an ID token and return its subject (OpenID Connect Core 1.0, section 3.1.3.7)."""
        claims = self.issuer.claims(token, self._client_id)
        alone = claims["aud"] in (self._client_id, [self._client_id])
        if claims.get("azp", self._client_id if alone else None) != self._client_id:
            raise SignInFailed(FAILED, "id_token_party")
        if not _same(claims.get("nonce"), nonce):
            raise SignInFailed(FAILED, "id_token_nonce")
        subject = claims["sub"]
        if not isinstance(subject, str) or not is_end_user(subject):
            raise SignInFailed(FAILED, "id_token_subject")
        return subject


def _cause(where: str, error: str) -> str:
    """Return the cause to log for a provider's error; codes outside the standards are not repeated."""
    return f"{where}_{error}" if error in _ERRORS else f"{where}_other_error"


def _require(client_id: str, algorithm: str) -> None:
    """Raise `SettingsError` if sign-in cannot work with these settings."""
    if not client_id:
        raise SettingsError(
            [_("CHATKEEP_OIDC_CLIENT_ID: not set; set the client ID that the issuer assigned to this server")]
        )
    try:
        signatures.algorithm_named(algorithm)
    except ImportError as error:
        raise SettingsError(
            [_("CHATKEEP_OIDC_ISSUER: the package pyjwt is missing; run: pip install 'chatkeep[oidc]'")]
        ) from error


def _same(found: object, expected: str) -> bool:
    """Compare an untrusted value with the expected text in constant time."""
    if not isinstance(found, str):
        return False
    return hmac.compare_digest(found.encode(errors="surrogatepass"), expected.encode(errors="surrogatepass"))


def _text64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
