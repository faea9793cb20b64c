"""The catalogue has every message of the code, with its Chinese."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog

from docs import catalogue
from tests.servers import ROOT

PACKAGE = ROOT / "chatkeep"
MODULES = sorted(PACKAGE.rglob("*.py"))
# Exceptions whose argument is shown. Types check all other texts: whatever shows one requires a `Text`.
SHOWN = {"Refused", "Unread", "Unknown", "UnknownFile", "Unsupported", "TransferError"}
SHOWN_BY_FOLDER = {"config": {"ValueError"}, "imports": {"ValueError"}, "cli": {"ValueError"}}


def test_catalogue_is_fresh_and_complete() -> None:
    assert catalogue.stale() == []
    assert catalogue.faults(catalogue.current()) == []


def test_messages_come_from_python_and_from_docstrings_of_commands() -> None:
    found = {message for _path, message in catalogue.messages()}
    assert {"Not found", "Print JSON.", "Clear the answer cache of every process."} <= found


def test_message_that_is_not_a_literal_is_rejected(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('raise NotFound(_(f"There is no {thing}"))\n')
    with pytest.raises(catalogue.NotLiteral, match=r"module\.py:1: "):
        list(catalogue.of_python(module))


@pytest.mark.parametrize(
    ("chinese", "flags", "fault"),
    [("", (), "untranslated"), ("没有", (), "placeholders differ"), ("没有 {path}", ("fuzzy",), "fuzzy")],
)
def test_wrong_translations_are_listed(chinese: str, flags: tuple[str, ...], fault: str) -> None:
    given = Catalog("zh")
    given.add("There is no {path}", chinese, flags=flags)
    merged = catalogue.merged([catalogue.Found("a.py", "There is no {path}")], given)
    assert catalogue.faults(merged) == [f"{fault}: There is no {{path}}"]


def test_unused_messages_leave_the_catalogue() -> None:
    given = Catalog("zh")
    given.add("Gone", "没有了")
    assert [entry.id for entry in catalogue.merged([], given) if entry.id] == []


def unmarked(path: Path) -> Iterator[int]:
    """Yield the lines where a shown text is not marked, or where `_` is another variable."""
    folder = path.relative_to(PACKAGE).parts[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            shown = node.args[:1] if name_of(node.func) in SHOWN | SHOWN_BY_FOLDER.get(folder, set()) else []
            shown += [keyword.value for keyword in node.keywords if keyword.arg == "help"]
            yield from (argument.lineno for argument in shown if isinstance(argument, ast.Constant | ast.JoinedStr))
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            inner = list(ast.walk(node))
            binds = any(isinstance(one, ast.arg) and one.arg == "_" for one in inner)
            binds |= any(
                isinstance(one, ast.Name) and one.id == "_" and isinstance(one.ctx, ast.Store) for one in inner
            )
            if binds and any(isinstance(one, ast.Call) and name_of(one.func) == "_" for one in inner):
                yield node.lineno


def name_of(function: ast.expr) -> str:
    return getattr(function, "id", getattr(function, "attr", ""))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_every_shown_text_is_marked(path: Path) -> None:
    assert list(unmarked(path)) == []
