"""The API's reference in Markdown, from its OpenAPI document. Pure."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]
JSON = "application/json"
PROBLEM = "application/problem+json"
EMPTY: tuple[Any, ...] = (None, "", [])
LIMITS = (("minLength", "maxLength", " characters"), ("minimum", "maximum", ""))


def operations(document: Schema) -> Iterator[str]:
    """Yield the lines on every operation, under a heading for each tag."""
    tag = None
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if operation["tags"][0] != tag:
                tag = operation["tags"][0]
                yield from (f"## Routes: {tag}", "")
            yield from (f"### {method.upper()} {path}", "", f"{operation['summary']}.", "")
            yield from _operation(operation, document["components"]["schemas"])


def shapes(document: Schema) -> Iterator[str]:
    """Yield the lines on every shape that an answer or an event has, in the order of the alphabet."""
    asked = {_name(_body(operation)) for methods in document["paths"].values() for operation in methods.values()}
    yield from ("## Shapes", "")
    for name, shape in sorted(document["components"]["schemas"].items()):
        if name not in asked and not name.endswith("Query"):
            yield from (f"### {name}", "", *_wrapped(shape["description"]), "", *_answered(shape), "")


def row(*cells: str) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(cells)} |"


def head(*names: str) -> list[str]:
    """Return the first two rows of a table."""
    return [row(*names), "|" + "---|" * len(names)]


def _operation(operation: Schema, schemas: Schema) -> Iterator[str]:
    if "description" in operation:
        yield from (*_wrapped(operation["description"]), "")
    if operation["parameters"]:
        yield from (*head("parameter", "in", "type", "what it is"), *map(_parameter, operation["parameters"]), "")
    if body := _body(operation):
        yield from ("The body:", "", *_asked(schemas[_name(body)]), "")
    yield from head("status", "answer")
    yield from (row(status, _answer(response)) for status, response in sorted(operation["responses"].items()))
    yield ""


def _body(operation: Schema) -> Schema:
    """Return the reference to the shape of an operation's body; nothing where it takes none."""
    schema: Schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    return schema


def _parameter(parameter: Schema) -> str:
    schema = parameter["schema"]
    return row(f"`{parameter['name']}`", parameter["in"], _type(schema), _told(parameter | schema, _default(schema)))


def _answer(response: Schema) -> str:
    """Return what an answer holds; a problem's description names its codes."""
    content = response.get("content", {})
    if PROBLEM in content:
        return str(response["description"])
    shown = [
        _type(kind["schema"]) if media == JSON else f"`{media}`" for media, kind in content.items() if "schema" in kind
    ]
    shown += [_events(kind["itemSchema"]) for kind in content.values() if "itemSchema" in kind]
    return ", or ".join(shown) or str(response["description"])


def _events(schema: Schema) -> str:
    events = [one["properties"] for one in schema["oneOf"]]
    named = [f"`{event['event']['const']}` ({_type(event['data']['contentSchema'])})" for event in events]
    return f"a stream of the events {', '.join(named)}: {schema['description']}"


def _asked(shape: Schema) -> list[str]:
    """Return the table of a body's fields: what must be there, and what holds where a field is left out."""
    rows = []
    for name, schema in shape["properties"].items():
        optional = "Required." if name in shape["required"] else _default(schema) or "Optional."
        rows.append(row(f"`{name}`", _type(schema), _told(schema, optional)))
    return [*head("field", "type", "what it is"), *rows]


def _answered(shape: Schema) -> list[str]:
    """Return the table of an answer's fields; those without a value in every answer are marked."""
    if "enum" in shape:
        return [f"One of {_choices(shape)}."]
    rows = []
    for name, schema in shape["properties"].items():
        missing = name not in shape["required"] and schema.get("default") in EMPTY
        rows.append(row(f"`{name}`", _type(schema), _told(schema, "May be missing." if missing else "")))
    return [*head("field", "type", "what it is"), *rows]


def _default(schema: Schema) -> str:
    """Return what is told of a default; one that is empty says nothing."""
    default = schema.get("default")
    return "" if default in EMPTY else f"`{json.dumps(default)}` by default."


def _told(schema: Schema, more: str) -> str:
    return " ".join(filter(None, [next(_descriptions(schema), ""), more]))


def _descriptions(schema: Schema) -> Iterator[str]:
    if schema.get("description"):
        yield schema["description"]
    for choice in schema.get("anyOf", []):
        yield from _descriptions(choice)


def _type(schema: Schema) -> str:
    """Return a schema's type in words, with its limits."""
    if "$ref" in schema:
        return f"[{_name(schema)}](#{_name(schema).lower()})"
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return _choices(schema)
    if schema.get("type") == "array":
        return f"array of {_type(schema['items'])}"
    return {"uuid": "UUID"}.get(schema.get("format", ""), str(schema.get("type", "anything"))) + _limits(schema)


def _limits(schema: Schema) -> str:
    for least, most, unit in LIMITS:
        low, high = schema.get(least), schema.get(most)
        if high is not None:
            return f", {low} to {high:,}{unit}" if low is not None else f", up to {high:,}{unit}"
        if low is not None:
            return f", at least {low}{unit}"
    return ""


def _choices(schema: Schema) -> str:
    return ", ".join(f"`{choice}`" for choice in schema.get("enum", [schema.get("const")]))


def _name(reference: Schema) -> str:
    return str(reference.get("$ref", "")).rpartition("/")[2]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text.replace("``", "`"), 120, break_long_words=False, break_on_hyphens=False)
