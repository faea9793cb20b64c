"""Difficult content is exported so that readers find the same; `./dev readers` runs other programs."""

from __future__ import annotations

import json

import pytest
from markdown_it import MarkdownIt

from tests.imports.hard import Hard, formulas, pairs, same_texts, tables
from tests.imports.stores import Store


@pytest.fixture
def hard(store: Store) -> Hard:
    made = Hard()
    store.put(*made.stored)
    return made


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_has_no_formulas_with_any_separator(store: Store, hard: Hard, separator: str) -> None:
    rows = tables(store.give("csv").decode(), separator)
    assert formulas(rows) == []
    if separator == ",":
        assert same_texts([row[16] for row in rows[1:]], hard.texts)


def test_json_lines_survive_splits_at_any_line_end(store: Store, hard: Hard) -> None:
    for name in ("ndjson", "json", "openai"):
        text = store.give(name).decode()
        assert len(text.splitlines()) == text.count("\n")
    read = [json.loads(line) for line in store.give("ndjson").decode().splitlines()]
    assert [one["content"] for one in read if one["object"] == "message"] == hard.texts


def test_questions_are_paired_with_answers(store: Store, hard: Hard) -> None:
    assert pairs(store.give("openai").decode().splitlines()) == hard.pairs


def test_markdown_has_only_document_headings(store: Store, hard: Hard) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(store.give("md").decode())
    levels = [token.tag for token in tokens if token.type == "heading_open"]
    assert (levels.count("h1"), levels.count("h2")) == (len(hard.stored), hard.headings)


@pytest.mark.parametrize("name", ["json", "ndjson"])
def test_export_is_restored_unchanged(store: Store, other: Store, hard: Hard, name: str) -> None:
    file = store.give(name)
    report = other.take(file)
    assert (report.problem_count, report.messages) == (0, len(hard.texts))
    again = other.give(name)
    assert again[: again.rindex(b"\n", 0, -1)] == file[: file.rindex(b"\n", 0, -1)]
