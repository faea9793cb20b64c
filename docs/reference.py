"""The API reference in Markdown, made from the OpenAPI document and examples, in any language. Pure.

It is short: what routes have in common is said once, at the first of them. The OpenAPI document has every detail.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from docs.typescript import MOST_CHOICES, Interfaces, Schema, choices_of, is_page, name_of, told

JSON = "application/json"
PROBLEM = "application/problem+json"
# Schemas of requests, whose fields the routes list.
INLINE = ("Query", "Request", "Changes")
EMPTY: tuple[Any, ...] = (None, "", [])
LIMITS = (("minLength", "maxLength", "characters"), ("minimum", "maximum", ""))
# Parameters of every route that needs a key; the page's introduction explains them.
END_USER = ("X-End-User", "X-End-User-Token")
# A command after a prompt, lines that continue it, and the answer up to the next prompt or comment.
_EXAMPLE = re.compile(r"^\$ (.+\n(?:> .+\n)*)((?:(?![$#] ).*\n)+)", re.MULTILINE)


class Example(NamedTuple):
    """A shell command and its answer."""

    command: str
    answer: str

    @property
    def kind(self) -> str:
        """The info string of the answer: `json` or `text`."""
        try:
            json.loads(self.answer)
        except ValueError:
            return "text"
        return "json"

    @property
    def call(self) -> tuple[str, str]:
        """The method and the path, which may contain shell variables."""
        method = re.search(r"-X (\w+)", self.command)
        found = re.search(r"http://\S+?(?=[\"'\s]|$)", self.command)
        path = urlsplit(found[0]).path if found else ""
        return method[1] if method else "POST" if " -d " in self.command else "GET", path


def examples_in(transcript: str) -> list[Example]:
    """Return the examples of a transcript such as `docs/examples.txt`, in order."""
    found = _EXAMPLE.findall(transcript)
    return [Example(command.replace("\n> ", "\n").strip(), answer.strip()) for command, answer in found]


def row(*cells: str) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(cells)} |"


def head(*names: str) -> list[str]:
    """Return the first two rows of a table."""
    return [row(*names), "|" + "---|" * len(names)]


class Route(NamedTuple):
    """An operation of the document."""

    method: str
    path: str
    operation: Schema

    @property
    def title(self) -> str:
        """The heading."""
        return f"{self.method} {self.path}"

    @property
    def tag(self) -> str:
        """The section of the page."""
        return str(self.operation["tags"][0])

    @property
    def body(self) -> str:
        """The name of the body's schema, empty without a body."""
        content = self.operation.get("requestBody", {}).get("content", {})
        return name_of(content.get(JSON, {}).get("schema", {}))


# Kinds of routes whose errors are said once.
KINDS: dict[str, Callable[[Route], bool]] = {
    "Any request:": lambda route: True,  # noqa: ARG005 - every route is one
    "Routes that need a key:": lambda route: bool(route.operation["security"]),
    "Routes that write:": lambda route: route.method != "GET",
    "Routes with a body:": lambda route: bool(route.body),
}


