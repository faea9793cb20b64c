"""A csv keeps any text, and has no formulas with any separator."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkeep.exports.formats.tables import cell
from tests.exports.test_formats import TEXT, a_conversation, a_message, cells, written

SIGNS = "=+-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u2212"
# Characters that programs drop, or may drop, before they parse a cell.
DROPPED = '\0\x01\x1f\x7f \x85\u00a0\u00ad\u200b\u2060\u2028\u3000\ufeff\uffff"'
TEXTS = ("title", "content", "reasoning", "model", "finish_reason", "error")
BLANK = re.compile(f"[{re.escape(DROPPED)}\t\r\n\x0b\x0c]*")


@given(TEXT, TEXT)
def test_csv_keeps_any_text_except_formula_quotes(content: str, title: str) -> None:
    (row,) = cells(written("csv", a_message(content), conversation=a_conversation(title=title)))
    assert without_quotes(row["content"]) == without_quotes(content)
    assert without_quotes(row["title"]) == without_quotes(title)


def without_quotes(text: str) -> str:
    return text.replace("'", "")


@given(st.sampled_from([*SIGNS, "\t", "\r", "\n"]), TEXT)
def test_csv_has_no_formulas(sign: str, rest: str) -> None:
    conversation = a_conversation(title=sign + rest)
    reply = a_message(sign + rest, sign + rest, "assistant", model=sign + rest, finish_reason=sign, error=sign)
    (row,) = cells(written("csv", reply, conversation=conversation))
    assert {name: row[name][:2] for name in TEXTS} == dict.fromkeys(TEXTS, f"'{sign}")


@given(st.text(DROPPED, max_size=3), st.sampled_from(SIGNS))
def test_csv_has_no_formulas_after_dropped_characters(dropped: str, sign: str) -> None:
    (row,) = cells(written("csv", a_message(f"{dropped}{sign}1+41")))
    assert row["content"].startswith("'")


FRAGMENTS = st.sampled_from([*SIGNS, *DROPPED, ";", "\t", "\n", "\r\n", ",", "'", "a", "你", "1+41", "sum(1)", "|x!A"])


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@given(texts=st.lists(st.lists(FRAGMENTS, max_size=8).map("".join), min_size=2, max_size=3))
def test_csv_has_no_formulas_with_any_separator(separator: str, texts: list[str]) -> None:
    """Also for programs that treat quotes literally."""
    text = written("csv", *map(a_message, texts), conversation=a_conversation(title=texts[0]))
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting)
        if separator == "," and quoting == csv.QUOTE_NONE:
            continue  # a program with commas also reads quotes
        found = [cell for row in rows for cell in row if begins_formula(cell)]
        assert found == []


def begins_formula(found: str) -> bool:
    rest = BLANK.sub("", found, count=1)
    return re.match(rf"[{re.escape(SIGNS.replace('-', '').replace('+', ''))}]|[-+]+[\w(.]", rest) is not None


WITHIN = {
    "Here they are\n=1+41\nthat was all": "Here they are\n'=1+41\nthat was all",
    "apples;=1+41;pears": "apples;'=1+41;pears",
    "a\t=1+41": "a\t'=1+41",
    "a\r=1+41": "a\r'=1+41",
    "a; \0=1+41": "a; \0'=1+41",
    'a;"=1+41"': 'a;"\'=1+41"',
    "a;-1+2": "a;'-1+2",
    "a;--1": "a;'--1",
    "a\n+cmd|' /C calc'!A0": "a\n'+cmd|' /C calc'!A0",
    "a\n- cmd|' /C calc'!A0": "a\n'- cmd|' /C calc'!A0",
    "a\n@SUM(1)": "a\n'@SUM(1)",
    "a;\uff1d1+41": "a;'\uff1d1+41",
    "Mind:\n- a list\n  - within\n+ more\n---\n-> on": "Mind:\n- a list\n  - within\n+ more\n---\n-> on",
    "a = b - c, =d": "a = b - c, =d",
    "1; 2": "1; 2",
}


@pytest.mark.parametrize(("text", "expected"), WITHIN.items())
def test_cells_of_other_separators_are_inert(text: str, expected: str) -> None:
    assert cell(text.encode()).decode() == '"' + expected.replace('"', '""') + '"'


@pytest.mark.parametrize("text", ["\n", ";x", "\t-", ";- a", " -", "\u200b\n", "-", "\0", "\n- f(", "\uff1b"])
def test_cell_is_rendered_in_linear_time(text: str) -> None:
    """For any repetition. Quadratic time would be minutes."""
    cell((text * 100_000).encode())
