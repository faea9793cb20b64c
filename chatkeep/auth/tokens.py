"""Verify the signed tokens (RFC 7519) by which an embedding application names its end users.

The algorithm comes from the settings, never from the token.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from chatkeep.auth import signatures
from chatkeep.auth.access import is_end_user
from chatkeep.config.parsing import TokenRule
from chatkeep.errors import NO_TOKEN, SettingsError, Unauthorized
from chatkeep.i18n import _

# Tolerated clock skew.
LEEWAY_S = 5


class VerifiedToken(NamedTuple):
    """The end user of a token, and when it expires, in µs since 1970."""

    end_user: str
    until: int


@dataclass(frozen=True, slots=True)
class _Verifier:
    """The rule of one account, with its keys as PyJWT objects."""

    rule: TokenRule
    keys: tuple[Any, ...]


class Tokens:
    """Verify tokens for the accounts that have a rule. Raises `SettingsError`."""

    def __init__(self, rules: Iterable[tuple[str, TokenRule]]) -> None:
        self._verifiers = {account: _verifier(account, rule) for account, rule in rules}

    def expects(self, account: str) -> bool:
        """Return whether the account requires tokens to name its end users."""
        return account in self._verifiers

    def read(self, account: str, token: str) -> VerifiedToken:
        """Verify a token and return its end user. Raises `Unauthorized`."""
        import jwt  # noqa: PLC0415 - an extra

        verifier = self._verifiers[account]
        for key in verifier.keys:
            try:
                claims = jwt.decode(token, key, **_requirements(verifier.rule))
            except (jwt.InvalidSignatureError, jwt.InvalidKeyError):
                continue
            except Exception:  # noqa: BLE001 - what the library raises for a malformed token is not documented
                break
            if is_end_user(claims["sub"]):
                return VerifiedToken(claims["sub"], (int(claims["exp"]) + LEEWAY_S) * 1_000_000)
            break
        raise Unauthorized(NO_TOKEN)


def _requirements(rule: TokenRule) -> dict[str, Any]:
    """Return the claims to require; without an audience in the rule, any audience is accepted."""
    options = {"require": ["exp", "sub"], "verify_aud": rule.audience is not None}
    return {
        "algorithms": signatures.names_of(rule.algorithm),
        "issuer": rule.issuer,
        "audience": rule.audience,
        "leeway": LEEWAY_S,
        "options": options,
    }


def _verifier(account: str, rule: TokenRule) -> _Verifier:
    """Prepare the keys of a rule; PyJWT refuses a public key as a secret (CVE-2022-29217)."""
    try:
        algorithm = signatures.algorithm_named(rule.algorithm)
        return _Verifier(rule, tuple(algorithm.prepare_key(key) for key in rule.keys))
    except ImportError as error:
        raise SettingsError(
            [_("CHATKEEP_END_USER_TOKENS: the package pyjwt is missing; run: pip install 'chatkeep[jwt]'")]
        ) from error
    except Exception as error:
        raise SettingsError(
            [
                _(
                    "CHATKEEP_END_USER_TOKENS: a key of the account {account} is not valid for {algorithm}; replace it",
                    account=account,
                    algorithm=rule.algorithm,
                )
            ]
        ) from error
