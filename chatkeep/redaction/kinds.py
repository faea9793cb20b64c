"""The built-in kinds of sensitive text: their patterns, and the checks that avoid false positives. Pure."""

from __future__ import annotations

import ipaddress
import re
from datetime import date

from chatkeep.redaction.automaton import Pattern
from chatkeep.redaction.spelling import INVISIBLE

_GAP = r"[-. ]{0,3}"
_BETWEEN = "[-. /_()]"
_WIDE_GAP = rf"{_BETWEEN}{{0,3}}"
"""Between the digits of numbers that have checks beyond their length."""
_APART = " {0,2}"
_AMOUNT_BEFORE = frozenset("$¥€£")
_AMOUNT_AFTER = frozenset("元万亿")
_LISTED = re.compile(r"(?:\A|\n)[1-9]\d?\.\Z")
_VERSION = re.compile(
    r"(?:(?<![A-Za-z])(?:v|ver|version|release|build|section|chapter)|版本号?|[§第])\.?[ :=]{0,2}\Z|[A-Za-z]/\Z",
    re.IGNORECASE,
)
_IN_NAME = re.compile(r"[A-Za-z0-9_:]\Z")
_IN_FINGERPRINT = re.compile(r"(?:(?<![A-Za-z0-9])[0-9A-Fa-f]{1,4}|:):\Z")
_GROUP = re.compile(r"\d+")
_GAPS = re.compile(rf"{_BETWEEN}+")

# Usual groups of digits. With spaces between them, other groups are more likely several numbers.
_PHONE_GROUPS = {(11,), (3, 4, 4), (3, 8), (1,) * 11}
_PHONE_GROUPS_JOINED = _PHONE_GROUPS | {(7, 4), (4, 4, 3), (3, 3, 5), (5, 6), (4, 7), (3, 5, 3), (3, 2, 2, 2, 2)}
_ID_GROUPS = 6  # the most
_PROVINCE = re.compile("1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3]|91")
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECKS = "10X98765432"
_ISSUERS = (
    (re.compile(r"62|35[2-8]|6011|64[4-9]|65"), range(16, 20)),
    (re.compile(r"4|9558"), (16, 19)),
    (re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,)),
)
_NINE = 9
_FULL_IPV6 = 7  # colons
_KEY_CAPITALS = 4


def _groups(text: str, begin: int, end: int) -> list[str]:
    return _GROUP.findall(text[begin:end].replace(INVISIBLE, ""))


def _begins_number(before: str) -> bool:
    """Return whether a number after this text is neither a fraction nor an amount of money."""
    return before[-1:] not in _AMOUNT_BEFORE and not _is_fraction(before)


def _is_fraction(before: str) -> bool:
    """Return whether digits after this text belong to a number: "0." or "1.2.", but not the "1." of a list."""
    return before[-1:] == "." and before[-2:-1].isdigit() and not _LISTED.search(before)


def _is_amount(text: str, end: int) -> bool:
    return text[end : end + 1] in _AMOUNT_AFTER


def _is_phone(text: str, begin: int, end: int) -> bool:
    groups = _groups(text, begin, end)
    sizes = [len(group) for group in groups]
    country = sum(sizes) - 11
    while country > 0:
        taken = min(country, sizes[0])
        country -= taken
        sizes[0] -= taken
        if not sizes[0]:
            del sizes[0]
    written = text[begin:end]
    if written[0] == "(" and written.count("(") != written.count(")"):
        return False  # the bracket belongs to the text around the number
    usual = _PHONE_GROUPS if " " in written else _PHONE_GROUPS_JOINED
    return tuple(sizes) in usual and _is_even(text, begin, end) and not _is_amount(text, end)


def _is_even(text: str, begin: int, end: int) -> bool:
    """Return whether single digits have equal gaps. In "1. 6 2 2" the first is a list's."""
    alone = all(len(group) == 1 for group in _groups(text, begin, end))
    return not alone or len(set(_GAPS.findall(text[begin:end].replace(INVISIBLE, "")))) == 1


