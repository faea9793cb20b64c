"""Generated documents match the code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatkeep.config.settings import Settings, described
from chatkeep.web.openapi_versions import Version, in_version
from docs import chinese, generate
from tests.client import request
from tests.servers import Server


def test_generated_documents_are_fresh() -> None:
    assert generate.stale() == []


def test_check_lists_stale_documents_and_changes_nothing(tmp_path: Path) -> None:
    generate.write(tmp_path)
    page = tmp_path / "docs" / "settings.md"
    page.write_text("old", encoding="utf-8")
    assert generate.stale(tmp_path) == ["docs/settings.md"]
    assert page.read_text(encoding="utf-8") == "old"
    assert generate.write(tmp_path) == ["docs/settings.md"]
    assert generate.stale(tmp_path) == []


def test_generator_runs_as_a_script_from_any_folder(tmp_path: Path) -> None:
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


def test_env_example_has_the_defaults(tmp_path: Path) -> None:
    example = generate.documents()[".env.example"]
    (tmp_path / ".env").write_text(re.sub(r"(?m)^# (?=[A-Z_]+=)", "", example), encoding="utf-8")
    assert Settings.from_env({}, tmp_path) == Settings()
    assert re.findall(r"(?m)^# ([A-Z_]+)=", example) == [item.metadata["env"] for item in described()]


def section_of(page: str, title: str) -> str:
    return page.partition(f"### {title}\n")[2].partition("\n### ")[0].partition("\n## ")[0]


def operations_of(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", method, operation


def test_reference_lists_every_request_field() -> None:
    page, document = generate.documents()["docs/api.md"], generate.described()
    for title, _, operation in operations_of(document):
        fields = {one["name"] for one in operation["parameters"] if one["in"] in {"query", "header"}}
        for content in operation.get("requestBody", {}).get("content", {}).values():
            name = content["schema"]["$ref"].rpartition("/")[2]
            fields |= {name} if name == "Export" else document["components"]["schemas"][name]["properties"].keys()
        named = set(re.findall(r"[`[]([\w-]+)[`\]]", section_of(page, title)))
        assert fields - {"X-End-User", "X-End-User-Token"} <= named, title


def test_reference_lists_exactly_the_errors_of_every_route() -> None:
    page, document = generate.documents()["docs/api.md"], generate.described()
    groups = [
        re.findall(r"(?m)^- \d{3} `(\w+)`", group)
        for group in page.partition("\n## Errors\n")[2].partition("\n## ")[0].split(":\n\n")[1:]
    ]
    codes = [code for group in groups for code in group]
    assert len(codes) == len(set(codes))
    every, keyed, writing, with_body, _ = map(set, groups)
    for title, method, operation in operations_of(document):
        own = re.search(r"Errors: (.+)\.$", section_of(page, title), re.MULTILINE)
        there = re.search(r"as in \[(.+?)\]", own[1]) if own else None
        listed = re.search(r"Errors: (.+)\.$", section_of(page, there[1]), re.MULTILINE) if there else own
        told = every | set(re.findall(r"`(\w+)`", listed[1]) if listed else ())
        told |= keyed if operation["security"] else set()
        told |= writing if method != "get" else set()
        told |= with_body if "requestBody" in operation else set()
        names = [one["$ref"].rpartition("/")[2] for one in operation["responses"].values() if "$ref" in one]
        found = [re.findall(r"`(\w+)`: ", document["components"]["responses"][name]["description"]) for name in names]
        assert told == {code for codes in found for code in codes}, title


def test_reference_begins_with_chat_and_ends_with_admin() -> None:
    titles = re.findall(r"(?m)^### ([A-Z]+ /\S+)$", generate.documents()["docs/api.md"])
    operations = len(generate.operations())
    assert (titles[0], len(titles), len(set(titles))) == ("POST /api/chat", operations, operations)
    assert titles[1].endswith("/stream")
    assert "/api/a" in titles[-1]


def test_reference_has_at_most_6500_words() -> None:
    assert len(generate.documents()["docs/api.md"].split()) <= 6_500


def test_every_text_of_the_reference_has_a_translation() -> None:
    chinese.missing.clear()
    generate.documents()
    assert chinese.missing == set()
