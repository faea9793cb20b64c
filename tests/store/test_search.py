"""Search on SQLite equals Python's case-insensitive containment; servers know fewer cases."""

from __future__ import annotations

import random
import sys
from typing import Any

import apsw
import pytest

from chatkeep.store import search
from chatkeep.store.engine import Database
from chatkeep.store.sql import Connection, Sql
from tests.conftest import DATABASES

ALPHABET = 'aAbBkK*?[]!%_^-\\"u0\0\n\uffff中文éÉßẞ🐸'

# Latin, Greek and Cyrillic letters of most keyboards.
SPANS = (range(0x20, 0x100), range(0x391, 0x3CA), range(0x410, 0x450))
COMMON = {chr(number) for span in SPANS for number in span}


@pytest.fixture(scope="module")
def sqlite() -> apsw.Connection:
    return apsw.Connection(":memory:")


def holds(sqlite: apsw.Connection, text: str, part: str) -> bool:
    condition, _ = search.conditions("x")
    found = sqlite.execute(f"SELECT {condition} FROM (SELECT :x AS x)", {"x": text} | search.patterns(part))  # noqa: S608 - the test's own
    return bool(found.fetchall()[0][0])


def test_every_letter_is_found_in_each_case(sqlite: apsw.Connection) -> None:
    """Searches for all letters with cases: a second."""
    letters = [letter for letter in map(chr, range(sys.maxunicode + 1)) if letter.lower() != letter.upper()]
    assert len(letters) > 2_000
    missed = [
        (letter, part)
        for letter in letters
        for part in {letter, letter.lower(), *([letter.title()] if letter.title().lower() == letter.lower() else [])}
        if len(part) == 1 and not holds(sqlite, f"a{letter}b", f"A{part}B")
    ]
    assert not missed


def test_search_equals_python(sqlite: apsw.Connection) -> None:
    chance = random.Random(15)  # noqa: S311 - texts, not secrets
    for _ in range(20_000):
        text = "".join(chance.choices(ALPHABET, k=chance.randint(0, 8)))
        part = "".join(chance.choices(ALPHABET, k=chance.randint(1, 3)))
        expected = part.lower().replace("\0", "\uffff") in text.lower().replace("\0", "\uffff")
        assert holds(sqlite, text, part) == expected, (text, part)


def test_slow_operator_runs_only_on_fast_matches() -> None:
    asked: list[Any] = []

    def glob(*pattern_and_text: Any) -> bool:
        asked.append(pattern_and_text[1])
        return True

    sqlite = apsw.Connection(":memory:")
    sqlite.create_scalar_function("glob", glob, 2)
    assert not holds(sqlite, "nothing of it", "word")
    assert holds(sqlite, "a Word", "word")
    assert asked == ["a Word"]


def test_no_character_is_a_wildcard(sqlite: apsw.Connection) -> None:
    for letter in map(chr, range(256)):
        other = "x" if letter.lower() != "x" else "y"
        assert holds(sqlite, f"({letter})", f"({letter})"), repr(letter)
        assert not holds(sqlite, f"({other})", f"({letter})"), repr(letter)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("redis 超时", ["redis", "超时"]),
        (" a  bcd\tbc\u3000a ", ["bcd", "bc", "a"]),
        ("a b c d e f g h i j", ["h i j", "a", "b", "c", "d", "e", "f", "g"]),
        ("a b c d e f g h ", list("abcdefgh")),
        ("a b c d e f g h i\n", ["h i", "a", "b", "c", "d", "e", "f", "g"]),
        ("  ", ["  "]),
        ("", [""]),
    ],
)
def test_query_words_are_sorted_by_length(query: str, words: list[str]) -> None:
    assert search.words(query) == words


@pytest.mark.parametrize("part", ["ISTANBUL", "istanbul", "İSTANBUL"])
@pytest.mark.parametrize("text", ["Istanbul", "istanbul", "İstanbul"])
def test_dotted_and_dotless_i_are_found(sqlite: apsw.Connection, text: str, part: str) -> None:
    assert holds(sqlite, text, part)


@pytest.mark.parametrize("database_url", DATABASES[1:], indirect=True)
def test_server_finds_exact_letters_and_common_cases(database: Database) -> None:
    cased = [letter for letter in map(chr, range(sys.maxunicode + 1)) if letter.lower() != letter.upper()]
    exact = [(letter, letter) for letter in [*map(chr, range(256)), *cased]]
    capitals = [letter for letter in cased if letter in COMMON and letter.isupper()]
    both = [pair for letter in capitals for pair in ((letter, letter.lower()), (letter.lower(), letter))]
    assert database.read(lambda connection: not_found(connection, [*exact, *both])) == []
    others = [(chr(ord(letter) + 1), letter) for letter in map(chr, range(0, 128, 2))]
    assert database.read(lambda connection: not_found(connection, others)) == others


def not_found(connection: Connection, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the texts in which a server does not find the search text."""
    condition = search.conditions("x")[1]
    sql = Sql(f"SELECT {condition} FROM (SELECT CONVERT(:x USING utf8mb4) COLLATE utf8mb4_bin AS x) AS given")  # noqa: S608 - the test's own
    found = [connection.rows(sql, x=f"({text})", **search.patterns(f"({part})"))[0][0] for text, part in pairs]
    return [pair for pair, is_in in zip(pairs, found, strict=True) if not is_in]
