"""The operator's words and regular expressions."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkeep.redaction import Redactor, Unsupported, automaton
from chatkeep.redaction.automaton import MOST_INVISIBLE, Automaton, Pattern


@pytest.mark.parametrize("text", ["项目猎鹰已启动", "项.目.猎.鹰已启动", "项 目 猎 鹰已启动", "项目猎\u200b鹰已启动"])
def test_split_word_is_found(text: str) -> None:
    assert Redactor((), ["项目猎鹰"]).redact(text).text == "[word]已启动"


@pytest.mark.parametrize("text", ["FALCON", "falcon", "Ｆａｌｃｏｎ", "f a l c o n", "F-a-l-c-o-n"])
def test_word_is_found_ignoring_case(text: str) -> None:
    assert Redactor((), ["Falcon"]).redact(f"the {text}.").text == "the [word]."


def test_ascii_word_is_not_found_within_another() -> None:
    assert Redactor((), ["cat"]).redact("concatenate cats cat 一cat二").text == "concatenate cats [word] 一[word]二"


def test_pattern_is_labelled_by_name() -> None:
    redactor = Redactor((), patterns={"staff": r"EMP-?\d{4,6}", "case": "编号：(?:甲|乙)[^ ]{2}"})
    assert redactor.redact("EMP-1234 EMP1234567 编号:甲12 编号：丙12").text == "[staff] EMP1234567 [case] 编号：丙12"
    assert redactor.redact("emp-1234").text == "emp-1234"
    assert Redactor((), patterns={"staff": r"(?i)emp-\d{4}"}).redact("Emp-1234").text == "[staff]"


def test_hold_back_follows_from_patterns() -> None:
    assert Redactor((), ["秘密"], {"staff": r"EMP-?\d{4,6}"}).hold_back == 10 + MOST_INVISIBLE


@pytest.mark.parametrize(
    ("regex", "told"),
    [
        (r"EMP\d+", "it has no longest match"),
        ("a{1,300}", "its longest match has 300 characters"),
        ("a{0,3}", "it matches nothing at all"),
        (r"\bEMP\b", r"anchors, \\b, look-arounds"),
        ("(?=a)b", "anchors"),
        (r"(a)\1", "anchors"),
        ("(?i:a)b", "anchors"),
        ("a(", "missing \\)"),
        ("(?:" + "|".join(f"{n}x" for n in range(10, 99)) + "){60}", "it is too large"),
        ("[字文]{0,98}字[字文]{98}好", "it would take too long"),
    ],
)
def test_pattern_without_bounded_time_is_refused(regex: str, told: str) -> None:
    with pytest.raises(Unsupported, match=f"^the pattern own: .*{told}"):
        Redactor((), patterns={"own": regex})


@pytest.mark.parametrize("name", ["", "Staff", "a b", "a" * 33])
def test_pattern_name_is_checked(name: str) -> None:
    with pytest.raises(Unsupported, match="a name has up to 32"):
        Redactor((), patterns={name: "a"})


def test_clearing_the_cache_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "EMP-1234 与 13812345678，Falcon；a@qq.com " * 5
    expected = Redactor(words=["Falcon"], patterns={"staff": r"EMP-\d{4}"}).redact(text)
    monkeypatch.setattr(automaton, "MOST_KNOWN", 7)
    assert Redactor(words=["Falcon"], patterns={"staff": r"EMP-\d{4}"}).redact(text) == expected
    assert expected.kinds == {"staff", "phone", "word", "email"}


def test_thousand_words_are_accepted() -> None:
    words = [f"{number:04}{'猎鹰' * 6}" for number in range(1_000)]
    assert Redactor((), words).redact(f"在{words[777]}。").text == "在[word]。"
    with pytest.raises(Unsupported, match="there are more than 1000 words"):
        Redactor((), [*words, "x"])


def test_catastrophic_pattern_is_fast_here() -> None:
    """Python's `re` needs more than 10^9 steps for this one."""
    assert Redactor((), patterns={"own": "(?:a|a|aa){1,40}b"}).redact("a" * 5_000).text == "a" * 5_000


PARTS = st.recursive(
    st.sampled_from(["a", "b", "[ab]", "[^a]", r"\d", ".", "1"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        st.tuples(inner, st.sampled_from(["?", "{1,2}", "{2}", "{0,3}"])).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
    ),
    max_leaves=6,
)


@given(PARTS.filter(lambda regex: re.compile(regex).fullmatch("") is None), st.text("ab1，", max_size=10))
def test_expression_matches_like_python(regex: str, text: str) -> None:
    """The longest match wins; Python's first match depends on its order of alternatives."""
    end, _ = Automaton([Pattern("own", regex)]).match(text, 0, final=True)
    ends = [n for n in range(1, len(text) + 1) if re.compile(regex).fullmatch(text, 0, n) and not amid(text, n)]
    assert end == max(ends, default=0)


def amid(text: str, end: int) -> bool:
    return re.match("[ab1]{2}", text[end - 1 :]) is not None
