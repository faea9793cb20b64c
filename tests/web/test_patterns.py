"""chatkeep's regular expressions take linear time for any text.

Some tests take over a second: each tries hundreds of texts.
"""

from __future__ import annotations

import re

import pytest

from tests.patterns import Found, in_javascript, in_python, is_linear

PYTHON = list(in_python())
JAVASCRIPT = list(in_javascript())
KNOWN = [found for found in PYTHON if isinstance(found, Found)]
# Patterns that are built at run time, and why they are linear.
BUILT = {
    "chatkeep.cli.owners: ACCOUNT": "the pattern of the schemas, imported lazily",
    "chatkeep.exports.formats.markup: quotes": "repeats one character",
    "chatkeep.exports.formats.markup: run": "repeats one character, with none of it around",
    "chatkeep.server.app: origin, re": "an escaped setting",
    "chatkeep.redaction: regex": "of the operator: matched by an automaton, compiled only to find errors",
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
def test_javascript_patterns_are_linear(found: Found) -> None:
    assert is_linear(found)


def test_patterns_built_at_run_time_are_listed() -> None:
    assert {place for place in PYTHON if isinstance(place, str)} == set(BUILT)


def test_patterns_are_found() -> None:
    assert len(KNOWN) > 50
    assert len(JAVASCRIPT) > 10


@pytest.mark.parametrize(("pattern", "method"), BAD)
def test_nonlinear_patterns_are_detected(pattern: str, method: str) -> None:
    """Takes seconds: the pattern must be slow to be detected."""
    assert not is_linear(Found("", re.compile(pattern, re.DOTALL), frozenset({method})))
