"""Register an algorithm with PyJWT as an embedding program does. chatkeep must use it, and its own for all others."""

from __future__ import annotations

import jwt
from jwt.algorithms import OKPAlgorithm

from chatkeep.auth import signatures

if __name__ == "__main__":
    own = OKPAlgorithm()
    jwt.register_algorithm("Ed25519", own)
    assert signatures.algorithm_named("Ed25519") is own
    assert signatures.algorithm_named("Ed448") is not own
