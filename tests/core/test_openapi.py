"""The OpenAPI document is complete: every route of the API, every reference, every example."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flask import Flask
from jsonschema import Draft202012Validator, FormatChecker
from schemathesis.specs.openapi.definitions import OPENAPI_32

from chatkeep.factory import create_app
from chatkeep.provider.demo import Demo
from chatkeep.settings import Settings
from chatkeep.web import openapi, pages, shapes
from chatkeep.web.parts import parts_of


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    made = create_app(Settings(data_dir=Path(tmp_path_factory.mktemp("openapi"))), Demo())
    yield made
    parts_of(made).close()


@pytest.fixture(scope="module")
def document(app: Flask) -> Any:
    return json.loads(msgspec.json.encode(openapi.document(app.extensions[pages.DOCUMENT])))


def test_every_route_of_the_api_is_documented(app: Flask, document: Any) -> None:
    served = {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith(("/api", "/health", "/openapi"))
    }
    described = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert described == served
    assert len(served) > 10


def test_every_reference_leads_somewhere(document: Any) -> None:
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert named <= document["components"]["schemas"].keys()
    assert len(named) > 10


def test_every_operation_has_its_own_name_and_a_summary(document: Any) -> None:
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    names = [operation["operationId"] for operation in operations]
    assert sorted(names) == sorted(set(names))
    assert all(operation["summary"] and operation["tags"] for operation in operations)


def test_every_parameter_of_a_path_is_declared(document: Any) -> None:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            declared = {item["name"] for item in operation["parameters"] if item["in"] == "path"}
            assert declared == set(re.findall(r"\{(\w+)\}", path))


def test_every_error_is_a_problem(document: Any) -> None:
    for methods in document["paths"].values():
        for operation in methods.values():
            wrong = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
            kinds = {kind for answer in wrong.values() for kind in answer["content"]}
            assert {"400", "500"} <= wrong.keys()
            assert "application/problem+json" in kinds


def test_it_is_a_document_of_openapi_3_2(document: Any) -> None:
    """By the schema of the OpenAPI Initiative, which schemathesis brings."""
    assert [error.message for error in Draft202012Validator(OPENAPI_32).iter_errors(document)] == []


def contents(document: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield the body and every answer of each operation that has a content: its place, media type and media object."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for kind, media in operation.get("requestBody", {}).get("content", {}).items():
                yield f"{method} {path}", kind, media
            for status, answer in operation["responses"].items():
                for kind, media in answer.get("content", {}).items():
                    yield f"{method} {path} {status}", kind, media


def examples_of(media: Any) -> list[Any]:
    single = [media["example"]] if "example" in media else []
    return single + [example["value"] for example in media.get("examples", {}).values()]


def test_every_body_and_every_answer_has_an_example(document: Any) -> None:
    assert [(place, kind) for place, kind, media in contents(document) if not examples_of(media)] == []
    without = [
        f"{method} {path} {status}"
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        for status, answer in operation["responses"].items()
        if "content" not in answer and status != "204"
    ]
    assert without == []


def test_every_example_is_of_its_schema(document: Any) -> None:
    tried = 0
    for place, kind, media in contents(document):
        if "schema" not in media:
            continue
        schema = media["schema"] | {"components": document["components"]}
        for example in examples_of(media):
            found = Draft202012Validator(schema, format_checker=FormatChecker()).iter_errors(example)
            assert [f"{place} {kind}: {error.message}" for error in found] == []
            tried += 1
    assert tried > 100


def test_every_problem_of_a_route_has_an_example_with_its_code(document: Any) -> None:
    for place, kind, media in contents(document):
        if kind == "application/problem+json":
            for code, example in media["examples"].items():
                assert (example["value"]["code"], str(example["value"]["status"])) == (code, place.split()[-1])
                assert example["value"]["detail"]
    for methods in document["paths"].values():
        for operation in methods.values():
            for answer in operation["responses"].values():
                shown = answer.get("content", {}).get("application/problem+json", {}).get("examples", {})
                assert set(re.findall(r"`(\w+)`: ", answer["description"])) == shown.keys()


def test_every_event_of_a_stream_is_described_and_shown(document: Any) -> None:
    streams = [media for _, kind, media in contents(document) if kind == "text/event-stream"]
    assert len(streams) == 4
    for media in streams:
        schemas = {one["properties"]["event"]["const"]: one for one in media["itemSchema"]["oneOf"]}
        blocks = media["example"].strip().split("\n\n")
        frames = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
        assert [frame["event"] for frame in frames] == ["start", "delta", "done", "error"] == [*schemas]
        for frame in frames:
            shape = schemas[frame["event"]]["properties"]["data"]["contentSchema"]
            schema = shape | {"components": document["components"]}
            assert list(Draft202012Validator(schema).iter_errors(json.loads(frame["data"]))) == []


def test_every_parameter_that_must_be_given_has_an_example_or_choices(document: Any) -> None:
    required = [
        item
        for methods in document["paths"].values()
        for operation in methods.values()
        for item in operation["parameters"]
        if item.get("required")
    ]
    assert required
    assert [item["name"] for item in required if "example" not in item and "enum" not in item["schema"]] == []


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/api/chat", shapes.ChatRequest),
        ("/api/conversations/{conversation_id}/messages/{message_id}/edit", shapes.EditRequest),
        ("/api/conversations/{conversation_id}/messages/{message_id}/regenerate", shapes.RegenerateRequest),
    ],
)
def test_every_example_is_a_request_that_is_taken(document: Any, path: str, shape: type[msgspec.Struct]) -> None:
    examples = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert [msgspec.convert(example["value"], shape) for example in examples.values()]
