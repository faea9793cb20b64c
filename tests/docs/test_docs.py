"""Hand-written pages are correct: links, file names, settings, tasks and banned names."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from chatkeep.config.settings import described, variables
from tests.servers import ROOT

PACKAGE = ROOT / "chatkeep"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
DEFAULTS = {item.metadata["env"]: item.metadata["text"] or "" for item in described()}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_resolves(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not resolves(page, link)] == []


def resolves(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    return target.exists() and (not anchor or anchor in anchors(target))


def anchors(page: Path) -> list[str]:
    """Return the anchors that GitHub makes from a page's headings."""
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text(encoding="utf-8"))
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_reference_headings_have_unique_anchors() -> None:
    found = anchors(ROOT / "docs" / "api.md")
    assert sorted(found) == sorted(set(found))


@pytest.mark.parametrize("page", ["SECURITY.md", "SECURITY.zh-CN.md"])
def test_each_defence_names_tests_that_exist(page: str) -> None:
    rows = [line for line in read(page).splitlines() if "`tests/" in line]
    named = [name for row in rows for name in re.findall(r"`(tests/[\w/]+\.py)`", row)]
    assert len(rows) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_map_names_exactly_the_rooms() -> None:
    section = read("docs/architecture.md").partition("\n## The map\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"(?m)^\| `chatkeep/([\w.]+)/?` ", section))
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert named == rooms


def test_map_names_only_existing_files() -> None:
    section = read("docs/architecture.md").partition("\n## The map\n")[2].partition("\n## ")[0]
    named = re.findall(r"(?m)^\| `([\w./-]+)`", section)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_architecture_names_only_code_that_exists() -> None:
    page = read("docs/architecture.md")
    code = "\n".join(path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py")))
    defined = set(re.findall(r"\b(?:class|def) (\w+)", code))
    names = {part for name in re.findall(r"`([A-Z]\w*[a-z]\w*(?:\.\w+)?)[`(]", page) for part in name.split(".")}
    modules = {module for module in re.findall(r"`([a-z]+\.[a-z_]+)`", page) if module != "app.py"}
    assert names
    assert names - defined == set()
    assert [module for module in modules if not (PACKAGE / f"{module.replace('.', '/')}.py").exists()] == []


def test_layers_are_those_of_import_linter() -> None:
    contracts = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (held,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    section = read("docs/architecture.md").partition("\n## Layers\n")[2].partition("\n## ")[0]
    assert section.split("```")[1].strip().replace(" · ", " | ").splitlines() == held


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_named_setting_exists(page: Path) -> None:
    named = set(re.findall(r"\b(?:CHATKEEP|OPENAI)_[A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8")))
    assert named - variables() == set()


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_readme_defaults_match_the_code(page: str) -> None:
    rows = re.findall(r"(?m)^\| `([A-Z_]+)` \| (?:`([^`]*)`)? *\|", read(page))
    assert len(rows) > 10
    assert {name: default for name, default in rows if DEFAULTS[name] != default} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_setting_has_a_comment_on_its_line(page: Path) -> None:
    """In a `.env` file the comment would be part of the value."""
    assert re.findall(r"(?m)^[A-Z_]+=.* #", page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_named_task_exists(page: Path) -> None:
    named = set(re.findall(r"\./dev (\w+)", page.read_text(encoding="utf-8")))
    assert named - set(re.findall(r"(?m)^def (\w+)", read("dev"))) == set()


def unused_words() -> list[str]:
    """Return the words that the glossary bans from names."""
    section = read("docs/glossary.md").partition("\n## Words not used\n")[2]
    return re.findall(r"(?m)^\| `([\w*]+)`", section)


GIVEN = {"NoSessions", "open_session"}  # Flask's words


def test_no_name_has_a_banned_word() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    names = {(path, name) for path, text in texts.items() for name in re.findall(r"\b(?:def|class) (\w+)", text)}
    names = {(path, name) for path, name in names if name not in GIVEN}
    assert unused_words()
    assert {f"{path.relative_to(ROOT)}: {name}" for path, name in names if has_unused_word(name)} == set()


def has_unused_word(name: str) -> bool:
    """Return whether a name in snake or camel case has a banned word, or matches one that ends in a star."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_")
    parts = {*snake.split("_"), *(part.removesuffix("s") for part in snake.split("_"))}
    return any(word in parts or fnmatchcase(snake, word) for word in unused_words())


@pytest.mark.parametrize("name", ["SessionManager", "_helpers", "process_turn", "userData", "utils"])
def test_banned_words_are_found_in_any_case(name: str) -> None:
    assert has_unused_word(name)


@pytest.mark.parametrize("name", ["metadata", "Provider", "begin_turn", "processes"])
def test_other_words_are_allowed(name: str) -> None:
    assert not has_unused_word(name)
