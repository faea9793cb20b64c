"""What `./dev lint english` and `./dev lint sizes` find, and what they leave alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import english, sizes


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("Whoever asks first makes it.", ["Whoever"]),
        ("def test_nobody_comes_in() -> None:", ["nobody"]),
        ('"""Note who\n    has signed in."""', ["who has"]),
        ("# the name for\n# whom it speaks", ["for # whom"]),
        ("The table, of whose rows some are gone.", ["of whose"]),
        ("The client is told every wrong field.", ["is told"]),
        ("It lets callers in without a key.", ["lets callers in"]),
        ("This link leads nowhere.", ["leads nowhere"]),
        ("Return the key, if where there is one.", ["where there is"]),
        ("Return the key; None where it has ended.", ["None where"]),
        ("Who is reckoned with", ["reckoned"]),
        ("What falls short, and why", ["falls short"]),
        ("Return what is theirs.", ["what is theirs"]),
        ("Those of which the name is known", ["Those of which"]),
        ("Return it; an empty text where none is known.", ["where none"]),
        ("Replies are stored, too.", [", too"]),
        ("Replies are stored,\n# too.", [", # too"]),
    ],
)
def test_phrases_to_avoid_are_found(text: str, phrases: list[str]) -> None:
    assert [phrase for _, phrase, _ in english.findings(text)] == phrases


@pytest.mark.parametrize(
    "text",
    [
        "The body is too large.",
        "A caller who hashes a key",
        "Let users sign in on the page.",
        "It fails shortly after.",
        "The folder where the server starts.",
        "It is stored.",
        'run_as("nobody")',
        "User nobody\n",
        "Return None, wherever it was called.",
    ],
)
def test_plain_sentences_pass(text: str) -> None:
    assert list(english.findings(text)) == []


def test_the_line_of_a_phrase_is_that_of_its_first_word() -> None:
    assert [line for line, _, _ in english.findings("one\ntwo\nthere is nobody\nhere")] == [3]


def test_a_long_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "ROOT", tmp_path)
    for count in (sizes.MAX_LINES, sizes.MAX_LINES + 1):
        (tmp_path / f"{count}.js").write_text("\n" * count)
    assert list(sizes.long_files(sorted(tmp_path.iterdir()))) == ["401.js has 401 lines, at most 400 are allowed"]


def test_one_long_function_in_a_hundred_is_allowed(tmp_path: Path) -> None:
    short, long = "def short():\n    pass\n", "def long():\n" + "    pass\n" * sizes.MAX_FUNCTION
    file = tmp_path / "functions.py"
    file.write_text(short * 99 + long)
    assert list(sizes.long_functions([file])) == []
    file.write_text(short * 98 + long)
    (problem,) = sizes.long_functions([file])
    assert problem.startswith("1 of 99 functions have more than 30 lines: [(31, 'functions.py:197 long')]")


def test_a_package_with_many_entries_is_found(tmp_path: Path) -> None:
    for number in range(sizes.MAX_ENTRIES):
        (tmp_path / f"room{number}").mkdir()
    (tmp_path / "__pycache__").mkdir()
    assert list(sizes.entries(tmp_path)) == []
    (tmp_path / "one_more.py").touch()
    assert list(sizes.entries(tmp_path)) == [f"{tmp_path.name}/ has 23 entries, at most 22 are allowed"]
