"""The built-in kinds of sensitive text, and their lookalikes."""

from __future__ import annotations

import os
import sys
import time
import unicodedata
from collections.abc import Iterator

import pytest

from chatkeep.redaction import KINDS, Redactor, Unsupported
from chatkeep.redaction.spelling import normalise
from tests.redaction.cases import cases
from tests.redaction.measured import measured

LONG = os.environ.get("CHATKEEP_REDACTION_CASES") == "long"
REDACTOR = Redactor()


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("手机号13812345678，", "手机号[phone]，"),
        ("电话：１３８ １２３４ ５６７８。", "电话：[phone]。"),
        ("+86 138-1234-5678", "[phone]"),
        ("1 3 8 1 2 3 4 5 6 7 8", "[phone]"),
        ("138\u200b1234\u200b5678", "[phone]"),
        ("\ufe0f\u20e3".join("13812345678"), "[phone]"),
        ("\U000e0001\ufe0f\u20e3".join("11010519491231002X"), "[id-card]"),
        ("①13812345678②13912345678", "①[phone]②[phone]"),
        ("电话(138)1234-5678", "电话[phone]"),
        ("（138）1234－5678，(+86)138 1234 5678", "[phone]，[phone]"),
        ("(13812345678) f(13812345678, 2)", "([phone]) f([phone], 2)"),
        ("138/1234/5678 138／1234⁄5678 138_1234_5678", "[phone] [phone] [phone]"),
        ("110105/19491231/002X 4111/1111/1111/1111", "[id-card] [bank-card]"),
        ("138ー1234➖5678 138⸱1234·5678", "[phone] [phone]"),
        ("1.13812345678\n2.13912345678", "1.[phone]\n2.[phone]"),
        ("身份证11010519491231002X好", "身份证[id-card]好"),
        ("110105 19491231 002x", "[id-card]"),
        ("卡号4111-1111-1111-1111", "卡号[bank-card]"),
        ("4111111111111111", "[bank-card]"),
        ("护照E12345678、EA1234567", "护照[passport]、[passport]"),
        ("给zhang.san@example.com.cn发邮件", "给[email]发邮件"),
        ("ｚｈａｎｇ＠ｑｑ．ｃｏｍ", "[email]"),
        ("zhang @ example . com", "[email]"),
        ("13812345678@163.com", "[email]"),
        ("http://192.168.1.20:5010/", "http://[ip]:5010/"),
        ("2001:db8::1 和 fe80::1", "[ip] 和 [ip]"),
        ("OPENAI_API_KEY=sk-proj-abcdefghijklm1nopqrstuvwxyz", "OPENAI_API_KEY=[api-key]"),
        ("sk-proj-CmIzgfyKvzhrzcrgbuvqtGprsetwx, no digit for long", "[api-key], no digit for long"),
        ("AKIAIOSFODNN7EXAMPLE.", "[api-key]."),
    ],
)
def test_sensitive_text_is_labelled_by_kind(text: str, redacted: str) -> None:
    assert REDACTOR.redact(text).text == redacted


@pytest.mark.parametrize(
    "text",
    [
        "12812345678 138123456789 1381234567",  # no mobile number begins so, or is so long
        "110105194912310021 11010519491331002X",  # a wrong check digit, a thirteenth month
        "4111111111111112 1234567812345670",  # a wrong check digit, no issuer
        "v1.20.30.40, 版本10.2.30.4, Chrome/120.0.0.0, § 1.2.3.4, §4.14.3.1, section 4.14.3.1, 第4.14.3.1节",
        "127.0.0.1 0.0.0.0 255.255.255.0 ::1 256.1.1.1 1.2.3.4.5",
        "12:30:45 std::vector a::b 00:1b:44:11:3a:b7",
        "lodash@4.17.21 git@github.com:team/project.git y = x @ w.data @app.route",
        "2026/11/30 138/12 1/3/8 (138) 1234 (1)(3)(8) 150(1234)",
        "0.13812345678 3.14159265358 $15000000000 15000000000元",
        "SN13812345678 13812345678abc",
        "sk-loading-spinner-container-inner",
        "1.370 933 555 70 e-4  0.000 000 000 58 e-4",
        "2024-01-15 13:45:22 1700000000 1700000000000 20240115123456789012",
        "{}[] () \x00 \ud800 👩\u200d👩\u200d👧",
    ],
)
def test_lookalikes_are_unchanged(text: str) -> None:
    assert REDACTOR.redact(text).text == text


