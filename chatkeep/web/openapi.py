"""Declarations of routes, and the OpenAPI document built from them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from flask import Blueprint

from chatkeep import __version__, errors
from chatkeep.auth.access import END_USER_CHARACTERS, Scope
from chatkeep.domain import conversation
from chatkeep.errors import Problem
from chatkeep.web import auth, examples, problems, sse
from chatkeep.web.patterns import in_document
from chatkeep.web.schemas import chat, common

View = TypeVar("View", bound=Callable[..., Any])
Schema = dict[str, Any]
Kinds = tuple[type[Problem], ...]
# The order of the document: what a newcomer needs first.
TAGS = (
    "chat", "conversations", "sharing", "exports", "usage", "end users", "keys", "health", "documents", "admin",
)  # fmt: skip
_PARAMETER = re.compile(r"<(?:(\w+):)?(\w+)>")
_EVENTS = (("start", chat.Start), ("delta", conversation.Delta), ("done", chat.Done), ("error", common.Problem))
# HTTP carries printable ASCII unchanged. Longer values are refused.
HEADER_SCHEMA = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}
# For pages that show only descriptions, not events.
_STREAM = (
    "As a stream: `start`; then `delta` events with `text` or `reasoning`, whose id is the number of characters of the"
    " text so far; finally `done`, or `error` with a problem. After 5 s of silence the server sends a comment. The"
    " texts of all deltas, joined, are the stored reply."
)
# Any request can fail with these.
_ALWAYS: Kinds = (
    errors.BadRequest,
    errors.ForeignOrigin,
    errors.UnknownHost,
    errors.InternalError,
)
# Requests to routes that need a key can also fail with these.
_GUARDED: Kinds = (
    errors.Unauthorized,
    errors.MissingScope,
    errors.InvalidFields,
    errors.StoreUnavailable,
    errors.DatabaseTimeout,
    errors.DatabaseRefused,
)
# Requests that write can also fail with these.
_STORING: Kinds = (errors.DatabaseReadOnly, errors.DatabaseFull, errors.OutcomeUnknown)
_KEY = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "ck_…",
    "description": "From `chatkeep keys create`. Without API keys, a server on loopback accepts every local user.",
}
_END_USER = {
    "name": auth.END_USER,
    "in": "header",
    "description": "Act for this end user of your application; their data is isolated from all others.",
    "schema": {"type": "string", "minLength": 1, "maxLength": END_USER_CHARACTERS},
}
_TOKEN = {
    "name": auth.TOKEN,
    "in": "header",
    "description": "In place of `X-End-User`: a signed JWT with the end user's name in `sub`, and with `exp`, if the"
    " account uses `CHATKEEP_END_USER_TOKENS`.",
    "schema": {"type": "string"},
}


@dataclass(frozen=True, slots=True)
class Operation:
    """What the document says of one method of one path."""

    method: str
    path: str
    name: str
    summary: str
    description: str
    tag: str
    scopes: frozenset[Scope]
    """Any of these is enough; a public route has none."""
    body: type[msgspec.Struct] | None
    query: type[msgspec.Struct] | None
    answers: dict[int, type[msgspec.Struct] | None]
    streams: bool
    files: dict[str, type[msgspec.Struct] | None]
    """The media types of a 200 that is a file, with the schema of JSON files."""
    headers: dict[str, str]
    problems: Kinds
    examples: dict[str, Any]


@dataclass(slots=True)
class Routes:
    """A blueprint of documented routes: declaring a route is the only way to register it."""

    blueprint: Blueprint
    operations: list[Operation] = field(default_factory=list)

    def route(  # noqa: PLR0913 - a declaration: each of these is a line of the document
        self,
        method: str,
        path: str,
        *,
        tag: str,
        scopes: AbstractSet[Scope],
        body: type[msgspec.Struct] | None = None,
        query: type[msgspec.Struct] | None = None,
        answers: dict[int, type[msgspec.Struct] | None],
        streams: bool = False,
        files: Mapping[str, type[msgspec.Struct] | None] | None = None,
        headers: dict[str, str] | None = None,
        raises: tuple[type[Problem], ...] = (),
        examples: dict[str, Any] | None = None,
    ) -> Callable[[View], View]:
        """Declare a route; the view's docstring becomes its summary and description."""

        def declare(view: View) -> View:
            summary, _, description = (view.__doc__ or "").strip().partition("\n\n")
            self.operations.append(
                Operation(
                    method,
                    path,
                    view.__name__,
                    summary,
                    "\n\n".join(" ".join(one.split()) for one in description.split("\n\n")),
                    tag,
                    frozenset(scopes),
                    body,
                    query,
                    answers,
                    streams,
                    dict(files or {}),
                    headers or {},
                    raises,
                    examples or {},
                )
            )
            self.blueprint.add_url_rule(path, view.__name__, auth.requires(scopes)(view), methods=[method])
            return view

        return declare


