"""The documents that come from code say what the code says now."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from chatkeep.config.settings import Settings, described
from chatkeep.web.openapi_versions import Version, in_version
from docs import chinese, generate
from tests.client import request
from tests.servers import Server


def test_generated_documents_are_fresh() -> None:
    assert generate.stale() == []


def test_check_names_what_is_stale_and_changes_nothing(tmp_path: Path) -> None:
    generate.write(tmp_path)
    page = tmp_path / "docs" / "settings.md"
    page.write_text("old", encoding="utf-8")
    assert generate.stale(tmp_path) == ["docs/settings.md"]
    assert page.read_text(encoding="utf-8") == "old"
    assert generate.write(tmp_path) == ["docs/settings.md"]
    assert generate.stale(tmp_path) == []


def test_the_generator_runs_as_a_file_from_anywhere(tmp_path: Path) -> None:
    """Starts a process: about a second."""
    command = [sys.executable, str(generate.ROOT / "docs" / "generate.py"), "--check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("path", "version"), [("openapi.json", "3.2"), ("openapi-3.1.json", "3.1")])
def test_reference_describes_the_served_document(tmp_path: Path, path: str, version: Version) -> None:
    """Starts a server: a second or two."""
    with Server("flask", tmp_path) as server:
        served = request("GET", f"{server.url}/{path}").json
    assert json.loads(json.dumps(in_version(generate.described(), version))) == served


def test_the_example_environment_holds_the_defaults(tmp_path: Path) -> None:
    example = generate.documents()[".env.example"]
    (tmp_path / ".env").write_text(re.sub(r"(?m)^# (?=[A-Z_]+=)", "", example), encoding="utf-8")
    assert Settings.from_env({}, tmp_path) == Settings()
    assert re.findall(r"(?m)^# ([A-Z_]+)=", example) == [item.metadata["env"] for item in described()]


def test_every_operation_and_every_body_field_is_in_the_reference() -> None:
    page = generate.documents()["docs/api.md"]
    for operation in generate.operations():
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", operation.path)
        section = page.partition(f"### {operation.method} {path}\n")[2].partition("\n### ")[0]
        for shape in filter(None, (operation.body, operation.query)):
            assert set(shape.__struct_encode_fields__) <= set(re.findall(r"(?m)^\| `(\w+)`", section)), path
        for problem in operation.problems:
            assert f"`{problem.code}`" in section, path


def test_every_word_of_the_reference_is_translated() -> None:
    chinese.missing.clear()
    generate.documents()
    assert chinese.missing == set()
