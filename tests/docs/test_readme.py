"""The READMEs' commands and settings work in a fresh environment."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from chatkeep.config.settings import Settings
from tests.cli.line import environment
from tests.client import request
from tests.http.api import eventually
from tests.servers import ROOT, Server

PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
TEXTS = [page.read_text(encoding="utf-8") for page in PAGES]
# The commands that start a server.
STARTS = [
    found
    for found in re.findall(r"(?m)^\| `([^`]+)` \|", TEXTS[0])
    if found.split()[-1] in {"app.py", "serve", "app:app"}
]
DOCTOR = "python -m chatkeep doctor"


def shell_blocks(text: str) -> list[str]:
    """Return the commands of a page without comments."""
    return [re.sub(r"\s*#.*", "", block) for block in re.findall(r"(?ms)^```sh\n(.+?)^```$", text)]


def test_both_languages_have_the_same_commands() -> None:
    assert shell_blocks(TEXTS[0]) == shell_blocks(TEXTS[1])
    assert all(f"`{command}`" in text for command in STARTS for text in TEXTS)
    assert len(STARTS) == 4


@pytest.mark.posix("the commands are those of POSIX")
@pytest.mark.parametrize("command", [*STARTS, "./dev run"])
def test_every_start_command_serves(command: str, tmp_path: Path) -> None:
    """Starts a server: a second or two."""
    server = Server("flask", tmp_path)
    words = shlex.split(command.replace("5010", str(server.port)))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(words, cwd=ROOT, env=activated(server), stdout=log, stderr=log)
        try:
            assert eventually(lambda: answers(server), 30), (tmp_path / "log").read_text(encoding="utf-8")
        finally:
            process.terminate()
            process.wait(30)


def activated(server: Server) -> dict[str, str]:
    """Return the environment of a server in a shell whose virtual environment is active."""
    return server.environment() | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def answers(server: Server) -> bool:
    try:
        return request("GET", f"{server.url}/health/ready").status == 200
    except OSError:
        return False


@pytest.mark.posix("the commands are those of POSIX")
def test_doctor_command_works(tmp_path: Path) -> None:
    server = Server("flask", tmp_path)
    done = subprocess.run(
        shlex.split(DOCTOR), cwd=ROOT, env=activated(server), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"{DOCTOR}\n" in shell_blocks(text) for text in TEXTS)


@pytest.mark.parametrize("text", TEXTS, ids=["English", "Chinese"])
def test_both_provider_examples_are_settings(text: str, tmp_path: Path) -> None:
    found = []
    for block in re.findall(r"(?ms)^```ini\n(.+?)^```$", text):
        (tmp_path / ".env").write_text(block, encoding="utf-8")
        settings = Settings.from_env({}, tmp_path)
        assert not settings.demo
        found.append((settings.openai_api_key, settings.openai_base_url, settings.model))
    assert found == [("sk-...", None, "gpt-4o-mini"), (None, "http://127.0.0.1:11434/v1", "llama3.2")]


def test_both_languages_have_the_same_embedding_example() -> None:
    assert python_block(TEXTS[0]) == python_block(TEXTS[1])


def test_embedded_application_answers(tmp_path: Path) -> None:
    """Starts a process, which imports the openai package: a second or two."""
    program = f"{python_block(TEXTS[0])}\nprint(app.test_client().get('/health/ready').status)\n"
    env = environment({"OPENAI_API_KEY": "sk-of-a-test"})
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, check=False)
    assert (done.returncode, done.stdout.decode().strip()) == (0, "200 OK"), done.stderr.decode()


def python_block(text: str) -> str:
    (found,) = re.findall(r"(?ms)^```python\n(.+?)^```$", text)
    return str(found)
