"""The OpenAPI document covers every route, matches its meta-schema, and has valid examples."""

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
from schemathesis.specs.openapi.definitions import OPENAPI_31, OPENAPI_32

from chatkeep.config.settings import Settings
from chatkeep.provider.demo import DemoProvider
from chatkeep.server.app import create_app
from chatkeep.web import examples, openapi
from chatkeep.web.openapi_versions import in_version
from chatkeep.web.routes import pages
from chatkeep.web.schemas import chat
from chatkeep.web.services import services_of

ALWAYS = {"bad_request", "foreign_origin", "unknown_host", "internal_error"}
KEYED = {
    "unauthorized", "missing_scope", "invalid_fields", "database_unavailable", "database_timeout", "database_refused",
}  # fmt: skip
WRITING = {"database_read_only", "database_full", "outcome_unknown"}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    made = create_app(Settings(data_dir=Path(tmp_path_factory.mktemp("openapi"))), DemoProvider())
    yield made
    services_of(made).close()


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


def test_every_reference_resolves(document: Any) -> None:
    named = set(re.findall(r'"#/components/(\w+)/([^"]+)"', json.dumps(document)))
    assert named <= {(kind, name) for kind, found in document["components"].items() for name in found}
    assert {kind for kind, _ in named} == {"schemas", "responses"}


def test_every_operation_has_a_unique_id_and_a_summary(document: Any) -> None:
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    names = [operation["operationId"] for operation in operations]
    assert sorted(names) == sorted(set(names))
    assert all(operation["summary"] and operation["tags"] for operation in operations)


def test_every_path_parameter_is_declared(document: Any) -> None:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            declared = {item["name"] for item in operation["parameters"] if item["in"] == "path"}
            assert declared == set(re.findall(r"\{(\w+)\}", path))


def test_every_error_is_a_problem(document: Any) -> None:
    for methods in document["paths"].values():
        for operation in methods.values():
            answers = {status: resolved(document, answer) for status, answer in operation["responses"].items()}
            wrong = {status: answer for status, answer in answers.items() if int(status) >= 400}
            kinds = {kind for answer in wrong.values() for kind in answer["content"]}
            assert {"400", "500"} <= wrong.keys()
            assert "application/problem+json" in kinds


@pytest.fixture(scope="module", params=["3.1", "3.2"])
def served(request: pytest.FixtureRequest, document: Any) -> Any:
    """The document in each version that is served."""
    return in_version(document, request.param)


def test_document_matches_the_openapi_meta_schema(served: Any) -> None:
    """By the schema of the OpenAPI Initiative, which schemathesis brings."""
    schema = {"3.1.1": OPENAPI_31, "3.2.0": OPENAPI_32}[served["openapi"]]
    assert [error.message for error in Draft202012Validator(schema).iter_errors(served)] == []


def test_versions_differ_only_in_streams(document: Any) -> None:
    old, new = (in_version(document, version)["paths"] for version in ("3.1", "3.2"))
    assert old != new
    for made in (old, new):
        for _, kind, media in contents(document | {"paths": made}):
            if "event" in kind:
                media.clear()
    assert old == new


def test_fields_state_defaults_in_descriptions_only(served: Any) -> None:
    """Generators make fields with a default required."""
    fields = fields_of(served)
    assert [name for name, schema in fields.items() if "default" in schema] == []
    assert "Default: `false`." in fields["ChatRequest.stream"]["description"]


def test_required_fields_are_those_that_are_always_there(served: Any) -> None:
    schemas = served["components"]["schemas"]
    assert schemas["ChatRequest"]["required"] == ["message"]
    assert schemas["RegenerateRequest"]["required"] == []
    optional = {name for name in fields_of(served) if name.split(".")[1] not in schemas[name.split(".")[0]]["required"]}
    answers = {name for name in optional if not name.split(".")[0].endswith(("Request", "Changes", "Event"))}
    assert answers == {
        "ChatAnswer.reasoning", "Delta.text", "Delta.reasoning", "Export.since", "Export.tombstones",
        "ExportEnd.cursor", "ExportEnd.tombstones", "Problem.conversation_id", "Problem.message_id", "Problem.errors",
        "UsageRow.account", "UsageRow.day", "UsageRow.end_user", "UsageRow.key", "UsageRow.model",
        *(f"Limits.{kind}_per_{time}" for kind in ("requests", "tokens") for time in ("minute", "day")),
        "Limits.concurrent_replies",
    }  # fmt: skip


