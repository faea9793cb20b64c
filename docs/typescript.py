"""The schemas of an OpenAPI document as TypeScript. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]
PAGE = ["object", "data", "first_id", "last_id", "has_more"]
MOST_CHOICES = 6
# Descriptions that stand for a type of their own.
TYPES = {
    "A UUIDv7.": "UUID",
    "RFC 3339 in UTC with milliseconds.": "Time",
    "RFC 3339 in UTC with microseconds.": "Time",
}
KINDS = {"integer": "number"}


@dataclass(frozen=True, slots=True)
class Interfaces:
    """The schemas of a document, with comments in one language."""

    document: Schema
    say: Callable[[str], str]

    def lines(self, name: str, component: Schema) -> Iterator[str]:
        """Yield a choice as a sentence, an object as an interface."""
        if "enum" in component:
            yield self.say("One of {}.").format(self.say(", ").join(f"`{choice}`" for choice in component["enum"]))
            return
        fields = self._fields(component)
        base, inherited = self._base(name, fields)
        yield from ("```ts", f"interface {name} {f'extends {base} ' if base else ''}{{")
        yield from (line for line in fields if line not in inherited)
        yield from ("}", "```")

    def _base(self, name: str, fields: list[str]) -> tuple[str, list[str]]:
        """Return the schema that this one extends by its name and fields, such as Key for NewKey, and those fields."""
        for other, component in self.document["components"]["schemas"].items():
            found = self._fields(component) if other != name and other in name else []
            if found and set(found) <= set(fields):
                return str(other), found
        return "", []

    def _fields(self, component: Schema) -> list[str]:
        """Return a line for each property."""
        found = []
        for key, schema in component.get("properties", {}).items():
            comment = told(schema, self.say)
            optional = "" if key in component["required"] else "?"
            found.append(f"  {key}{optional}: {self._type(schema)}" + (f" // {comment}" if comment else ""))
        return found

    def _type(self, schema: Schema) -> str:
        if schema.get("description") in TYPES:
            return TYPES[schema["description"]]
        if "anyOf" in schema:
            return " | ".join(map(self._type, schema["anyOf"]))
        if choices := choices_of(schema):
            return " | ".join(map(json.dumps, choices))
        if schema.get("type") == "array":
            item = self._type(schema["items"])
            return f"({item})[]" if " " in item else f"{item}[]"
        if isinstance(values := schema.get("additionalProperties"), dict):
            return f"Record<string, {self._type(values)}>"
        return self._named(schema)

    def _named(self, schema: Schema) -> str:
        kind = str(schema.get("type", "string"))
        if "$ref" not in schema:
            return KINDS.get(kind, kind)
        component = self.document["components"]["schemas"][name_of(schema)]
        return f"Page<{name_of(component['properties']['data']['items'])}>" if is_page(component) else name_of(schema)


def told(schema: Schema, say: Callable[[str], str]) -> str:
    """Return a field's description, unless its type says the same."""
    found = next(_descriptions(schema), "")
    return "" if found in TYPES else say(found)


def choices_of(schema: Schema) -> list[str]:
    """Return the values of a short choice; a long one is only in the OpenAPI document."""
    found = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return found if len(found) <= MOST_CHOICES else []


def is_page(component: Schema) -> bool:
    """Return whether a schema is a page of a list."""
    return [*component.get("properties", {})] == PAGE


def name_of(reference: Schema) -> str:
    """Return the name of the component that is referred to, empty without a reference."""
    return str(reference.get("$ref", "")).rpartition("/")[2]


def _descriptions(schema: Schema) -> Iterator[str]:
    if schema.get("description"):
        yield schema["description"]
    for choice in schema.get("anyOf", []):
        yield from _descriptions(choice)
