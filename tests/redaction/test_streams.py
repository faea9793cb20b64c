"""Redaction of streams: the result does not depend on splits, and undecided text is not shown."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatkeep.redaction import Redactor
from tests.redaction.cases import SENSITIVE, sensitive

REDACTOR = Redactor(words=["密电", "Falcon"], patterns={"staff": r"EMP-?\d{4,6}", "any": r"<[^>]{1,40}>"})
OF_EACH_KIND = 200 if os.environ.get("CHATKEEP_REDACTION_CASES") == "long" else 12
# Characters that decide about numbers, names and keys, and separators.
ALPHABET = "0123456789" * 2 + "13868xXEGa@.:- +/<>\n，。一密电\u200b１＠"
PIECES = st.one_of(
    st.text(ALPHABET, max_size=12),
    st.sampled_from(
        re.split(
            ",",
            "13812345678,138 1234 5678,11010519491231002X,4111 1111 1111 1111,a.b@qq.com,E12345678,192.168.1.20,+86,@,"
            "一,2001:db8::1,sk-Abcdefghijklmnop12345678,eyJ,ghp_,Falcon,EMP-1234,f-a-l-c-o-n,密 电",
        )
    ),
    st.sampled_from(["x" * 70, "1" * 30]),
)


def shown(pieces: Iterable[str]) -> list[str]:
    """Return a stream's output after each piece and at its end. Checks the limit of held-back text."""
    stream = REDACTOR.stream()
    found = []
    for piece in pieces:
        found.append(stream.feed(piece))
        assert stream.held <= REDACTOR.hold_back
    return [*found, stream.end()]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", SENSITIVE)
def test_every_kind_is_found_split_anywhere(kind: str) -> None:
    rng = random.Random(kind)  # noqa: S311 - the same cases each time
    for case in (sensitive(rng, kind) for _ in range(OF_EACH_KIND)):
        for at in range(1, len(case.text)):
            assert "".join(shown([case.text[:at], case.text[at:]])) == case.redacted, (at, case)


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("kind", SENSITIVE)
def test_every_kind_is_found_in_pieces_of_every_size(kind: str, size: int) -> None:
    rng = random.Random(f"{kind}{size}")  # noqa: S311 - the same cases each time
    for case in (sensitive(rng, kind) for _ in range(OF_EACH_KIND)):
        pieces = [case.text[at : at + size] for at in range(0, len(case.text), size)]
        assert "".join(shown(pieces)) == case.redacted, case


@given(st.lists(PIECES, max_size=12))
@example(["1. 138", "12345678"])
@example(["a@b.co", "m.", "\N{ZERO WIDTH SPACE}", "x"])
@example(["sk-" + "A1" * 20, ".", ".a"])
@example(["\N{ZERO WIDTH SPACE}" * 40, "13812345678"])
def test_result_does_not_depend_on_splits(pieces: list[str]) -> None:
    text = "".join(pieces)
    whole = REDACTOR.redact(text).text
    assert "".join(shown(pieces)) == whole
    assert "".join(shown(text)) == whole


@given(st.lists(PIECES, max_size=8))
def test_redaction_is_idempotent(pieces: list[str]) -> None:
    """Otherwise an import of an export would differ. The operator's expressions may match a label."""
    redactor = Redactor()
    once = redactor.redact("".join(pieces)).text
    assert redactor.redact(once).text == once


def test_prose_is_shown_at_once() -> None:
    stream = REDACTOR.stream()
    assert stream.feed("今天天气很好，") == "今天天气很好，"
    assert stream.feed("The weather is fine") == "The weather is "
    assert stream.feed(" today") == "fine "
    assert stream.end() == "today"


def test_possible_match_is_held_back() -> None:
    stream = REDACTOR.stream()
    assert [stream.feed(piece) for piece in ("手机138", "12345", "678", "，谢谢")] == ["手机", "", "", "[phone]，谢谢"]
    assert stream.kinds == {"phone"}


def test_long_key_is_not_held_back() -> None:
    stream = REDACTOR.stream()
    assert stream.feed("sk-" + "Ab1_" * 10) == "[api-key]"
    assert [stream.feed("x" * 1000) for _ in range(100)] == [""] * 100
    assert (stream.held, stream.feed(". Done")) == (0, ". ")


def test_invisible_characters_hold_back_at_most_the_limit() -> None:
    assert "".join(shown(["13", *"\u200b" * 500, "812345678"])) == "13" + "\u200b" * 500 + "812345678"


def test_stream_can_end_before_first_match() -> None:
    stream = REDACTOR.stream(ends_at_first=True)
    assert stream.feed("请拨打13812345678，或者") == "请拨打"
    assert (stream.feed("别的13912345678。"), stream.end(), stream.kinds) == ("", "", {"phone"})
