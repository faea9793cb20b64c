"""Digests of other libraries' source code."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from typing import Any


def digest(what: Callable[..., Any]) -> str:
    """Return a short digest of the source of a function or class."""
    return hashlib.sha256(inspect.getsource(what).encode()).hexdigest()[:12]


def overridden(ours: type, theirs: type) -> set[Callable[..., Any]]:
    """Return the methods of ``theirs`` that the class ``ours`` overrides."""
    return {
        getattr(theirs, name)
        for name, value in vars(ours).items()
        if inspect.isfunction(value) and hasattr(theirs, name)
    }