def fields_of(served: Any) -> dict[str, Any]:
    return {
        f"{name}.{field}": schema
        for name, shape in served["components"]["schemas"].items()
        for field, schema in shape.get("properties", {}).items()
    }


def test_every_component_is_used(served: Any) -> None:
    named = set(re.findall(r'"#/components/(\w+)/([^"]+)"', json.dumps(served)))
    assert named == {(kind, name) for kind in ("schemas", "responses") for name in served["components"][kind]}


def test_enums_have_a_type_and_objects_are_open_or_described(served: Any) -> None:
    def walk(schema: Any) -> Iterator[Any]:
        if isinstance(schema, dict):
            yield schema
        for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
            yield from walk(inner)

    found = list(walk(served["components"]["schemas"]))
    assert [one for one in found if "enum" in one and (one.get("type") != "string" or len(one["enum"]) == 1)] == []
    assert [
        one for one in found if one.get("type") == "object" and not {"properties", "additionalProperties"} & {*one}
    ] == []


def test_version_3_1_describes_a_stream_by_one_event_with_parsed_data(document: Any) -> None:
    served = in_version(document, "3.1")
    streams = [media for _, kind, media in contents(served) if kind == "text/event-stream"]
    assert [media["schema"] for media in streams] == [{"$ref": "#/components/schemas/StreamEvent"}] * 4
    validator = Draft202012Validator(streams[0]["schema"] | {"components": served["components"]})
    blocks = examples.stream().strip().split("\n\n")
    frames = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
    assert [frame["event"] for frame in frames] == ["start", "delta", "done", "error"]
    for frame in frames:
        assert list(validator.iter_errors(frame | {"data": json.loads(frame["data"])})) == []
    assert not validator.is_valid({"event": "delta", "data": {"text": 7}})
    assert not validator.is_valid({"event": "begin", "data": {}})


def contents(document: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield the body and every answer of each operation that has a content: its place, media type and media object."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for kind, media in operation.get("requestBody", {}).get("content", {}).items():
                yield f"{method} {path}", kind, media
            for status, answer in operation["responses"].items():
                for kind, media in resolved(document, answer).get("content", {}).items():
                    yield f"{method} {path} {status}", kind, media


def resolved(document: Any, answer: Any) -> Any:
    """Return a response, or the one in the components that it names."""
    return document["components"]["responses"][answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer


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
        if "content" not in resolved(document, answer) and status != "204"
    ]
    assert without == []


def test_every_example_matches_its_schema(served: Any) -> None:
    tried = 0
    for place, kind, media in contents(served):
        if "schema" not in media:
            continue
        schema = media["schema"] | {"components": served["components"]}
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
            for answer in (resolved(document, answer) for answer in operation["responses"].values()):
                shown = answer.get("content", {}).get("application/problem+json", {}).get("examples", {})
                assert set(re.findall(r"`(\w+)`: ", answer["description"])) == shown.keys()


def test_every_route_answers_with_the_problems_that_it_declares(app: Flask, document: Any) -> None:
    operations = app.extensions[pages.DOCUMENT]
    assert sum(len(operation.problems) for operation in operations) > 100
    for operation in operations:
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", operation.path)
        answers = document["paths"][path][operation.method.lower()]["responses"]
        names = [answer["$ref"] for answer in answers.values() if "$ref" in answer]
        told = [re.findall(r"`(\w+)`: ", resolved(document, {"$ref": name})["description"]) for name in names]
        expected = {kind.code for kind in operation.problems} | ALWAYS
        expected |= KEYED if operation.scopes else set()
        expected |= WRITING if operation.method != "GET" else set()
        assert {code for codes in told for code in codes} == expected, path


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


def test_every_required_parameter_has_an_example_or_choices(document: Any) -> None:
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
        ("/api/chat", chat.ChatRequest),
        ("/api/conversations/{conversation_id}/messages/{message_id}/edit", chat.EditRequest),
        ("/api/conversations/{conversation_id}/messages/{message_id}/regenerate", chat.RegenerateRequest),
    ],
)
def test_every_request_example_is_accepted(document: Any, path: str, shape: type[msgspec.Struct]) -> None:
    examples = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert [msgspec.convert(example["value"], shape) for example in examples.values()]
