"""The content of the image, and the layers that a build makes again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.containers.conftest import CANARY
from tests.containers.engine import CHATKEEP, Engine
from tests.servers import ROOT

LARGEST = 200e6


def test_no_layer_holds_a_secret_of_the_checkout(engine: Engine, source: Path, image: str) -> None:
    """Layers of earlier build stages also matter: build caches share them."""
    assert CANARY in (source / "deploy" / ".env").read_text(encoding="utf-8")
    layers = engine.folder / "store" / "overlay"
    assert any(layers.glob("*/diff/source/pyproject.toml"))
    places = map(str, layers.glob("*/diff/source"))
    assert engine.run("grep", "-rlIs", CANARY, *places, check=False).stdout == "", image


def test_the_image_is_small_and_chatkeep_is_a_separate_layer(engine: Engine, image: str) -> None:
    about = engine.image(image)
    steps = json.loads(engine.run("podman", "history", "--format=json", image).stdout)
    chatkeep, requirements = [step["size"] for step in steps if step["size"] > 1e6][:2]
    assert about["Size"] <= LARGEST
    assert chatkeep < 10e6 < requirements


def test_the_image_has_user_stop_signal_and_health_check(engine: Engine, image: str) -> None:
    about = engine.image(image)
    assert (about["User"], about["Config"]["StopSignal"]) == ("10001", "SIGTERM")
    assert about["Healthcheck"]["Test"] == ["CMD", "chatkeep", "health"]
    assert engine.once("--entrypoint=id", image, "-g").stdout.strip() == "10001"


def test_the_whole_package_is_in_the_image(engine: Engine, source: Path, image: str) -> None:
    """Includes the third-party files of the pages."""
    code = "import chatkeep, pathlib; print(*pathlib.Path(chatkeep.__file__).parent.rglob('*'), sep='\\n')"
    there = engine.once("--entrypoint=python", image, "-c", code).stdout
    listed = engine.run("git", "-C", str(ROOT), "ls-files", "chatkeep").stdout.split()
    assert [name for name in listed if "/assets/" not in name and f"/{name}\n" not in there] == []
    assert "static/vendor/marked.js" in there, source


def test_no_tools_are_left_in_the_image(engine: Engine, image: str) -> None:
    code = "import shutil, sys; sys.exit(any(map(shutil.which, ['gcc', 'curl', 'npm', 'node'])))"
    engine.once("--entrypoint=python", image, "-c", code)
    assert engine.once("--entrypoint=python", image, "-m", "pip", check=False).returncode == 1


def test_every_extra_is_installed(engine: Engine, image: str) -> None:
    code = (
        "import redis, jwt, cryptography; from chatkeep.auth.oidc import Oidc; from chatkeep.auth.tokens import Tokens"
    )
    engine.once("--entrypoint=python", image, "-c", code)
    environment = ("-e=REDIS_URL=redis://127.0.0.1:1/0", "-e=CHATKEEP_OIDC_ISSUER=https://issuer.invalid")
    looked = engine.once(*environment, image, "doctor", check=False)
    assert "pip install" not in looked.stdout + looked.stderr
    assert "Traceback" not in looked.stderr


def test_pages_have_all_their_files(engine: Engine, image: str) -> None:
    assert "everything is built" in engine.once(image, "doctor", check=False).stdout


def test_a_change_of_the_source_keeps_the_layer_of_requirements(
    engine: Engine, source: Path, image: str, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(source, changed)
    with (changed / "chatkeep" / "runtime" / "clock.py").open("a", encoding="utf-8") as file:
        file.write("# another change than that of test_compose, which may have built the image\n")
    (changed / "docs" / "deployment.md").write_text("changed", encoding="utf-8")
    said = engine.build(changed / "deploy" / "Dockerfile", f"{CHATKEEP}-next", changed)
    assert "Downloading" not in said
    before, after = (engine.image(name)["RootFS"]["Layers"] for name in (image, f"{CHATKEEP}-next"))
    assert before[:-1] == after[:-1]
    assert before[-1] != after[-1]