def document(operations: list[Operation], root: str = "/") -> Schema:
    """Return the OpenAPI 3.2 document of these operations, whose paths follow ``root``."""
    operations = sorted(operations, key=lambda operation: TAGS.index(operation.tag))
    structs = _structs(operations)
    schemas, components = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    reference = dict(zip(structs, schemas, strict=True))
    _require_what_is_always_there(components, operations, structs, reference)
    names = _problem_names(operations)
    paths: dict[str, Schema] = {}
    for operation in operations:
        path = _PARAMETER.sub(r"{\2}", operation.path)
        written = _operation(operation, reference, components) | {"responses": _responses(operation, reference, names)}
        paths.setdefault(path, {})[operation.method.lower()] = written
    return in_document(
        {
            "openapi": "3.2.0",
            "info": {
                "title": "chatkeep",
                "version": __version__,
                "description": "A self-hosted conversation server for LLM applications.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": root}],
            "tags": [{"name": tag} for tag in TAGS if any(operation.tag == tag for operation in operations)],
            "paths": paths,
            "components": {
                "schemas": components,
                "responses": {name: _problem(kinds, reference[common.Problem]) for kinds, name in names.items()},
                "securitySchemes": {"key": _KEY},
            },
        }
    )


def _require_what_is_always_there(
    components: Schema,
    operations: list[Operation],
    structs: list[type[msgspec.Struct]],
    reference: dict[type[msgspec.Struct], Schema],
) -> None:
    """Make fields of answers that have a default required, because every answer has them."""
    taken = {reference[struct]["$ref"] for one in operations for struct in (one.body, one.query) if struct}
    sparse = {reference[struct]["$ref"] for struct in structs if struct.__struct_config__.omit_defaults}
    for name, schema in components.items():
        if f"#/components/schemas/{name}" in taken or "properties" not in schema:
            continue
        always = [] if f"#/components/schemas/{name}" in sparse else schema["properties"]
        schema["required"] += [key for key in always if "default" in schema["properties"][key]]
        for property_ in schema["properties"].values():
            property_.pop("default", None)


def _structs(operations: list[Operation]) -> list[type[msgspec.Struct]]:
    """Return every schema that the document refers to, once."""
    found: dict[type[msgspec.Struct], None] = dict.fromkeys([common.Problem, *(struct for _, struct in _EVENTS)])
    for operation in operations:
        for struct in (operation.body, operation.query, *operation.answers.values(), *operation.files.values()):
            if struct is not None:
                found[struct] = None
    return list(found)


def _operation(operation: Operation, reference: dict[type[msgspec.Struct], Schema], components: Schema) -> Schema:
    written: Schema = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary.rstrip("."),
        "security": [{"key": [scope]} for scope in sorted(operation.scopes)],
        "parameters": _parameters(operation, reference, components),
    }
    if operation.description:
        written["description"] = operation.description
    if operation.body is not None:
        content = {"schema": reference[operation.body]} | (
            {"examples": {name: {"value": value} for name, value in operation.examples.items()}}
            if operation.examples
            else {}
        )
        written["requestBody"] = {"required": True, "content": {"application/json": content}}
    return written


def _parameters(
    operation: Operation, reference: dict[type[msgspec.Struct], Schema], components: Schema
) -> list[Schema]:
    found: list[Schema] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string"} | _format(kind),
            "example": examples.IDS[name],
        }
        for kind, name in _PARAMETER.findall(operation.path)
    ]
    found += [
        {"name": name, "in": "header", "description": text, "schema": HEADER_SCHEMA}
        for name, text in operation.headers.items()
    ]
    if operation.scopes:
        found += [_END_USER, _TOKEN]
    if operation.query is not None:
        schema = components[reference[operation.query]["$ref"].rpartition("/")[2]]
        found += [
            {
                "name": name,
                "in": "query",
                "description": item.pop("description", ""),
                "schema": item,
            }
            | ({"required": True} if name in schema.get("required", []) else {})
            for name, item in ((name, dict(_without_null(item))) for name, item in schema["properties"].items())
        ]
    return found


