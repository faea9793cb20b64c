r"""Patterns of whole texts, as the shapes check them and as the OpenAPI document shows them; pure.

JSON Schema takes the regular expressions of ECMA-262, whose ``$`` is the end of a text. In Python a line break may
follow a ``$``, and the end alone is ``\Z``.
"""

from __future__ import annotations

from typing import Any

_END = r"\Z"


def whole(pattern: str) -> str:
    """Return the pattern of a text of which ``pattern`` matches all."""
    return f"^{pattern}{_END}"


def in_document(described: dict[str, Any]) -> dict[str, Any]:
    """Return a document, or a schema in it, whose patterns end as in ECMA-262."""
    return {name: _shown(value) if name == "pattern" else _inner(value) for name, value in described.items()}


def _inner(value: Any) -> Any:
    if isinstance(value, dict):
        return in_document(value)
    return [_inner(one) for one in value] if isinstance(value, list) else value


def _shown(pattern: Any) -> Any:
    if isinstance(pattern, str) and pattern.endswith(_END):
        return f"{pattern.removesuffix(_END)}$"
    return _inner(pattern)  # a field of that name
