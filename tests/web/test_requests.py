"""Validation of requests beyond their schemas."""

from __future__ import annotations

import msgspec
import pytest

from chatkeep.errors import InvalidFields
from chatkeep.turns.rows import title_of
from chatkeep.web.requests import given, require_small_metadata


@pytest.mark.parametrize(("metadata", "fits"), [({}, True), ({"a": "x" * 16_000}, True), ({"a": "x" * 17_000}, False)])
def test_large_metadata_is_rejected(metadata: dict[str, str], *, fits: bool) -> None:
    if fits:
        require_small_metadata(metadata)
        return
    with pytest.raises(InvalidFields, match="larger than"):
        require_small_metadata(metadata)


def test_given_distinguishes_missing_from_null() -> None:
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
def test_title_is_the_first_line_truncated(message: str, title: str) -> None:
    assert title_of(message) == title
