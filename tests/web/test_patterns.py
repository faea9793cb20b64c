"""No pattern of our own can be made to try for long, whatever text it is given.

Some take over a second: each gets hundreds of texts.
"""

from __future__ import annotations

import re

import pytest

from tests.patterns import Found, in_javascript, in_python, is_linear

PYTHON = list(in_python())
JAVASCRIPT = list(in_javascript())
KNOWN = [found for found in PYTHON if isinstance(found, Found)]
# What is made while the program runs, and why it is linear.
MADE = {
    "chatkeep.cli.owners: ACCOUNT": "that of the shapes, imported when it is needed",
    "chatkeep.exports.formats.markup: quotes": "a number of signs",
    "chatkeep.exports.formats.markup: run": "a number of signs, none beside them",
    "chatkeep.server.app: origin, re": "a setting, escaped",
    "chatkeep.redaction: regex": "an operator's, which an automaton reads; compiled to learn what is wrong with it",
    "chatkeep.redaction.automaton: regex": "one character",
    "chatkeep.redaction.automaton: tests": "one character",
    "chatkeep.redaction.spelling: ranges": "one character",
}
BAD = [
    (r"(a+)+$", "search"),
    (r"(?:a|a)*b", "fullmatch"),
    (r"(.+?)x(.+?)y", "fullmatch"),
    (r"\s+$", "search"),
    (r"`(.*)`$", "search"),
    (r"\s*(?:<s>)?(.*?)</d>", "match"),
]


@pytest.mark.parametrize("found", KNOWN, ids=[f"{at} {one.place}" for at, one in enumerate(KNOWN)])
def test_patterns_are_linear(found: Found) -> None:
    assert is_linear(found), (found.place, found.methods)


@pytest.mark.parametrize("found", JAVASCRIPT, ids=[f"{at} {one.place}" for at, one in enumerate(JAVASCRIPT)])
def test_patterns_of_the_page_are_linear(found: Found) -> None:
    assert is_linear(found)


def test_patterns_that_are_made_while_the_program_runs_are_known() -> None:
    assert {place for place in PYTHON if isinstance(place, str)} == set(MADE)


def test_patterns_are_found() -> None:
    assert len(KNOWN) > 50
    assert len(JAVASCRIPT) > 10


@pytest.mark.parametrize(("pattern", "method"), BAD)
def test_what_is_not_linear_is_noticed(pattern: str, method: str) -> None:
    """Takes a second or two: it must be slow to be noticed."""
    assert not is_linear(Found("", re.compile(pattern, re.DOTALL), frozenset({method})))
