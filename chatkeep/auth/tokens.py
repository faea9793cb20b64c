"""Signed tokens by which an embedding application names its end users (RFC 7519); the algorithm is ours to choose."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from chatkeep.auth import signatures
from chatkeep.auth.access import is_end_user
from chatkeep.config.parsing import TokenRule
from chatkeep.errors import NO_TOKEN, SettingsError, Unauthorized

# By how much clocks may differ.
LEEWAY_S = 5


class VerifiedToken(NamedTuple):
    """The end user that a token names, and until when it does, in µs since 1970."""

    end_user: str
    until: int


@dataclass(frozen=True, slots=True)
class _Verifier:
    """How the tokens of one account are verified, with keys as the library wants them."""

    rule: TokenRule
    keys: tuple[Any, ...]


class Tokens:
    """Verifies the tokens of the accounts that have keys for that. Raises `SettingsError`."""

    def __init__(self, rules: Iterable[tuple[str, TokenRule]]) -> None:
        self._verifiers = {account: _verifier(account, rule) for account, rule in rules}

    def expects(self, account: str) -> bool:
        """Return whether the end users of an account are named by tokens, and by nothing else."""
        return account in self._verifiers

    def read(self, account: str, token: str) -> VerifiedToken:
        """Return the end user that a token names. Raises `Unauthorized`."""
        import jwt  # noqa: PLC0415 - an extra

        verifier = self._verifiers[account]
        for key in verifier.keys:
            try:
                claims = jwt.decode(token, key, **_demands(verifier.rule))
            except (jwt.InvalidSignatureError, jwt.InvalidKeyError):
                continue
            except Exception:  # noqa: BLE001 - what the library raises for a malformed token is not documented
                break
            if is_end_user(claims["sub"]):
                return VerifiedToken(claims["sub"], (int(claims["exp"]) + LEEWAY_S) * 1_000_000)
            break
        raise Unauthorized(NO_TOKEN)


def _demands(rule: TokenRule) -> dict[str, Any]:
    """Return what a token must hold; without an audience of ours it may be for anybody."""
    options = {"require": ["exp", "sub"], "verify_aud": rule.audience is not None}
    return {
        "algorithms": signatures.names_of(rule.algorithm),
        "issuer": rule.issuer,
        "audience": rule.audience,
        "leeway": LEEWAY_S,
        "options": options,
    }


def _verifier(account: str, rule: TokenRule) -> _Verifier:
    """Return the keys as the library wants them, which refuses a public key as a secret (CVE-2022-29217)."""
    try:
        algorithm = signatures.algorithm_named(rule.algorithm)
        return _Verifier(rule, tuple(algorithm.prepare_key(key) for key in rule.keys))
    except ImportError as error:
        raise SettingsError(
            ["CHATKEEP_END_USER_TOKENS: the package pyjwt is missing; run: pip install 'chatkeep[jwt]'"]
        ) from error
    except Exception as error:
        raise SettingsError(
            [f"CHATKEEP_END_USER_TOKENS: a key of the account {account} is none for {rule.algorithm}"]
        ) from error