def invisible() -> Iterator[str]:
    """Yield every invisible or overlaid character by Unicode's properties."""
    for character in map(chr, range(sys.maxunicode + 1)):
        category, name = unicodedata.category(character), unicodedata.name(character, "")
        on_another = category == "Mn" and (unicodedata.combining(character) >= 200 or "OVERLAY" in name)
        ignored = "VARIATION SELECTOR" in name or ("HANGUL" in name and "FILLER" in name)
        control = category == "Cc" and not character.isspace()
        if category in {"Cf", "Me"} or on_another or ignored or control:
            yield character
    # Default_Ignorable_Code_Point, not covered by these properties.
    yield from "\u034f\u17b4\u17b5\u2065\ufff0\ufff8\U000e0000\U000e0080\U000e00ff\U000e01f0\U000e0fff"


def test_invisible_characters_do_not_hide_numbers() -> None:
    found = [c for c in invisible() if REDACTOR.redact(f"手机1{c}3{c}8{c}{c}12345678。").text != "手机[phone]。"]
    assert list(map(hex, map(ord, found))) == []


def test_all_decimal_digits_are_recognised() -> None:
    """The digits in this Python's Unicode version, and ten sets that may be newer."""
    zeros = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.decimal(chr(code), None) == 0]
    for zero in [*zeros, "\U0001ccf0", "\U00010d40", "\U00011f50"]:
        number = "".join(chr(ord(zero) + int(digit)) for digit in "13812345678")
        assert REDACTOR.redact(f"手机{number}。").text == "手机[phone]。", hex(ord(zero))


def test_normalising_keeps_the_length() -> None:
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    assert len(normalise(every)) == len(every)


@pytest.mark.parametrize("word", ["می\u200cخواهم", "ne\u0301e", "กิน"])
def test_word_with_marks_or_joiners_is_found(word: str) -> None:
    redactor = Redactor(words=[word], patterns={"own": f"<{word}>"})
    assert redactor.redact(f"a {word} b <{word}>").text == "a [word] b [own]"
    assert redactor.redact("a กน b").text == "a กน b"


def test_only_chosen_kinds_are_searched() -> None:
    assert Redactor(["email"]).redact("13812345678 a@qq.com").text == "13812345678 [email]"
    with pytest.raises(Unsupported, match="there is no kind mail; there are phone, id-card"):
        Redactor(["mail"])


@pytest.mark.timeout(600)
def test_generated_cases_are_classified() -> None:
    """Takes seconds, because such small rates need thousands of cases. `./dev redaction` runs 100,000."""
    found = measured(REDACTOR, cases(seed=7, count=100_000 if LONG else 4_000))
    ordinary = found.pop("ordinary")
    assert set(found) == {*KINDS}
    assert min(seen.right / seen.cases for seen in found.values()) >= 0.999
    assert ordinary.right / ordinary.cases >= 0.999
    assert [kind for kind, seen in found.items() if seen.differing] == []
    assert max(max(seen.held) for seen in (ordinary, *found.values())) <= REDACTOR.hold_back


@pytest.mark.parametrize(
    "unit",
    [
        "a.",
        "1 ",
        "1-",
        "13",
        "a@",
        "::",
        "f:",
        "sk-",
        "eyJ",
        "a@b.",
        "1.1.",
        "\u200b",
        "86 1",
        "x" * 64 + "@",
        "+86-1",
        "(",
        "1(",
        "1/",
        "\x00",
        "1\u034f",
        "\u3164",
    ],
)
def test_hostile_text_takes_linear_time(unit: str) -> None:
    """A hostile text of 16 times the length takes 16 times as long, not 256 times."""
    few, many = (spent(unit * count) for count in (200, 3_200))
    assert many < 16 * 8 * few


def spent(text: str) -> float:
    def once() -> float:
        begun = time.process_time_ns()
        REDACTOR.redact(text)
        return time.process_time_ns() - begun

    return min(once() for _ in range(3))
