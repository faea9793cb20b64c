"""A running server answers every documented curl command as documented.

The tests' own client sends the commands, so the tests need no curl.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from docs import generate
from docs.reference import Example, examples_in
from tests.client import Response, request
from tests.servers import ROOT, Server

PLACE = "http://127.0.0.1:5010"
TRANSCRIPT = (ROOT / "docs" / "examples.txt").read_text(encoding="utf-8")
EXAMPLES = examples_in(TRANSCRIPT)
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]


def options_of(command: str) -> Namespace:
    """Parse a curl command."""
    parser = ArgumentParser(prog="curl")
    parser.add_argument("url")
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-d", dest="body")
    parser.add_argument("-N", action="store_true")
    options, unknown = parser.parse_known_args(shlex.split(command.replace("\\\n", ""))[1:])
    assert not unknown, command
    return options


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Response]]:
    """Answers to all examples in order; later ones use ids from earlier answers."""
    with Server("flask", tmp_path_factory.mktemp("demo")) as server:
        ids: dict[str, str] = {}
        found = []
        for example in EXAMPLES:
            found.append(answered(example.call[0], filled(example.command, ids), server.url))
            ids |= ids_of(found[-1].text)
        yield found


def answered(method: str, command: str, url: str) -> Response:
    """Send a command, and retry as long as the answer has Retry-After."""
    for _ in range(10):
        found = send(method, command, url)
        if found.headers["Retry-After"] is None:
            return found
        time.sleep(float(found.headers["Retry-After"]))
    raise AssertionError(command)


def filled(command: str, ids: dict[str, str]) -> str:
    """Return a command with its variables expanded as a shell does: not between single quotes."""
    return re.sub(r"'[^']*'|\$[A-Z]+", lambda found: ids.get(found[0], found[0]), command)


def ids_of(answer: str) -> dict[str, str]:
    """Return the ids in an answer by their variables; QUESTION is a conversation's first message."""
    patterns = {
        "$CONVERSATION": r'"conversation_id":"([0-9a-f-]+)"',
        "$MESSAGE": r'"message_id":"([0-9a-f-]+)"',
        "$QUESTION": r'\{"id":"([0-9a-f-]+)","parent_id"',
        "$KEY": r'"key":"(ck_\w{20,})"',
        "$KEYID": r'"object":"key","id":"([0-9a-f-]+)"',
        "$TOKEN": r'"token":"([\w-]+)"',
        "$EXPORT": r'"object":"export_job","id":"([0-9a-f-]+)"',
    }
    found = {name: re.search(pattern, answer) for name, pattern in patterns.items()}
    return {name: match[1] for name, match in found.items() if match}


def send(method: str, command: str, url: str) -> Response:
    """Send a command as curl does."""
    options = options_of(command)
    headers = dict(header.split(": ", 1) for header in options.headers)
    body = None if options.body is None else options.body.encode()
    if body is not None:
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    return request(method, options.url.replace(PLACE, url), body=body, headers=headers)


@pytest.mark.parametrize(
    "index", range(len(EXAMPLES)), ids=[f"{number} {' '.join(one.call)}" for number, one in enumerate(EXAMPLES, 1)]
)
def test_example_gets_the_documented_answer(index: int, answers: list[Response]) -> None:
    """The first one waits for all of them: the demo model writes 50 words a second."""
    shown, got = EXAMPLES[index].answer, answers[index]
    if got.headers.get_content_type() == "text/event-stream":
        assert event_shapes(got.text) == event_shapes(shown)
        return
    if got.headers.get_content_type() == "application/x-ndjson":
        assert [shape(line) for line in lines_of(got.text)] == [shape(line) for line in lines_of(shown)]
        return
    expected = json.loads(shown)
    assert shape(got.json) == shape(expected)
    assert got.status in ({expected["status"]} if "request_id" in expected else {200, 201, 202})


def test_every_command_has_an_answer() -> None:
    assert len(EXAMPLES) == len(re.findall(r"\bcurl ", TRANSCRIPT))


@pytest.mark.parametrize("readme", READMES, ids=lambda page: page.name)
def test_readme_commands_are_examples(readme: Path) -> None:
    blocks = re.compile(r"```bash\n(curl .+?)\n```\n+```(?:json|text)\n(.+?)\n```", re.DOTALL)
    found = [Example(*both) for both in blocks.findall(readme.read_text(encoding="utf-8"))]
    assert found
    assert [example for example in found if example not in EXAMPLES] == []


def test_every_call_of_the_api_has_an_example() -> None:
    ids = {
        "<uuid:conversation_id>": "$CONVERSATION",
        "<uuid:message_id>": "$MESSAGE",
        "<uuid:export_id>": "$EXPORT",
        "<uuid:key_id>": "$KEYID",
        "<token>": "$TOKEN",
    }
    calls = {
        (operation.method, re.sub(r"<.+?>", lambda found: ids[found[0]], operation.path))
        for operation in generate.operations()
        if operation.path.startswith("/api")
    }
    shown = {(method, path.replace("$QUESTION", "$MESSAGE")) for method, path in (one.call for one in EXAMPLES)}
    assert calls - shown == set()


def shape(value: Any) -> Any:
    """Return a JSON value's keys, recursively; a list is represented by its first item."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    return [shape(item) for item in value[:1]] if isinstance(value, list) else None


def lines_of(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def event_shapes(text: str) -> list[tuple[str, bool, Any]]:
    """Return the stream's events: name, whether there is an id, and the data's keys; equal neighbours count once."""
    frames = [dict(re.findall(r"(?m)^(event|id|data): (.*)$", frame)) for frame in text.split("\n\n")]
    shapes = [(frame["event"], "id" in frame, shape(json.loads(frame["data"]))) for frame in frames if frame]
    return [found for found, _ in groupby(shapes)]
