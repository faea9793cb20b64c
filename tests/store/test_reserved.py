"""Every reserved word is quoted in every statement, for all databases.

`test_plans` looks at the statements as they are sent; this looks at what they are made of.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatkeep import store
from chatkeep.store.engine import Database
from chatkeep.store.sql import Sql
from tests.store.reserved import RESERVED, unquoted

pytestmark = pytest.mark.everywhere

STORE = Path(store.__file__).parent
SOURCES = sorted(path.relative_to(STORE) for path in STORE.rglob("*.py"))
GRAMMAR = re.compile(rf"\b({'|'.join(sorted(map(str.upper, RESERVED)))})\b|\b[A-Z_]+\(")
COLUMNS = re.compile(r"`?\w+`?(, `?\w+`?)+")
# Human-readable texts begin like a sentence, or with the name of a setting.
SENTENCE = re.compile(r"[A-Z][a-z]|[A-Z_]+: ")
STATEMENT = re.compile(r"\b(SELECT .* FROM|INSERT INTO|DELETE FROM|UPDATE \S+ SET)\b", re.DOTALL)


def pieces(source: Path) -> list[tuple[int, str]]:
    """Return the SQL texts of a module with their lines."""
    return [(line, text) for line, text in texts(parsed(STORE / source)) if is_sql(text)]


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def is_sql(text: str) -> bool:
    return bool(GRAMMAR.search(text) or COLUMNS.fullmatch(text)) and not SENTENCE.match(text)


def texts(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the texts of a module without docstrings."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            continue
        text = text_of(child)
        if text is None:
            yield from texts(child)
        else:
            yield child.lineno, text  # type: ignore[attr-defined] # it is an expression


def text_of(node: ast.AST) -> str | None:
    """Return the text of a string, with braces for f-string placeholders."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_statements_quote_reserved_words(source: Path) -> None:
    assert [(line, text, words) for line, text in pieces(source) if (words := unquoted(text))] == []


def test_statements_are_only_in_the_store() -> None:
    others = [path for path in STORE.parent.rglob("*.py") if STORE not in path.parents]
    assert [(path.name, text) for path in others for _, text in texts(parsed(path)) if STATEMENT.search(text)] == []
    assert any(STATEMENT.search(text) for source in SOURCES for _, text in pieces(source))


def test_statements_are_found() -> None:
    found = [text for source in SOURCES for _, text in pieces(source)]
    assert len(found) > 150
    assert any("FROM `usage`" in text for text in found)
    assert unquoted("SELECT `system`, key FROM (SELECT 1 AS manual) AS rows WHERE id = :of AND role = 'system'") == {
        "key", "manual", "role", "rows",
    }  # fmt: skip


@pytest.mark.parametrize("database_url", ["mysql"], indirect=True)
def test_reserved_words_are_up_to_date(database_url: str) -> None:
    database = Database(database_url)
    rows = database.read(lambda c: c.rows(Sql("SELECT word FROM information_schema.keywords WHERE reserved = 1")))
    assert {str(row[0]).lower() for row in rows} <= RESERVED
    database.close()
