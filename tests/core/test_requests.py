"""Which field an error of the decoder is about."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from chatkeep.errors import InvalidFields
from chatkeep.rows import title_of
from chatkeep.web import shapes
from chatkeep.web.requests import given, invalid, require_small_metadata


def refusal(body: Any, shape: type[msgspec.Struct] = shapes.ChatRequest) -> InvalidFields:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(body, shape)
    return invalid(str(refused.value))


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({}, "message", "is required"),
        ({"message": "x", "extra": 1}, "extra", "is not known here"),
        ({"message": 5}, "message", "Expected `str`, got `int`"),
        ({"message": "x", "ttl": 0}, "ttl", "Expected `int` >= 1"),
        ([], "", "Expected `object`, got `array`"),
    ],
)
def test_the_field_is_named(body: Any, field: str, message: str) -> None:
    problem = refusal(body)
    assert [(error.field, error.message) for error in problem.errors] == [(field, message)]
    assert problem.detail == f"{field or 'The body'}: {message}."


@pytest.mark.parametrize(("metadata", "fits"), [({}, True), ({"a": "x" * 16_000}, True), ({"a": "x" * 17_000}, False)])
def test_metadata_has_a_limit(metadata: dict[str, str], *, fits: bool) -> None:
    if fits:
        require_small_metadata(metadata)
        return
    with pytest.raises(InvalidFields, match="larger than"):
        require_small_metadata(metadata)


def test_what_is_left_out_is_told_from_null() -> None:
    assert given(msgspec.UNSET) is ...
    assert given(None) is None


@pytest.mark.parametrize(
    ("message", "title"),
    [
        ("One line", "One line"),
        ("  first \n second", "first"),
        ("\n\n  third", "third"),
        ("a\u2028b", "a"),
        ("a \t\u3000 b", "a b"),
        ("x" * 80, "x" * 80),
        ("x" * 81, "x" * 79 + "…"),
        ("", ""),
    ],
)
def test_a_title_is_the_first_line_shortened(message: str, title: str) -> None:
    assert title_of(message) == title
