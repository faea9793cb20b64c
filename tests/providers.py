"""Hold long conversations with real servers of OpenAI's API from PyPI and npm: `./dev providers`.

The servers are installed into a temporary folder, and answer on loopback without any model. The name of the model
decides what happens in a turn: a whole answer, a slow one that is stopped, or a failure. The turn after each of them
must be answered. Prints a table of the results.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.http.api import Api, eventually
from tests.ports import free_port, is_listening
from tests.servers import Server

LITELLM, FAKELLM, MOCK_LLM = "litellm[proxy]==1.108.7", "fakellm==0.3.5", "@dwmkerr/mock-llm@0.1.29"
KEY = f"sk-{secrets.token_hex(32)}"
TURNS = 40
START_S = 120.0
SENTENCE = "Fog is a cloud that touches the ground."
SLOW = "and so on " * 500
TOO_LONG = "This model's maximum context length is 10 tokens."
# Every other turn has one of these failures, in order.
TROUBLES = ("slow", "broken", "refused", "long")


@dataclass(frozen=True, slots=True)
class Provider:
    """A server, its start command, and the settings of chatkeep that it needs."""

    name: str
    command: tuple[str, ...]
    files: Mapping[str, str]
    settings: Mapping[str, str]


def litellm(programs: Path, port: int) -> Provider:
    """LiteLLM's proxy. It refuses a temperature for reasoning models."""
    answers: dict[str, dict[str, object]] = {
        "whole": {"model": "openai/gpt-5", "mock_response": SENTENCE},
        "slow": {"model": "openai/m", "mock_response": SLOW, "mock_delay": 30},
        "broken": {"model": "openai/m", "mock_response": "litellm.InternalServerError"},
        "refused": {"model": "openai/o3", "mock_response": "litellm.RateLimitError"},
        "long": {"model": "openai/m", "mock_response": "litellm.ContextWindowExceededError"},
    }
    models = [{"model_name": name, "litellm_params": {"api_key": "none", **one}} for name, one in answers.items()]
    config: dict[str, Any] = {"model_list": models, "general_settings": {"master_key": KEY}}
    config |= {"router_settings": {"num_retries": 0, "disable_cooldowns": True}}
    command = (str(programs / "litellm"), "--config", "config.json", "--host", "127.0.0.1", "--port", str(port))
    return Provider(LITELLM, command, {"config.json": json.dumps(config)}, {})


def fakellm(programs: Path, port: int) -> Provider:
    """A mock server in Python. It has no failures in streams, so failing models don't stream."""
    failures = {"broken": (500, "It broke."), "refused": (400, "It was refused."), "long": (400, TOO_LONG)}
    responses: dict[str, dict[str, object]] = {"whole": {"content": SENTENCE}, "slow": {"content": SLOW}}
    responses |= {name: {"status": status, "error": said} for name, (status, said) in failures.items()}
    rules = [{"name": name, "when": {"model_matches": name}, "respond": one} for name, one in responses.items()]
    command = (str(programs / "fakellm"), "serve", "--port", str(port), "--config", "config.json")
    dialects = {name: {"stream": False} for name in failures}
    settings = {"CHATKEEP_PROVIDER_DIALECTS": json.dumps(dialects)}
    return Provider(FAKELLM, command, {"config.json": json.dumps({"rules": rules})}, settings)


def mock_llm(folder: Path) -> Provider:
    """A mock server in Node.js with errors in streams and the rules of a strict provider."""
    usage = {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}

    def rule(match: str, status: int, body: Mapping[str, object]) -> dict[str, object]:
        response = {"status": status, "content": json.dumps(body)}
        return {"path": "/v1/chat/completions", "method": "POST", "match": match, "response": response}

    def answer(text: str) -> dict[str, object]:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return {"id": "c-1", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}

    def refuse(match: str, said: str, status: int = 400) -> dict[str, object]:
        return rule(match, status, {"error": {"message": said, "code": status}})

    rules = [  # the last match wins
        rule("@", 200, answer(SENTENCE)),
        rule("body.model == 'slow'", 200, answer(SLOW)),
        refuse("body.model == 'broken'", "It broke.", 500),
        refuse("body.model == 'refused'", "It was refused."),
        refuse("body.model == 'long'", TOO_LONG),
        refuse("body.messages[0].role == 'assistant'", "Conversation roles must begin with user"),
        refuse("body.messages[0].role == 'system'", "System role not supported"),
        refuse("body.temperature", "'temperature' does not support 0.5; only the default (1) is supported"),
        refuse("body.max_tokens", "'max_tokens' is not supported; use 'max_completion_tokens'"),
        refuse("body.stream_options", 'json: unknown field "stream_options"'),
    ]
    config = {"streaming": {"chunkSize": 10, "chunkIntervalMs": 5}, "rules": rules}
    program = folder / "node_modules" / "@dwmkerr" / "mock-llm" / "dist" / "main.js"
    return Provider(
        MOCK_LLM, ("node", str(program), "--config", "config.json"), {"config.json": json.dumps(config)}, {}
    )


