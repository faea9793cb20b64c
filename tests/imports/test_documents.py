"""Split JSON of any size into records, for any content and any chunks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatkeep.imports.documents import RECORD_BYTES, HashedChunks, Records, lines, peek

AWKWARD = st.sampled_from(['"', "\\", '\\"', "{", "}", "[", "]", ",", "\n", "\u2028", "\0", "你好", "🙂"])
TEXT = st.lists(AWKWARD | st.text(max_size=4), max_size=5).map("".join)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=3,
)
OBJECT = st.dictionaries(TEXT, VALUE, max_size=4)
LINE = st.binary(max_size=10).map(lambda part: part.replace(b"\n", b""))
INDENT = st.sampled_from([None, 0, 2])


def chunked(text: bytes, size: int) -> Iterator[bytes]:
    return (text[at : at + size] for at in range(0, len(text), size))


def read(text: bytes, size: int = 7) -> tuple[Records, list[Any]]:
    found = Records(chunked(text, size))
    return found, [json.loads(record.body or b"") for record in found]


@settings(max_examples=40)
@given(st.lists(OBJECT, max_size=4), INDENT, st.booleans(), st.integers(1, 40))
def test_list_is_split_into_objects(objects: list[Any], indent: int | None, plain: bool, size: int) -> None:  # noqa: FBT001
    text = json.dumps(objects, indent=indent, ensure_ascii=plain).encode()
    records, found = read(text, size)
    assert found == objects
    assert not records.cut


@settings(max_examples=40)
@given(st.lists(OBJECT, max_size=3), st.lists(OBJECT, max_size=3), INDENT, st.integers(1, 40))
def test_lists_are_split_and_the_rest_is_the_frame(
    some: list[Any], others: list[Any], indent: int | None, size: int
) -> None:
    frame = {"object": "export", "one": some, "end": {"a": [{"b": "["}]}, "two": others}
    records, found = read(json.dumps(frame, indent=indent).encode(), size)
    assert found == some + others
    assert json.loads(records.frame) == frame | {"one": [], "two": []}


@settings(max_examples=40)
@given(st.lists(OBJECT, min_size=1, max_size=4), INDENT, st.integers(1, 40))
def test_records_have_their_first_line(objects: list[Any], indent: int | None, size: int) -> None:
    text = json.dumps([{"at": number, **one} for number, one in enumerate(objects)], indent=indent).encode()
    for record in Records(chunked(text, size)):
        begins = text.split(b"\n", record.line - 1)[-1].lstrip(b" [,") if indent is not None else text
        assert (record.body or b"") in text
        assert indent is None or begins.startswith(record.body or b"")


def test_truncated_document_is_detected() -> None:
    records, found = read(b'[{"a": 1}, {"b": "')
    assert (found, records.cut) == ([{"a": 1}], True)


def test_stray_values_are_records() -> None:
    found = [(record.line, record.body) for record in Records([b'[\n{"a": 1},\nnull,\n{"b": 2}\n, 7]'])]
    assert found == [(2, b'{"a": 1}'), (3, b"null"), (4, b'{"b": 2}'), (5, b"7")]


def test_unclosed_string_ends_with_its_line() -> None:
    text = b'[\n{"a": "never closed},\n{"b": 2}},\n{"c": 3}\n]'
    assert [record.line for record in Records([text])] == [2, 4]


@pytest.mark.parametrize("split", [Records, lines])
def test_too_large_record_has_no_body(split: Any) -> None:
    """Reads 65 MB: a second."""
    text = chain([b'[\n{"a": "'], repeat(b"x" * RECORD_BYTES, 1), [b'"},\n{"b": 2}\n', b"]"])
    found = {record.line: record.body for record in split(text)}
    assert (found[2], found[3]) == (None, b'{"b": 2}')


@given(st.lists(LINE, max_size=6), st.integers(1, 9))
def test_lines_are_numbered_and_empty_ones_skipped(parts: list[bytes], size: int) -> None:
    found = [(record.line, record.body) for record in lines(chunked(b"\n".join(parts), size))]
    assert found == [(number, part) for number, part in enumerate(parts, 1) if part.strip()]


@given(st.lists(LINE, max_size=5), LINE.filter(bool), st.integers(1, 9))
def test_all_before_the_last_line_is_hashed(before: list[bytes], last: bytes, size: int) -> None:
    whole = b"".join(part + b"\n" for part in before)
    file = HashedChunks(chunked(whole + last + b"\n", size))
    assert b"".join(file) == whole + last + b"\n"
    assert (file.before_last_line(), file.last_line) == (hashlib.sha256(whole).hexdigest(), len(before) + 1)


def test_peek_loses_nothing() -> None:
    head, whole = peek(iter([b"\xef\xbb\xbf ", b"[{", b"}\n", b"]"]))
    assert (head, b"".join(whole)) == (b"[{}\n", b" [{}\n]")
