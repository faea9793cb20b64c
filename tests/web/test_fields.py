"""Errors in requests name each invalid field, in English and Chinese."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from chatkeep.errors import InvalidFields
from chatkeep.i18n import translated
from chatkeep.web import fields
from chatkeep.web.patterns import in_document
from chatkeep.web.schemas import admin, audit, chat, common, conversations, exports, jobs, keys, sharing, usage

MODULES = (admin, audit, exports, jobs, keys, chat, common, conversations, sharing, usage)
REQUESTS = sorted(
    {
        kind
        for module in MODULES
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__struct_config__.forbid_unknown_fields
    },
    key=lambda kind: kind.__name__,
)
FULL_WIDTH = {ord(digit): chr(ord(digit) + 0xFEE0) for digit in "0123456789"}
SAMPLES = {
    "2026-11-22", "2026-11-22T09:30:00Z", "2026-11-22t09:30:00.5+08:00", "day,model", "shop", "a-1_b",
    "01a202d1-2a30-79d4-9bd7-fd298a4c908a", "01A202D1-2a30-79d4-9bd7-fd298a4c908a_1_2",
}  # fmt: skip
IDEOGRAPH = re.compile("[\u4e00-\u9fff]")


def faults(body: bytes, shape: type[msgspec.Struct] = chat.ChatRequest) -> list[tuple[str, str]]:
    with pytest.raises(InvalidFields) as refused:
        fields.read_body(body, shape)
    return [(error.field, error.message) for error in refused.value.errors]


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        (b"{}", "message", "is required"),
        (b'{"message":"x","extra":1}', "extra", "is unknown"),
        (b'{"message":5}', "message", "must be text of 1 to 1000000 characters"),
        (b'{"message":"x","system":5}', "system", "must be text of at most 100000 characters"),
        (b'{"message":"x","ttl":0}', "ttl", "must be a whole number from 1 to 315360000"),
        (b'{"message":"x","ttl":1.5}', "ttl", "must be a whole number from 1 to 315360000"),
        (b'{"message":"x","temperature":"hot"}', "temperature", "must be a number from 0 to 2"),
        (b'{"message":"x","stream":"yes"}', "stream", "must be true or false"),
        (b'{"message":"x","conversation_id":"x"}', "conversation_id", "must be a UUID"),
        (b'{"message":"x","on_disconnect":"x"}', "on_disconnect", "must be one of: continue, stop"),
        (b'{"message":"x","metadata":[]}', "metadata", "must be a JSON object"),
        (
            b'{"message":"x","metadata":{"a":' + b"9" * 5000 + b"}}",
            "metadata",
            "contains a number that is out of range",
        ),
        (b"[]", "", "must be a JSON object"),
    ],
)
def test_error_names_the_field(body: bytes, field: str, message: str) -> None:
    assert faults(body) == [(field, message)]


def test_error_lists_all_invalid_fields() -> None:
    found = faults(b'{"extra":1,"message":5,"ttl":0,"temperature":9,"role":"system"}')
    assert [field for field, _ in found] == ["extra", "role", "message", "temperature", "ttl"]


def test_error_lists_invalid_nested_fields() -> None:
    body = b'{"limits":{"extra":1,"tokens_per_day":0,"requests_per_day":"x"},"scopes":[]}'
    assert [field for field, _ in faults(body, keys.KeyRequest)] == [
        "name", "scopes", "limits.extra", "limits.requests_per_day", "limits.tokens_per_day",
    ]  # fmt: skip


def test_error_lists_all_invalid_parameters() -> None:
    with pytest.raises(InvalidFields) as refused:
        fields.read_fields({"limit": "0", "after": "x", "x": ""}, conversations.ListQuery, strict=False)
    assert [error.field for error in refused.value.errors] == ["x", "limit", "after"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_detail_names_the_first_error_and_mentions_others(language: Any) -> None:
    with pytest.raises(InvalidFields) as refused:
        fields.read_body(b'{"message":5,"ttl":0}', chat.ChatRequest)
    assert (
        translated(refused.value.detail, language)
        == {
            "en": "message: must be text of 1 to 1000000 characters. See errors for the other wrong fields.",
            "zh": "message\uff1a应为 1 到 1000000 个字符的文本。其余有误的字段见 errors。",
        }[language]
    )


def test_long_names_and_many_errors_are_truncated() -> None:
    (field, _), *others = faults(b"{" + b",".join(b'"%s%d":1' % (b"x" * 3000, at) for at in range(300)) + b"}")
    assert field == "x" * 63 + "…"
    assert len(others) == fields.MAX_ERRORS - 1


def test_integer_may_be_written_as_float() -> None:
    assert fields.read_body(b'{"message":"x","ttl":5.0}', chat.ChatRequest).ttl == 5


@pytest.mark.parametrize("shape", REQUESTS, ids=lambda shape: shape.__name__)
def test_allowed_values_are_described_in_both_languages(shape: type[msgspec.Struct]) -> None:
    for field in inspect.type_info(shape).fields:  # type: ignore[attr-defined]
        words = fields.wanted(field.type)
        assert words.startswith(("must ", "write "))
        assert IDEOGRAPH.search(translated(words, "zh")), words


def patterns() -> dict[str, str]:
    """Map each pattern of a request's field to the pattern in the OpenAPI document."""
    found: dict[str, str] = {}
    for kind in REQUESTS:
        (schema,), shown = msgspec.json.schema_components([kind])
        for one in patterns_in([schema, shown]):
            found[one] = in_document({"pattern": one})["pattern"]
    return found


def patterns_in(schema: Any) -> Iterator[str]:
    for one in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from patterns_in(one)
    if isinstance(schema, dict) and isinstance(schema.get("pattern"), str):
        yield schema["pattern"]


@pytest.mark.parametrize("pattern", patterns())
def test_pattern_matches_the_same_texts_in_code_and_document(pattern: str) -> None:
    shown = patterns()[pattern]
    assert (shown[0], shown[-1], r"\Z" in shown) == ("^", "$", False)
    # In ECMA-262 $ matches only at the end, and \d and \w are ASCII.
    ecma = re.compile(shown.removesuffix("$"), re.ASCII)
    matching = [text for text in SAMPLES if re.search(pattern, text)]
    assert matching
    for text in matching:
        odd = (f"{text}\n", f"{text}\r\n", f"\n{text}", f"{text} ", text.translate(FULL_WIDTH), f"{text}\u2028")
        for other in (text, *odd, *SAMPLES):
            assert bool(re.search(pattern, other)) == bool(ecma.fullmatch(other)), other
        assert not any(re.search(pattern, other) for other in odd if other != text)


def test_patterns_are_found() -> None:
    assert len(patterns()) >= 5
