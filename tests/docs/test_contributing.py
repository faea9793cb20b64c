"""The recipes of CONTRIBUTING.md name files and names that exist, and all the places that a recipe needs."""

from __future__ import annotations

import re
from typing import get_args

import click
import pytest

from chatkeep.cli.export import export
from chatkeep.exports.formats import FORMATS
from chatkeep.exports.jobs import FormatName
from chatkeep.web.schemas.exports import ExportFormat
from tests.servers import ROOT

GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SUFFIXES = ("/", ".py", ".md", ".example")
# What a recipe tells to make.
PLACEHOLDER = "NNNN_name.py"


def named_paths() -> list[str]:
    """Return the paths in the guide, from the root; a name alone is relative to a folder named before it."""
    named = re.findall(r"`([\w./-]+)`", GUIDE)
    return [name for name in named if "/" in name and name.endswith(SUFFIXES) and PLACEHOLDER not in name]


def test_every_named_file_exists() -> None:
    assert len(named_paths()) > 25
    assert [name for name in named_paths() if name != ".venv/" and not (ROOT / name).exists()] == []


def test_every_test_that_a_recipe_runs_exists() -> None:
    commands = re.findall(r"`\./dev test ([^`]+)`", GUIDE)
    words = [word for command in commands for word in command.partition(" -")[0].split()]
    assert len(words) > 10
    assert [word for word in words if not word.startswith("-") and not (ROOT / "tests" / word).exists()] == []


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("chatkeep/exports/formats/__init__.py", "_KINDS"),
        ("chatkeep/exports/jobs.py", "FormatName"),
        ("chatkeep/web/schemas/exports.py", "ExportFormat"),
        ("chatkeep/config/fields.py", "SettingsFields"),
        ("chatkeep/config/parsing.py", "DialectRule"),
        ("chatkeep/provider/dialects.py", "Dialect"),
        ("chatkeep/provider/dialects.py", "_changes"),
        ("chatkeep/server/app.py", "create_app"),
        ("docs/generate.py", "KINDS"),
        ("chatkeep/web/examples.py", "ANSWERS"),
        ("tests/auth/test_matrix.py", "CALLS"),
        ("tests/auth/test_matrix.py", "PUBLIC"),
        ("chatkeep/store/migrations/__init__.py", "HEAD"),
        ("chatkeep/store/migrations/__init__.py", "COMPATIBLE_FROM"),
        ("tests/refusals.py", "REFUSALS"),
        ("tests/answers.py", "ANSWERS"),
        ("tests/http/test_exports.py", "FORMATS"),
        ("tests/http/test_redaction.py", "FORMATS"),
    ],
)
def test_a_name_is_defined_where_the_guide_says(path: str, name: str) -> None:
    assert f"`{name}`" in GUIDE
    assert f"`{path}`" in GUIDE
    assert re.search(rf"(?m)^(?:class |def )?{name}\b", (ROOT / path).read_text(encoding="utf-8"))


def test_all_lists_of_export_formats_agree() -> None:
    (option,) = (param for param in export.params if param.name == "name")
    assert isinstance(option.type, click.Choice)
    assert list(FORMATS) == list(get_args(FormatName)) == list(get_args(get_args(ExportFormat)[0]))
    assert list(FORMATS) == list(option.type.choices)
