"""Map names of signature algorithms (RFC 7518, RFC 9864) to PyJWT's algorithms."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import Any

# EdDSA is the older, common name of both algorithms; RFC 9864 names one for each curve.
_CURVES = ("Ed25519", "Ed448")
_NAMES = {"EdDSA": ("EdDSA", *_CURVES)} | {curve: (curve, "EdDSA") for curve in _CURVES}


def names_of(algorithm: str) -> list[str]:
    """Return the values of `alg` that a token signed with an algorithm may have."""
    return list(_NAMES.get(algorithm, (algorithm,)))


def algorithm_named(name: str) -> Any:
    """Return PyJWT's algorithm, and register it with PyJWT if needed. Raises `ImportError`."""
    import jwt  # noqa: PLC0415 - an extra

    if name in _NAMES:
        _add_curves()
    return jwt.get_algorithm_by_name(name)


@cache
def _add_curves() -> None:
    """Register the algorithms of RFC 9864 with PyJWT, if it lacks them."""
    import jwt  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.asymmetric import ed448, ed25519  # noqa: PLC0415
    from jwt.algorithms import OKPAlgorithm  # noqa: PLC0415

    class OneCurve(OKPAlgorithm):
        """EdDSA that accepts keys of one curve only."""

        def __init__(self, *kinds: type[Any]) -> None:
            super().__init__()
            self._kinds = kinds

        def prepare_key(self, key: Any) -> Any:
            """Return the key, unless it is of another curve."""
            prepared = super().prepare_key(key)
            if not isinstance(prepared, self._kinds):
                raise jwt.InvalidKeyError("The key is of another curve.")
            return prepared

    curves = {
        "Ed25519": OneCurve(ed25519.Ed25519PublicKey, ed25519.Ed25519PrivateKey),
        "Ed448": OneCurve(ed448.Ed448PublicKey, ed448.Ed448PrivateKey),
    }
    for name, algorithm in curves.items():
        with suppress(ValueError):  # PyJWT has it already
            jwt.register_algorithm(name, algorithm)
