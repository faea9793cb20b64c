"""The API's reference in Markdown, from its OpenAPI document and examples, in any language. Pure."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

Schema = dict[str, Any]
JSON = "application/json"
PROBLEM = "application/problem+json"
EMPTY: tuple[Any, ...] = (None, "", [])
LIMITS = (("minLength", "maxLength", "characters"), ("minimum", "maximum", ""))
_EXAMPLE = re.compile(r"```bash\n(curl .+?)```\n+```(json|text)\n(.+?)```", re.DOTALL)


class Example(NamedTuple):
    """A command for a shell, and the answer that is shown for it."""

    command: str
    kind: str
    answer: str

    @property
    def call(self) -> tuple[str, str]:
        """The method and the path, with the variables of the shell in it."""
        method = re.search(r"-X (\w+)", self.command)
        found = re.search(r"http://\S+?(?=[\"'\s]|$)", self.command)
        path = urlsplit(found[0]).path if found else ""
        return method[1] if method else "POST" if " -d " in self.command else "GET", path


def examples_in(page: str) -> list[Example]:
    """Return the examples of a page, in their order."""
    return [Example(*found) for found in _EXAMPLE.findall(page)]


def row(*cells: str) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(cells)} |"


def head(*names: str) -> list[str]:
    """Return the first two rows of a table."""
    return [row(*names), "|" + "---|" * len(names)]


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference to be written; ``say`` translates what the document and this module say in English."""

    document: Schema
    examples: list[Example]
    say: Callable[[str], str]
    width: int = 120

    def lines(self) -> Iterator[str]:
        """Yield the lines on every operation, under a heading for each tag, and on every shape of an answer."""
        yield from self._operations()
        yield from self._shapes()

    def _operations(self) -> Iterator[str]:
        every = [(path, *one) for path, methods in self.document["paths"].items() for one in methods.items()]
        for tag in dict.fromkeys(operation["tags"][0] for _, _, operation in every):
            yield from (f"## {self.say('Routes')}: {self.say(tag)}", "")
            for path, method, operation in every:
                if operation["tags"][0] == tag:
                    yield from (f"### {method.upper()} {path}", "", self.say(f"{operation['summary']}."), "")
                    yield from self._operation(operation)
                    yield from self._examples(method.upper(), path)

    def _shapes(self) -> Iterator[str]:
        """Yield the lines on every shape that an answer or an event has, in the order of the alphabet."""
        every = [operation for methods in self.document["paths"].values() for operation in methods.values()]
        answered = set(re.findall(r'/schemas/(\w+)"', json.dumps([operation["responses"] for operation in every])))
        asked = {_name(_body(operation)) for operation in every} - answered
        yield from (f"## {self.say('Shapes')}", "")
        for name, shape in sorted(self.document["components"]["schemas"].items()):
            if name not in asked and not name.endswith("Query"):
                yield from (f"### {name}", "", *self._wrapped(shape["description"]), "", *self._answered(shape), "")

    def _operation(self, operation: Schema) -> Iterator[str]:
        if "description" in operation:
            yield from (*self._wrapped(operation["description"]), "")
        yield from (self._key(operation["security"]), "")
        if operation["parameters"]:
            yield from self._head("parameter", "in", "type", "what it is")
            yield from (*map(self._parameter, operation["parameters"]), "")
        if body := _body(operation):
            shape = self.document["components"]["schemas"][_name(body)]
            yield from (self.say("The body:"), "", *self._asked(shape), "")
        yield from self._head("status", "answer")
        yield from (row(status, self._answer(found)) for status, found in operation["responses"].items())
        yield ""

    def _key(self, security: list[dict[str, list[str]]]) -> str:
        """Return with which scopes an operation is called; any of them is enough."""
        scopes = [f"`{scope}`" for one in security for scope in one["key"]]
        return self.say("Scope: {}.").format(self.say(" or ").join(scopes)) if scopes else self.say("Needs no key.")

    def _examples(self, method: str, path: str) -> Iterator[str]:
        pattern = re.compile(re.sub(r"\{\w+\}", r"\\$[A-Z]+", re.sub(r"[.]", r"\\.", path)))
        for example in self.examples:
            if example.call[0] == method and pattern.fullmatch(example.call[1]):
                yield from ("```bash", example.command.rstrip("\n"), "```", "")
                yield from (f"```{example.kind}", example.answer.rstrip("\n"), "```", "")

    def _head(self, *names: str) -> list[str]:
        return head(*map(self.say, names))

    def _parameter(self, parameter: Schema) -> str:
        schema = parameter["schema"]
        told = self._told(parameter | schema, self._default(schema))
        return row(f"`{parameter['name']}`", self.say(parameter["in"]), self._type(schema), told)

    def _answer(self, response: Schema) -> str:
        """Return what an answer holds; a problem's description names its codes."""
        response = self.document["components"]["responses"].get(_name(response), response)
        content = response.get("content", {})
        if PROBLEM in content:
            return self._problems(str(response["description"]))
        shown = [
            self._type(kind["schema"]) if media == JSON else f"`{media}`"
            for media, kind in content.items()
            if "schema" in kind
        ]
        shown += [self._events(kind["itemSchema"]) for kind in content.values() if "itemSchema" in kind]
        return self.say(", or ").join(shown) or self.say(str(response["description"]))

    def _problems(self, description: str) -> str:
        """Return the codes of problems, each with its title."""
        found = re.findall(r"(`\w+`): (.+?)\.(?= `|$)", description)
        return " ".join(f"{code}{self.say(': ')}{self.say(title)}{self.say('.')}" for code, title in found)

    def _events(self, schema: Schema) -> str:
        events = [one["properties"] for one in schema["oneOf"]]
        named = [f"`{event['event']['const']}` ({self._type(event['data']['contentSchema'])})" for event in events]
        told = self.say(schema["description"])
        return self.say("a stream of the events {}: {}").format(", ".join(named), told)

    def _asked(self, shape: Schema) -> list[str]:
        """Return the table of a body's fields: what must be there, and what holds where a field is left out."""
        rows = []
        for name, schema in shape["properties"].items():
            optional = self._default(schema) or self.say("Optional.")
            told = self._told(schema, self.say("Required.") if name in shape["required"] else optional)
            rows.append(row(f"`{name}`", self._type(schema), told))
        return [*self._head("field", "type", "what it is"), *rows]

    def _answered(self, shape: Schema) -> list[str]:
        """Return the table of an answer's fields; those without a value in every answer are marked."""
        if "enum" in shape:
            return [self.say("One of {}.").format(_choices(shape))]
        rows = []
        for name, schema in shape["properties"].items():
            missing = name not in shape["required"] and schema.get("default") in EMPTY
            told = self._told(schema, self.say("May be missing.") if missing else "")
            rows.append(row(f"`{name}`", self._type(schema), told))
        return [*self._head("field", "type", "what it is"), *rows]

    def _default(self, schema: Schema) -> str:
        """Return what is told of a default; one that is empty says nothing."""
        default = schema.get("default")
        return "" if default in EMPTY else self.say("`{}` by default.").format(json.dumps(default))

    def _told(self, schema: Schema, more: str) -> str:
        return " ".join(filter(None, [self.say(next(_descriptions(schema), "")), more]))

    def _type(self, schema: Schema) -> str:
        """Return a schema's type in words, with its limits."""
        if "$ref" in schema:
            return f"[{_name(schema)}](#{_name(schema).lower()})"
        if "anyOf" in schema:
            return self.say(" or ").join(map(self._type, schema["anyOf"]))
        if "enum" in schema or "const" in schema:
            return _choices(schema)
        if schema.get("type") == "array":
            return self.say("array of {}").format(self._type(schema["items"]))
        kind = {"uuid": "UUID"}.get(schema.get("format", ""), str(schema.get("type", "anything")))
        return self.say(kind) + self._limits(schema)

    def _limits(self, schema: Schema) -> str:
        for least, most, unit in LIMITS:
            low, high = schema.get(least), schema.get(most)
            if low is not None or high is not None:
                return self.say(", ") + self._span(low, high) + (f" {self.say(unit)}" if unit else "")
        return ""

    def _span(self, low: int | None, high: int | None) -> str:
        if low is None:
            return self.say("up to {:,}").format(high)
        return self.say("at least {}").format(low) if high is None else self.say("{} to {:,}").format(low, high)

    def _wrapped(self, text: str) -> list[str]:
        told = self.say(text).replace("``", "`")
        return textwrap.wrap(told, self.width, break_long_words=False, break_on_hyphens=False)


def _body(operation: Schema) -> Schema:
    """Return the reference to the shape of an operation's body; nothing where it takes none."""
    schema: Schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    return schema


def _descriptions(schema: Schema) -> Iterator[str]:
    if schema.get("description"):
        yield schema["description"]
    for choice in schema.get("anyOf", []):
        yield from _descriptions(choice)


def _choices(schema: Schema) -> str:
    return ", ".join(f"`{choice}`" for choice in schema.get("enum", [schema.get("const")]))


def _name(reference: Schema) -> str:
    return str(reference.get("$ref", "")).rpartition("/")[2]
