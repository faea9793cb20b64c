r"""Anchored regular expressions, in Python's dialect for validation and in ECMA-262's for OpenAPI.

In ECMA-262, which JSON Schema uses, ``$`` matches only the end of the text. In Python it also matches before a final
line break; the end is ``\Z``.
"""

from __future__ import annotations

from typing import Any

_END = r"\Z"


def whole(pattern: str) -> str:
    """Anchor a pattern at both ends."""
    return f"^{pattern}{_END}"


def in_document(described: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI document or schema with its patterns in ECMA-262's dialect."""
    return {name: _shown(value) if name == "pattern" else _inner(value) for name, value in described.items()}


def _inner(value: Any) -> Any:
    if isinstance(value, dict):
        return in_document(value)
    return [_inner(one) for one in value] if isinstance(value, list) else value


def _shown(pattern: Any) -> Any:
    if isinstance(pattern, str) and pattern.endswith(_END):
        return f"{pattern.removesuffix(_END)}$"
    return _inner(pattern)  # a field named "pattern"
