"""What people wrote by hand is true where a test can tell: links, names of files, settings, tasks and words."""

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
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not leads_somewhere(page, link)] == []


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    return target.exists() and (not anchor or anchor in anchors(target))


def anchors(page: Path) -> list[str]:
    """Return the anchors that a page's headings make, as GitHub names them."""
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text(encoding="utf-8"))
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_no_two_headings_of_the_reference_share_an_anchor() -> None:
    found = anchors(ROOT / "docs" / "api.md")
    assert sorted(found) == sorted(set(found))


@pytest.mark.parametrize("page", ["SECURITY.md", "SECURITY.zh-CN.md"])
def test_each_defence_is_shown_by_tests_that_there_are(page: str) -> None:
    rows = [line for line in read(page).splitlines() if "`tests/" in line]
    named = [name for row in rows for name in re.findall(r"`(tests/[\w/]+\.py)`", row)]
    assert len(rows) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_map_names_every_room_and_nothing_else() -> None:
    section = read("docs/architecture.md").partition("\n## The map\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"(?m)^\| `chatkeep/([\w.]+)/?` ", section))
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert named == rooms | {"errors.py"}


def test_the_map_names_only_files_that_there_are() -> None:
    section = read("docs/architecture.md").partition("\n## The map\n")[2].partition("\n## ")[0]
    named = re.findall(r"(?m)^\| `([\w./-]+)`", section)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_layers_are_those_that_imports_are_held_to() -> None:
    contracts = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (held,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    section = read("docs/architecture.md").partition("\n## Layers\n")[2].partition("\n## ")[0]
    assert section.split("```")[1].strip().replace(" · ", " | ").splitlines() == held


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(r"\b(?:CHATKEEP|OPENAI)_[A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8")))
    assert named - variables() == set()


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_defaults_in_the_readme_are_those_of_the_code(page: str) -> None:
    rows = re.findall(r"(?m)^\| `([A-Z_]+)` \| (?:`([^`]*)`)? *\|", read(page))
    assert len(rows) > 10
    assert {name: default for name, default in rows if DEFAULTS[name] != default} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_setting_is_shown_with_a_comment_on_its_line(page: Path) -> None:
    """In an environment file it would be part of the value."""
    assert re.findall(r"(?m)^[A-Z_]+=.* #", page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_task_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(r"\./dev (\w+)", page.read_text(encoding="utf-8")))
    assert named - set(re.findall(r"(?m)^def (\w+)", read("dev"))) == set()


def unused_words() -> list[str]:
    """Return the words that the glossary keeps out of names."""
    section = read("docs/glossary.md").partition("\n## Words not used\n")[2]
    return re.findall(r"(?m)^\| `([\w*]+)`", section)


def test_no_name_has_a_word_that_the_glossary_keeps_out() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    names = {(path, name) for path, text in texts.items() for name in re.findall(r"\b(?:def|class) (\w+)", text)}
    assert unused_words()
    assert {f"{path.relative_to(ROOT)}: {name}" for path, name in names if has_unused_word(name)} == set()


def has_unused_word(name: str) -> bool:
    """Return whether a name in snake or camel case has one of the words, or fits one that ends in a star."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_")
    parts = {*snake.split("_"), *(part.removesuffix("s") for part in snake.split("_"))}
    return any(word in parts or fnmatchcase(snake, word) for word in unused_words())


@pytest.mark.parametrize("name", ["SessionManager", "_handlers", "process_turn", "userData", "utils"])
def test_the_words_are_found_in_any_case(name: str) -> None:
    assert has_unused_word(name)


@pytest.mark.parametrize("name", ["metadata", "Provider", "begin_turn", "processes"])
def test_other_words_are_let_be(name: str) -> None:
    assert not has_unused_word(name)