@dataclass(slots=True)
class Reference:
    """The reference in one language: ``say`` translates English texts, ``see`` has a line of links for each tag."""

    document: Schema
    examples: list[Example]
    say: Callable[[str], str]
    see: Mapping[str, str]
    width: int = 120
    _fields: dict[str, str] = field(default_factory=dict)
    """The route that describes a field, by its name and schema, or a set of errors."""
    _shown: set[str] = field(default_factory=set)
    """The answers that have an example."""

    def lines(self) -> Iterator[str]:
        """Yield the lines on errors, on every route by tag, and on the schemas of answers."""
        routes = [
            Route(method.upper(), path, operation)
            for path, methods in self.document["paths"].items()
            for method, operation in methods.items()
        ]
        common = self._common(routes)
        yield from self._errors(common)
        for tag in dict.fromkeys(route.tag for route in routes):
            yield from (f"## {self.say('Routes')}{self.say(': ')}{self.say(tag)}", "")
            if tag in self.see:
                yield from (self.see[tag], "")
            for route in routes:
                if route.tag == tag:
                    yield from self._route(route, common)
        yield from self._schemas()

    def _common(self, routes: list[Route]) -> dict[str, set[str]]:
        """Return the codes of errors that all routes of a kind have, by the kind; none of them twice."""
        seen: set[str] = set()
        found = {}
        for kind, is_one in KINDS.items():
            found[kind] = set.intersection(*(set(self._codes(route)) for route in routes if is_one(route))) - seen
            seen |= found[kind]
        return found

    def _codes(self, route: Route) -> list[str]:
        """Return the codes of a route's errors."""
        names = [name_of(answer) for answer in route.operation["responses"].values()]
        return [code for name in names if name for code in self._problems(name)]

    def _problems(self, name: str) -> Mapping[str, Schema]:
        """Return the examples of a response's problems, by code."""
        examples: Schema = self.document["components"]["responses"][name]["content"][PROBLEM]["examples"]
        return examples

    def _errors(self, common: Mapping[str, set[str]]) -> Iterator[str]:
        """Yield the lines on every error, by the routes that have it."""
        every = {
            code: shown
            for name in self.document["components"]["responses"]
            for code, shown in self._problems(name).items()
        }
        yield from (
            f"## {self.say('Errors')}",
            "",
            self.say("Every error is a [Problem](#problem). A route lists only errors of its own."),
            "",
        )
        kinds = {**common, "Routes that list them:": every.keys() - set().union(*common.values())}
        for kind, codes in kinds.items():
            found = sorted((every[code]["value"]["status"], code) for code in codes)
            yield from (self.say(kind), "")
            yield from (
                f"- {status} `{code}`{self.say(': ')}{self.say(every[code]['summary'])}{self.say('.')}"
                for status, code in found
            )
            yield ""

    def _route(self, route: Route, common: Mapping[str, set[str]]) -> Iterator[str]:
        operation = route.operation
        yield from (f"### {route.title}", "", self.say(f"{operation['summary']}."), "")
        if first := operation.get("description", "").partition("\n\n")[0]:
            yield from (*self._wrapped(first), "")
        shared = set().union(*(codes for kind, codes in common.items() if KINDS[kind](route)))
        own = [f"`{code}`" for code in self._codes(route) if code not in shared]
        facts = [self._scopes(operation["security"]), self.say("Answer: {}.").format(self._answers(operation))]
        facts += [self.say("Errors: {}.").format(self._once(self.say(", ").join(own), route.title))] if own else []
        yield from (self.say(" ").join(facts), "")
        yield from self._takes(route)
        yield from self._examples(route)

    def _once(self, codes: str, here: str) -> str:
        """Return codes of errors, or the earlier route that has the same."""
        there = self._fields.setdefault(codes, here)
        return (
            codes
            if there == here or codes.count("`") <= 2 * MOST_CHOICES
            else self.say("as in {}").format(_anchor(there))
        )

    def _scopes(self, security: list[dict[str, list[str]]]) -> str:
        """Return the scopes of an operation; any of them is enough."""
        scopes = [f"`{scope}`" for one in security for scope in one["key"]]
        return self.say("Scope: {}.").format(self.say(" or ").join(scopes)) if scopes else self.say("Public.")

    def _answers(self, operation: Schema) -> str:
        """Return what an operation answers if it succeeds, by status."""
        statuses: dict[str, list[str]] = {}
        for status, answer in operation["responses"].items():
            if "$ref" not in answer:
                statuses.setdefault(self._answer(answer), []).append(status)
        comma = self.say(", ")
        return comma.join(f"{comma.join(found)} {told}".strip() for told, found in statuses.items())

    def _answer(self, answer: Schema) -> str:
        content = answer.get("content", {})
        shown = [
            self._type(kind["schema"]) if media == JSON else f"`{media}`"
            for media, kind in content.items()
            if "schema" in kind
        ]
        shown += [self.say("a [stream](#streams)") for kind in content.values() if "itemSchema" in kind]
        return self.say(" or ").join(shown)

    def _takes(self, route: Route) -> Iterator[str]:
        """Yield the lists of what a request may hold; fields of earlier routes are only named."""
        parameters = route.operation["parameters"]
        of = {
            place: {
                one["name"]: one | one["schema"]
                for one in parameters
                if one["in"] == place and one["name"] not in END_USER
            }
            for place in ("header", "query")
        }
        for label, fields in (("Headers:", of["header"]), ("Query:", of["query"])):
            yield from self._list(
                label, fields, {name for name, one in fields.items() if one.get("required")}, route.title
            )
        if route.body and not route.body.endswith(INLINE):
            yield from (f"{self.say('Body:')} {self._link(route.body)}", "")
        elif route.body:
            component = self.document["components"]["schemas"][route.body]
            yield from self._list("Body:", component["properties"], set(component["required"]), route.title)

    def _list(self, label: str, fields: Mapping[str, Schema], required: set[str], here: str) -> Iterator[str]:
        if not fields:
            return
        yield from (self.say(label), "")
        new: dict[str, list[str]] = {}
        known: dict[str, list[str]] = {}
        for name, schema in fields.items():
            there = self._fields.setdefault(f"{name} {json.dumps(schema, sort_keys=True)}", here)
            if there == here:
                new.setdefault(self._about(schema, required=name in required), []).append(f"`{name}`")
            else:
                about = f"{self.say(': ')}{self.say('as in {}').format(_anchor(there))}"
                known.setdefault(about, []).append(f"`{name}`")
        yield from (f"- {self.say(', ').join(names)}{about}" for about, names in [*new.items(), *known.items()])
        yield ""

    def _about(self, schema: Schema, *, required: bool) -> str:
        """Return the type and the description of a field that a request may hold."""
        default = schema.get("default")
        about = [self._type(schema), self.say("required") if required else ""]
        about += [self.say("default {}").format(f"`{json.dumps(default)}`")] if default not in EMPTY else []
        description = told(schema, self.say)
        facts = self.say(" ({})").format(self.say(", ").join(filter(None, about)))
        return facts + (f"{self.say(': ')}{description}" if description else "")

    def _examples(self, route: Route) -> Iterator[str]:
        """Yield an example as JSON and one as text; an answer that was shown before is left out."""
        pattern = re.compile(re.sub(r"\\{\w+\\}", r"\\$[A-Z]+", re.escape(route.path)))
        found = [one for one in self.examples if one.call[0] == route.method and pattern.fullmatch(one.call[1])]
        for kind in dict.fromkeys(one.kind for one in found):
            example = next(one for one in found if one.kind == kind)
            yield from ("```bash", example.command, "```", "")
            types = re.findall(r"\[(?:New)?(\w+)\]", self._answers(route.operation))  # NewKey has the fields of Key
            answer = kind + (types[0] if types else route.title)
            if answer not in self._shown:
                yield from (f"```{kind}", example.answer, "```", "")
            self._shown.add(answer)

    def _schemas(self) -> Iterator[str]:
        """Yield the lines on the schemas of answers, in alphabetical order."""
        yield from (f"## {self.say('Schemas')}", "")
        for name, component in sorted(self.document["components"]["schemas"].items()):
            if not name.endswith(INLINE) and not is_page(component):
                yield from (f"### {name}", "", *Interfaces(self.document, self.say).lines(name, component), "")

    def _type(self, schema: Schema) -> str:
        """Return a schema's type in words, with its limits."""
        if "$ref" in schema:
            return self._link(name_of(schema))
        if "anyOf" in schema:
            return self.say(" or ").join(map(self._type, schema["anyOf"]))
        if choices := choices_of(schema):
            return self.say(" or ").join(f"`{choice}`" for choice in choices)
        if schema.get("type") == "array":
            return self.say("array of {}").format(self._type(schema["items"]))
        kind = {"uuid": "UUID"}.get(schema.get("format", ""), str(schema.get("type", "string")))
        return self.say(kind) + self._limits(schema)

    def _link(self, name: str) -> str:
        """Return a link to a schema, or to the schema of a page's items."""
        component = self.document["components"]["schemas"][name]
        if is_page(component):
            return self.say("page of {}").format(self._link(name_of(component["properties"]["data"]["items"])))
        return f"[{name}](#{name.lower()})"

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

    def _wrapped(self, text: str) -> Iterable[str]:
        return textwrap.wrap(self.say(text), self.width, break_long_words=False, break_on_hyphens=False)


def _anchor(title: str) -> str:
    """Return a link to a heading of the page, as GitHub names it."""
    name = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
    return f"[{title}](#{name})"
