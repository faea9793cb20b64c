"""Everything that can reach people is there in both languages."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatkeep import errors
from chatkeep.errors import Problem
from chatkeep.runtime.chinese import TEXTS
from chatkeep.runtime.i18n import language_of, translated
from chatkeep.turns.live import StopReason
from tests.servers import ROOT

IDEOGRAPH = re.compile("[\u4e00-\u9fff]")
PACKAGE = ROOT / "chatkeep"
PROBLEMS = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Problem)}
# Whose words are shown: problems, what is wrong with fields, and what the command line says.
SPEAKERS = PROBLEMS | {
    "FieldError", "wrong", "failure", "say", "word", "option", "BadRecord", "Refused", "UnknownFile", "SettingsError",
    "OpenToAll", "TransferError", "Unsupported", "fine", "doubtful", "broken", "require_consent",
}  # fmt: skip
# What is wrong with settings is said in one module and collected in another.
COLLECTORS = {"notation.py": {"ValueError"}, "database_url.py": {"ValueError"}, "settings.py": {"append"}}
# What is wrong with a database begins so, wherever it is said.
SENTENCE = "DATABASE_URL: "
# Names that hold what a finding will say.
SAYINGS = {"told", "advice"}
# What is nothing but another text.
SILENT = {
    "Redis",
    "--ttl: {}",
    "DATABASE_PASSWORD: {}",
    "{}",
    ", ",
    "cursor: {}.",
    "{}.",
    "{}: {}",
    "{}: {}.",
    "metadata: {}.",
    "cursor: {}  {}",
    "{}: conversations: {}; messages: {} added",
}


def spoken(path: Path) -> Iterator[str]:
    """Yield the texts that a module may show, with {} for what varies."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    pieces = {piece for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for piece in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.expr) and node not in pieces and text_of(node).startswith(SENTENCE):
            yield re.sub(r"{\w+}", "{}", text_of(node))
        if isinstance(node, ast.Assign) and SAYINGS.intersection(map(name_of, node.targets)):
            yield from texts_of(node.value)
        if isinstance(node, ast.Call) and name_of(node.func) in SPEAKERS | COLLECTORS.get(path.name, set()):
            arguments = {
                "FieldError": node.args[-1:],
                "wrong": node.args[-1:],
                "BadRecord": node.args[-1:],
                "option": [],
                **dict.fromkeys(("fine", "doubtful", "broken"), node.args),
            }.get(name_of(node.func), node.args[:1])
            arguments += [keyword.value for keyword in node.keywords if keyword.arg == "help"]
            for argument in arguments:
                yield from texts_of(argument)
        if isinstance(node, ast.FunctionDef) and any(map(is_command, node.decorator_list)):
            yield from (" ".join(part.split()) for part in (ast.get_docstring(node) or "").split("\n\n"))


def is_command(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and name_of(decorator.func) in {"command", "group"}


def name_of(function: ast.expr) -> str:
    return getattr(function, "id", getattr(function, "attr", ""))


def texts_of(node: ast.expr) -> Iterator[str]:
    """Yield the texts that an expression may be: one of two, or a list."""
    if isinstance(node, ast.IfExp):
        yield from (*texts_of(node.body), *texts_of(node.orelse))
    elif isinstance(node, ast.List):
        for item in node.elts:
            yield from texts_of(item)
    elif text := text_of(node):
        yield text


def text_of(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return ""


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_every_text_has_a_translation(path: Path) -> None:
    texts = {text.replace("{}", "17") for text in spoken(path) if text not in SILENT}
    assert sorted(text for text in texts if not IDEOGRAPH.search(translated(text, "zh"))) == []


def test_there_are_texts_to_translate() -> None:
    assert len({text for path in PACKAGE.rglob("*.py") for text in spoken(path)}) > 50


@pytest.mark.parametrize("kind", [getattr(errors, name) for name in sorted(PROBLEMS)])
def test_every_title_has_a_translation(kind: type[Problem]) -> None:
    assert kind.title in TEXTS


@pytest.mark.parametrize("ending", [StopReason.SLOW_START, StopReason.GAP, StopReason.TOTAL])
def test_what_fills_a_gap_is_translated_too(ending: StopReason) -> None:
    found = translated(f"The provider was given up: {ending.value}.", "zh")
    assert found == TEXTS["The provider was given up: {}."].format(TEXTS[ending.value])


@pytest.mark.parametrize(("english", "chinese"), TEXTS.items(), ids=range(len(TEXTS)))
def test_a_translation_has_the_gaps_of_its_text(english: str, chinese: str) -> None:
    gaps = english.count("{}")
    assert chinese.format(*["x"] * gaps).count("x") >= gaps
    assert translated(english.replace("{}", "17"), "zh") != english.replace("{}", "17")


@pytest.mark.parametrize("template", [text for text in TEXTS if text.count("{}") > 1])
def test_texts_are_translated_in_linear_time(template: str) -> None:
    """The worst text for a template repeats what stands in its gaps, and does not end as it does."""
    first, *others = template.split("{}")
    worst = f"{first}x" + "x".join(others) * (100_000 // len(template))
    begun = time.process_time()
    translated(worst, "zh")
    assert time.process_time() - begun < 0.5  # it is about a millisecond; quadratic time is minutes


def test_a_text_of_texts_does_not_lead_too_deep() -> None:
    assert translated("a: " * 10_000 + "is blank.", "zh").startswith("a\uff1a")


def test_what_is_unknown_stays_as_it_is() -> None:
    assert translated("Something new", "zh") == "Something new"
    assert translated("The body is too large", "en") == "The body is too large"


@pytest.mark.parametrize(
    ("locale", "language"), [("zh_CN.UTF-8", "zh"), ("zh", "zh"), ("en_GB", "en"), ("C", "en"), ("", "en")]
)
def test_a_locale_names_a_language(locale: str, language: str) -> None:
    assert language_of(locale) == language
