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