def _is_id_card(text: str, begin: int, end: int) -> bool:
    groups = _groups(text, begin, end)
    number = "".join(groups)[:17]
    if len(groups) > _ID_GROUPS and max(map(len, groups)) > 1:
        return False
    check = _ID_CHECKS[sum(int(digit) * weight for digit, weight in zip(number, _ID_WEIGHTS, strict=True)) % 11]
    return (
        _PROVINCE.match(number) is not None
        and text[end - 1].upper() == check
        and _is_day(number[6:14])
        and _is_even(text, begin, end)
    )


def _is_day(digits: str) -> bool:
    try:
        day = date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return False
    return date(1900, 1, 1) <= day <= date(2099, 12, 31)


def _is_bank_card(text: str, begin: int, end: int) -> bool:
    groups = _groups(text, begin, end)
    number = "".join(groups)
    issued = any(issuer.match(number) and len(number) in lengths for issuer, lengths in _ISSUERS)
    if not issued or not _is_card_grouped(groups) or not _luhn(number):
        return False
    return _is_even(text, begin, end) and not _is_amount(text, end)


def _is_card_grouped(groups: list[str]) -> bool:
    sizes = [len(group) for group in groups]
    fours = set(sizes[:-1]) == {4} and sizes[-1] <= 4  # noqa: PLR2004 - four digits, as on the card
    return len(sizes) == 1 or set(sizes) == {1} or fours or (len(sizes) == 2 and sizes[0] == 6)  # noqa: PLR2004


def _luhn(number: str) -> bool:
    doubled = [2 * int(digit) for digit in number[-2::-2]]
    return (sum(map(int, number[-1::-2])) + sum(two - _NINE if two > _NINE else two for two in doubled)) % 10 == 0


def _is_passport(text: str, begin: int, end: int) -> bool:
    """Return whether this is not an exponent among other numbers: "e-4 0.000 000"."""
    groups = _groups(text, begin, end)
    if text[begin].islower() and (len(groups) > 1 or not text[begin + 1].isalnum()):
        return False
    return len(groups) <= 4 or max(map(len, groups)) == 1  # noqa: PLR2004 - more are several numbers


def _is_ipv4(text: str, begin: int, end: int) -> bool:
    """Return whether four numbers are an identifying address, not a version."""
    parts = text[begin:end].replace(INVISIBLE, "").replace(" ", "").split(".")
    numbers = [int(part) for part in parts]
    gaps = set(re.findall(r"[ .]+", text[begin:end].replace(INVISIBLE, "")))
    if len(parts) != 4 or len(gaps) != 1 or max(numbers) > 255:  # noqa: PLR2004 - four bytes
        return False
    return not (numbers[0] in {0, 127} or numbers[:2] == [255, 255] or max(numbers) <= _NINE)


def _begins_ipv4(before: str) -> bool:
    return not _is_fraction(before) and not _VERSION.search(before)


def _is_ipv6(text: str, begin: int, end: int) -> bool:
    written = text[begin:end].replace(INVISIBLE, "")
    colons = written.count(":")
    if colons == _FULL_IPV6 and text[end : end + 1] == ":":
        return False
    telling = re.search(r"[0-9A-Fa-f]{3}", written) or colons == _FULL_IPV6
    try:
        return bool(telling and re.search(r"\d", written) and not ipaddress.IPv6Address(written).is_loopback)
    except ValueError:
        return False


def _begins_ipv6(before: str) -> bool:
    """Return whether the text before is neither a fingerprint (AB:12:…) nor a name (std::…)."""
    return before[-1:] != ":" or not _IN_FINGERPRINT.search(before)


def _begins_short_ipv6(before: str) -> bool:
    return not _IN_NAME.search(before[-1:])


def _is_email(text: str, begin: int, end: int) -> bool:
    """Return whether this is neither a repository's address (git@…) nor a package's version (name@1.2.rc1)."""
    local, _, domain = text[begin:end].replace(INVISIBLE, "").partition("@")
    name = domain.replace(" ", "").split(".")[-2]
    return local.strip() != "git" and (not name.isdigit() or len(name) > 2)  # noqa: PLR2004 - 163.com, 1.0.rc1


