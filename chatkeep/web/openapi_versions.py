"""The OpenAPI document in each served version, written so that generators make correct clients. Pure."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any, Literal

from chatkeep.web import examples, sse

Version = Literal["3.1", "3.2"]
Schema = dict[str, Any]
_SCHEMAS = "#/components/schemas/"
_STREAM = "StreamEvent"


def in_version(described: Schema, version: Version) -> Schema:
    """Return a document of `openapi.document` as served in a version of OpenAPI.

    Version 3.1 can't describe streams of events: its schema of a stream is that of one event with parsed data, as
    generators expect.
    """
    made = deepcopy(described)
    schemas = made["components"]["schemas"]
    for name in [name for name in schemas if name.endswith("Query")]:
        del schemas[name]  # the parameters repeat them
    for schema in schemas.values():
        for field in schema.get("properties", {}).values():
            _describe_default(field)
    _spell_out(schemas)
    if version == "3.1":
        made["openapi"] = "3.1.1"
        _describe_streams(made)
    return made


def _describe_default(field: Schema) -> None:
    """Move a field's default to its description: generators make fields with a default required."""
    default = field.pop("default", None)
    if default is not None:
        note = f"Default: `{json.dumps(default)}`."
        field["description"] = f"{field['description']} {note}" if "description" in field else note


def _spell_out(schema: Any) -> None:
    """Add what generators need for correct types: the type of enums, constants, and that objects are open."""
    if isinstance(schema, list):
        for inner in schema:
            _spell_out(inner)
    elif isinstance(schema, dict):
        choices = schema.get("enum")
        if isinstance(choices, list) and all(isinstance(choice, str) for choice in choices):
            schema["type"] = "string"
            if len(choices) == 1:
                schema["const"] = schema.pop("enum")[0]
        if schema.get("type") == "object" and "properties" not in schema:
            schema.setdefault("additionalProperties", True)
        for inner in list(schema.values()):
            _spell_out(inner)


def _describe_streams(document: Schema) -> None:
    events: dict[str, Schema] = {}
    for media in _streams(document):
        events = {one["properties"]["event"]["const"]: one for one in media.pop("itemSchema")["oneOf"]}
        media["schema"] = {"$ref": f"{_SCHEMAS}{_STREAM}"}
        media["example"] = {"event": "delta", "id": "3", "data": examples.EVENTS["delta"]}
    names = {event: f"{event.capitalize()}Event" for event in events}
    document["components"]["schemas"] |= {names[event]: _parsed(schema) for event, schema in events.items()}
    document["components"]["schemas"][_STREAM] = {
        "title": _STREAM,
        "description": "An event of a stream. On the wire, `data` is one line of JSON.",
        "oneOf": [{"$ref": f"{_SCHEMAS}{name}"} for name in names.values()],
        "discriminator": {
            "propertyName": "event",
            "mapping": {event: f"{_SCHEMAS}{name}" for event, name in names.items()},
        },
    }


def _streams(document: Schema) -> list[Schema]:
    """Return the media type object of every stream."""
    return [
        response["content"][sse.MEDIA_TYPE]
        for methods in document["paths"].values()
        for operation in methods.values()
        for response in operation["responses"].values()  # references are to problems
        if sse.MEDIA_TYPE in response.get("content", {})
    ]


def _parsed(event: Schema) -> Schema:
    """Return the schema of an event whose data is parsed."""
    name, data = event["properties"]["event"]["const"], event["properties"]["data"]["contentSchema"]
    properties = event["properties"] | {"event": {"type": "string", "const": name}, "data": data}
    return {"title": f"{name.capitalize()}Event", **event, "properties": properties}
