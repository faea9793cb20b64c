"""The pins match pyproject.toml, have hashes, and have permissive licences."""

from __future__ import annotations

import importlib.metadata
import json
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests import audit

ROOT = Path(__file__).resolve().parents[2]
IN_IMAGE = {"requirements/image.txt", "requirements/build.txt", "requirements/assets.txt"}
PERMISSIVE = re.compile(r"\b(MIT|BSD|Apache|PSF|ZPL|Zope Public License|ISC|any-OSI)\b", re.IGNORECASE)


def pins(name: str) -> dict[str, Requirement]:
    """Return the pinned requirements of a file by name."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = [Requirement(line.removesuffix("\\")) for line in lines if line and line[0] not in " #"]
    return {requirement.name: requirement for requirement in found}


def declared(*extras: str) -> list[Requirement]:
    """Return the requirements of pyproject.toml, with those of the extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    return [Requirement(line) for lines in lists for line in lines if not line.startswith("chatkeep[")]


@pytest.mark.parametrize(
    ("name", "extras"),
    [
        ("requirements/runtime.txt", ()),
        ("requirements/dev.txt", ("openai", "mysql-rsa", "dev")),
        ("requirements/image.txt", ("jwt", "mysql-rsa", "oidc", "redis")),
    ],
)
def test_every_pin_satisfies_its_requirement(name: str, extras: tuple[str, ...]) -> None:
    pinned = pins(name)
    for requirement in declared(*extras):
        (pin,) = pinned[requirement.name].specifier
        assert requirement.specifier.contains(pin.version), requirement


def test_the_root_file_installs_the_runtime_pins() -> None:
    assert (ROOT / "requirements.txt").read_text(encoding="utf-8") == "-r requirements/runtime.txt\n"


def test_the_image_has_every_extra_except_openai() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["optional-dependencies"]) - {"dev", "openai"} == {"jwt", "mysql-rsa", "oidc", "redis"}


@pytest.mark.parametrize("name", ["requirements/runtime.txt", "requirements/image.txt"])
def test_development_uses_the_pins_of_users(name: str) -> None:
    users, developers = pins(name), pins("requirements/dev.txt")
    assert {name: pin.specifier for name, pin in users.items()} == {name: developers[name].specifier for name in users}


@pytest.mark.network
def test_compiling_again_changes_nothing(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    for arguments in runpy.run_path(str(ROOT / "dev"))["pinning"]():
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
        )
        if "error sending request" in done.stderr:
            pytest.skip("freshness of the requirements: the package index cannot be reached")
        assert done.returncode == 0, done.stderr
    for name in audit.FILES:
        assert (tmp_path / name).read_text() == (ROOT / name).read_text(), f"{name} is stale: ./dev compile"


@pytest.mark.network
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_image_needs_only_wheels_on_every_machine(machine: str, tmp_path: Path) -> None:
    """Resolves with the index, and installs nothing: seconds."""
    files = [f"--requirement={ROOT / name}" for name in sorted(IN_IMAGE)]
    platform = (f"--python-platform={machine}-unknown-linux-gnu", "--python-version=3.13", "--only-binary=:all:")
    command = [sys.executable, "-m", "uv", "pip", "install", "--dry-run", "--require-hashes", *platform, *files]
    done = subprocess.run([*command, f"--target={tmp_path}"], capture_output=True, text=True, timeout=100, check=False)
    if "error sending request" in done.stderr:
        pytest.skip("wheels of the image: the package index cannot be reached")
    assert done.returncode == 0, done.stderr


def test_the_dockerfile_uses_these_requirements() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    assert set(re.findall(r"requirements/\w+\.txt", text)) == IN_IMAGE
    assert text.count("--require-hashes") == text.count("--only-binary=:all:") == 2


def test_users_install_only_permissive_licences() -> None:
    used = [pin for pin in pins("requirements/image.txt").values() if not pin.marker or pin.marker.evaluate()]
    assert {pin.name: licence(pin.name) for pin in used if not PERMISSIVE.search(licence(pin.name))} == {}


def test_pages_load_only_permissive_licences() -> None:
    """Covers the files that browsers load. DOMPurify offers a choice of two licences."""
    lock = json.loads((ROOT / "chatkeep/web/assets/package-lock.json").read_text(encoding="utf-8"))
    sent = {name: package for name, package in lock["packages"].items() if name and not package.get("dev")}
    assert sent
    assert {
        name: one.get("license") for name, one in sent.items() if not PERMISSIVE.search(one.get("license", ""))
    } == {}


@pytest.mark.parametrize("name", audit.FILES)
def test_every_pin_has_its_hash(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert all("--hash=sha256:" in text.partition(f"\n{pin}")[2].partition("\n    # via")[0] for pin in pins(name))


@pytest.mark.parametrize(("said", "status", "told"), [
    ('{"dependencies": []}', 0, ": 0 known"),
    ('{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": []}]}]}', 1, "X-1"),
    ("", 0, "NOT AUDITED"),
    ("<html>", 0, "NOT AUDITED"),
    ('{"message": "no route"}', 0, "NOT AUDITED"),
])  # fmt: skip
def test_the_audit_fails_for_vulnerabilities_and_not_for_the_network(
    said: str, status: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs a program that prints a report of pip-audit, to test how it is read."""
    monkeypatch.setattr(audit, "PIP_AUDIT", [sys.executable, "-c", f"print({said!r})"])
    monkeypatch.setattr(audit, "FILES", (audit.FILES[0],))
    monkeypatch.setattr(audit, "_of_npm", lambda: iter(()))
    assert audit.main() == status
    assert told in capsys.readouterr().out


def licence(name: str) -> str:
    """Return the licence in the metadata of an installed distribution."""
    known = importlib.metadata.metadata(name)
    lines = [line for field in ("License-Expression", "License", "Classifier") for line in known.get_all(field, [])]
    return " ".join(line[:80] for line in lines if not line.startswith(("Programming", "Framework", "Topic")))