def _without_null(schema: Schema) -> Schema:
    """Return the schema of a query parameter without null, which only makes it optional."""
    choices = [choice for choice in schema.get("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        return choices[0]  # type: ignore[no-any-return]
    return schema


def _format(kind: str) -> dict[str, str]:
    return {"format": "uuid"} if kind == "uuid" else {}


def _responses(
    operation: Operation, reference: dict[type[msgspec.Struct], Schema], names: Mapping[Kinds, str]
) -> Schema:
    found: Schema = {}
    for status, struct in operation.answers.items():
        content: Schema = {} if struct is None else {"application/json": _shown(struct, reference)}
        if operation.streams and status == HTTPStatus.OK:
            content[sse.MEDIA_TYPE] = _event_stream(reference)
        if status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            content |= {kind: _file(kind, struct, reference) for kind, struct in operation.files.items()}
        told = HTTPStatus(status).phrase + (f". {_STREAM}" if sse.MEDIA_TYPE in content else "")
        found[str(status)] = {"description": told} | ({"content": content} if content else {})
    problems = {
        str(status): {"$ref": f"#/components/responses/{names[kinds]}"}
        for status, kinds in _problems_of(operation).items()
    }
    return dict(sorted((problems | found).items()))


def _shown(struct: type[msgspec.Struct], reference: dict[type[msgspec.Struct], Schema]) -> Schema:
    """Return the media type object of a schema, with its example."""
    return {"schema": reference[struct], "example": examples.ANSWERS[struct]}


def _file(kind: str, struct: type[msgspec.Struct] | None, reference: dict[type[msgspec.Struct], Schema]) -> Schema:
    if struct is None:
        return {"schema": {"type": "string"}, "example": examples.FILES[kind]}
    return _shown(struct, reference)


def _problems_of(operation: Operation) -> dict[int, Kinds]:
    """Return the kinds of problems that an operation answers with, by their status."""
    guarded = _GUARDED if operation.scopes else ()
    storing = _STORING if operation.method != "GET" else ()
    kinds = sorted({*operation.problems, *_ALWAYS, *guarded, *storing}, key=lambda kind: kind.code)
    return {
        status: tuple(kind for kind in kinds if kind.status == status) for status in sorted({k.status for k in kinds})
    }


def _problem_names(operations: list[Operation]) -> dict[Kinds, str]:
    """Name each set of problems that share a status, the most frequent first: `Problem503`, `Problem503_2`."""
    uses = Counter(kinds for operation in operations for kinds in _problems_of(operation).values())
    seen: Counter[int] = Counter()
    names = {}
    for kinds, _ in uses.most_common():
        status = kinds[0].status
        seen[status] += 1
        names[kinds] = f"Problem{status}" if seen[status] == 1 else f"Problem{status}_{seen[status]}"
    return dict(sorted(names.items(), key=lambda item: item[1]))


def _problem(kinds: Kinds, schema: Schema) -> Schema:
    """Return the response that answers with one of these problems."""
    shown = {kind.code: {"summary": str(kind.title), "value": examples.problem(kind)} for kind in kinds}
    return {
        "description": " ".join(f"`{kind.code}`: {kind.title}." for kind in kinds),
        "content": {problems.MEDIA_TYPE: {"schema": schema, "examples": shown}},
    }


def _event_stream(reference: dict[type[msgspec.Struct], Schema]) -> Schema:
    """Return the media type of a stream, event by event (OpenAPI 3.2.0, §4.14.3.1 on sequential media types)."""
    text = (
        "`start`, then `delta` (its id counts characters), finally `done` or `error`; a comment after 5 s of silence."
    )
    events = [_event(name, reference[struct]) for name, struct in _EVENTS]
    return {"itemSchema": {"description": text, "oneOf": events}, "example": examples.stream()}


def _event(name: str, struct: Schema) -> Schema:
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": struct}
    return {
        "type": "object",
        "required": ["event", "data"],
        "properties": {"event": {"const": name}, "data": data, "id": {"type": "string"}},
    }