def _is_random(text: str, begin: int, end: int) -> bool:
    """Return whether this is a key, not a long name of words: sk-loading-spinner-container."""
    rest = text[begin + 3 : end]
    return any(c.isdigit() for c in rest) or sum(c.isupper() for c in rest) >= _KEY_CAPITALS


_LOCAL = r"[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}"
_LABEL = r"[A-Za-z0-9][A-Za-z0-9-]{0,62}"
_SHORT_LABEL = r"[A-Za-z0-9][A-Za-z0-9-]{0,29}"
_TLD = "(?:com|cn|net|org|edu|gov|COM|CN|NET|ORG|EDU|GOV)"
_TLDS = rf"{_TLD}(?: ?\. ?(?:cn|hk|tw|uk))?"
_HEX = "[0-9A-Fa-f]{1,4}"
_HEX_OR_NOT = "[0-9A-Fa-f]{0,4}"
_TAIL = r"(?:\.\d{1,3}){0,3}"
_PASSPORTS = (
    rf"[EeGg]{_GAP}\d(?:{_GAP}\d){{7}}",
    rf"(?:[Ee][A-HJ-NP-Za-hj-np-z]|DE|SE|PE){_GAP}\d(?:{_GAP}\d){{6}}",
)
_RANDOM_KEYS = (
    "sk-[A-Za-z0-9_-]{20}",
    "ck_[A-Za-z0-9_-]{20}",
    "glpat-[A-Za-z0-9_-]{20}",
    "(?:hf|npm)_[A-Za-z0-9]{20}",
)
_KEYS = (
    "sk-(?:proj|ant|svcacct|admin)-[A-Za-z0-9_-]{16}",
    "A[KS]IA[A-Z0-9]{16}",
    "(?:LTAI|AKID)[A-Za-z0-9]{12}",
    "AIza[A-Za-z0-9_-]{35}",
    "gh[pousr]_[A-Za-z0-9]{20}",
    "github_pat_[A-Za-z0-9_]{20}",
    "xox[abeprs]-[A-Za-z0-9-]{20}",
    "eyJ[A-Za-z0-9_-]{17}",
    "[sr]k_(?:live|test)_[A-Za-z0-9]{16}",
)
PATTERNS = (
    Pattern(
        "phone",
        rf"\(?(?:(?:\+|00)?86{_WIDE_GAP})?1{_WIDE_GAP}[3-9](?:{_WIDE_GAP}\d){{9}}",
        _is_phone,
        _begins_number,
    ),
    Pattern("id-card", rf"[1-9](?:{_WIDE_GAP}\d){{16}}{_WIDE_GAP}[\dXx]", _is_id_card, _begins_number),
    Pattern("bank-card", rf"[2-69](?:{_WIDE_GAP}\d){{15,18}}", _is_bank_card, _begins_number),
    *(Pattern("passport", regex, _is_passport) for regex in _PASSPORTS),
    Pattern("email", rf"{_LOCAL}@{_LABEL}\.(?:{_LABEL}\.)?[A-Za-z]{{2}}", _is_email, goes_on=True),
    Pattern(
        "email",
        rf"{_LOCAL}{_APART}@{_APART}{_SHORT_LABEL} ?\. ?(?:{_SHORT_LABEL} ?\. ?)?{_TLDS}",
        _is_email,
    ),
    Pattern("ip", r"\d{1,3}(?: ?\. ?\d{1,3}){3,4}", _is_ipv4, _begins_ipv4),
    Pattern("ip", rf"{_HEX}(?::{_HEX_OR_NOT}){{2,7}}{_TAIL}", _is_ipv6, _begins_ipv6),
    Pattern("ip", rf":(?::{_HEX}){{1,7}}{_TAIL}", _is_ipv6, _begins_short_ipv6),
    *(Pattern("api-key", regex, _is_random, goes_on=True) for regex in _RANDOM_KEYS),
    *(Pattern("api-key", regex, goes_on=True) for regex in _KEYS),
)
KINDS = tuple(dict.fromkeys(pattern.kind for pattern in PATTERNS))