class Conversation:
    """A conversation of `TURNS` turns, and its results."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.counts: Counter[str] = Counter()
        self.took: list[float] = []
        self.wrong: list[str] = []
        self.learnt: dict[str, str] = {}
        fields = {"system": "Be brief.", "temperature": 0.5, "max_tokens": 99}
        self.id: str = api.chat("Hello", model="whole", **fields)["conversation_id"]

    def hold(self) -> None:
        """Take the turns: complete ones first, then one after each failure."""
        for number in range(TURNS):
            if number < TURNS // 4 or number % 2:
                self.whole(number, streamed=number % 4 == 1)
            elif (trouble := TROUBLES[number // 2 % len(TROUBLES)]) == "slow":
                self.stopped()
            else:
                self.failed(trouble)

    def whole(self, number: int, *, streamed: bool) -> None:
        """Send a message, and check that the whole answer came."""
        begun = time.monotonic()
        status = self._ask("whole", f"Question {number}", stream=streamed)
        self.took.append(time.monotonic() - begun)
        last = self.api.last(self.id)
        if (status, last["status"], last["content"]) == (200, "completed", SENTENCE):
            self.counts["answered"] += 1
        else:
            self.wrong.append(f"turn {number}: {status} {last['status']} {last['error_detail']} {last['content'][:80]}")

    def stopped(self) -> None:
        """Stop a reply before or after its first text."""
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(self._ask, "slow", "Slow", stream=True)
            eventually(lambda: self.api.last(self.id)["status"] == "generating")
            time.sleep(0.2)
            self.api.stop(self.id)
            answer.result()
        self.counts[self.api.ended(self.id)["status"]] += 1

    def failed(self, model: str) -> None:
        """Ask a failing model, and count the outcome."""
        status = self._ask(model, "x" * 200)
        self.counts[f"{status} {self.api.last(self.id)['error']}"] += 1

    def _ask(self, model: str, message: str, **fields: Any) -> int:
        asked = {"model": model, "conversation_id": self.id, "temperature": 0.5, "max_tokens": 99, **fields}
        return self.api.post(message, **asked).status


@contextmanager
def running(provider: Provider, folder: Path, port: int) -> Iterator[None]:
    """Run a provider's server."""
    folder.mkdir()
    for name, text in provider.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    environment = {**os.environ, "HOST": "127.0.0.1", "PORT": str(port), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with Path(folder, "log").open("wb") as log:
        process = subprocess.Popen(provider.command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_S
        while not is_listening(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{provider.name} did not start:\n{Path(folder, 'log').read_text()}")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


def hold(provider: Provider, folder: Path, port: int) -> Conversation:
    """Hold a conversation with a provider."""
    env = {
        "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1", "OPENAI_API_KEY": KEY, "CHATKEEP_MODEL": "whole",
        **provider.settings,
    }  # fmt: skip
    with running(provider, folder, port), Server("waitress", folder / "chatkeep", env) as server:
        conversation = Conversation(Api(server))
        conversation.hold()
        learnt = re.findall(r"the model '(\w+)' are written with (.*?) from now on", server.log())
    conversation.learnt = dict(learnt)
    return conversation


def providers(folder: Path) -> Iterator[tuple[Provider, int]]:
    """Install the servers, and yield each with a port. Without npm there are two."""
    venv.create(folder / "venv", with_pip=True)
    programs = folder / "venv" / "bin"
    subprocess.run([programs / "pip", "install", "--quiet", LITELLM, FAKELLM], check=True)
    for make in (litellm, fakellm):
        port = free_port()
        yield make(programs, port), port
    if npm := shutil.which("npm"):
        subprocess.run([npm, "install", "--silent", "--no-audit", "--no-fund", MOCK_LLM], cwd=folder, check=True)
        yield mock_llm(folder), free_port()


def say(*lines: str) -> None:
    """Print lines at once."""
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


def main() -> int:
    """Print the table. Return 1 if an answer is missing."""
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        say("| provider | turns | outcomes | a whole turn, p50 | learnt |\n|---|---|---|---|---|")
        for number, (provider, port) in enumerate(providers(folder)):
            held = hold(provider, folder / str(number), port)
            counts = ", ".join(f"{count} {what}" for what, count in held.counts.items())
            learnt = "; ".join(f"{model}: {how}" for model, how in held.learnt.items())
            took = statistics.median(held.took) * 1000
            say(f"| {provider.name} | {TURNS} | {counts} | {took:.0f} ms | {learnt} |")
            wrong += [f"{provider.name}, {one}" for one in held.wrong]
    say(*wrong)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
