"""All regular expressions of the package, and the worst texts for a backtracking engine."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from tests.servers import ROOT

PACKAGE = ROOT / "chatkeep"
STATIC = PACKAGE / "web" / "static"
# A build script, which reads only files pinned by a checksum.
BUILD = PACKAGE / "web" / "assets"
op: Any = import_module("re._constants")
parser: Any = import_module("re._parser")
compiler: Any = import_module("re._compiler")
REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT)
ATOMS = (op.LITERAL, op.NOT_LITERAL, op.IN, op.ANY, op.CATEGORY)
ALPHABET = [*map(chr, range(32, 127)), "\n", "\r", "\t", "\0", "\u2028", "é", "字", "\u3000", "\U0001f642"]
MANY = 8  # a repeat with a lower limit than this can't be pumped
FUNCTIONS = {"compile", "match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"}
EVERY = 10_000
STAGES = (
    *((length, EVERY, 0.1) for length in (24, 512)),
    (8192, 5, 0.1),
    (65_536, 1, 0.1),
    (1_000_000, 1, 2.0),
)
"""Of each round: how long texts are, how many of the slowest go on, and the seconds of the processor that they have.

The first rounds show exponential time, the others cubic or quadratic, before it takes minutes. Linear is a twentieth.
"""
SURELY = 3
# A JavaScript literal appears in operand position.
LITERAL = re.compile(r"(?:[=(,:!&|?;{}\[]|=>|return)\s*/(?![/*])((?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+)/([a-z]*)")

# JavaScript syntax that Python lacks: any character, a letter, a Chinese character, and scripts within brackets.
IN_PYTHON = {
    "[^]": r"[\s\S]", r"\p{L}": r"[^\W\d_]", r"\p{Script=Han}": "[\u4e00-\u9fff]",
    r"\p{Script=Adlam}": "\U0001e900-\U0001e95f", r"\p{Script=Arabic}": "\u0600-\u06ff",
    r"\p{Script=Hebrew}": "\u0590-\u05ff", r"\p{Script=Nko}": "\u07c0-\u07ff",
    r"\p{Script=Syriac}": "\u0700-\u074f", r"\p{Script=Thaana}": "\u0780-\u07bf",
}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A pattern, its location, and the methods that use it."""

    place: str
    pattern: re.Pattern[Any]
    methods: frozenset[str]


def in_python() -> Iterator[Found | str]:
    """Yield the package's patterns; only the location of one that is computed at run time."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if BUILD not in path.parents and "migrations" not in path.parts:
            yield from _in_module(ast.parse(path.read_text(encoding="utf-8")), _module(path.relative_to(ROOT)))


def _module(path: Any) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _in_module(tree: ast.Module, name: str) -> Iterator[Found | str]:
    texts = [(node, *_text_of(node)) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    uses = _uses(tree)
    named = {id(node.value): ast.unparse(node.targets[0]) for node in ast.walk(tree) if isinstance(node, ast.Assign)}
    for node, text, method in texts:
        if text is None:
            continue
        place = f"{name}: {ast.unparse(text)}"
        varying = sorted({node.id for node in ast.walk(text) if isinstance(node, ast.Name)})
        try:
            arguments = [ast.unparse(text), *(ast.unparse(flags) for flags in _flags(node, method))]
            found = eval(f"re.compile({', '.join(arguments)})", {**vars(import_module(name)), "re": re})  # noqa: S307
        except NameError:
            yield f"{name}: {', '.join(varying)}"
            continue
        methods = uses.get(named.get(id(node), ""), set()) & FUNCTIONS if method == "compile" else {method}
        yield Found(place, found, frozenset(methods or {"search", "fullmatch"}))


def _text_of(node: ast.Call) -> tuple[ast.expr | None, str]:
    """Return a call's pattern and method, or None if it has no pattern."""
    called = ast.unparse(node.func)
    if called.startswith("re.") and called[3:] in FUNCTIONS:
        return node.args[0], called[3:]
    if called == "Meta" or called.endswith(".Meta"):  # msgspec searches
        return next((keyword.value for keyword in node.keywords if keyword.arg == "pattern"), None), "search"
    return None, ""


def _flags(node: ast.Call, method: str) -> list[ast.expr]:
    return node.args[1:] if method == "compile" else [word.value for word in node.keywords if word.arg == "flags"]


def _uses(tree: ast.Module) -> dict[str, set[str]]:
    """Return the methods that are called on each name."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found.setdefault(ast.unparse(node.value), set()).add(node.attr)
    return found


def in_javascript() -> Iterator[Found]:
    """Yield the page's patterns, converted to Python patterns with the same complexity."""
    for path in sorted(STATIC.glob("*.js")):
        source = re.sub(r"(?m)^\s*(//|/?\*).*$", "", path.read_text(encoding="utf-8"))
        for text, flags in LITERAL.findall(source):
            known = [getattr(re, flag.upper()) for flag in flags if flag in "ims"]
            methods = frozenset({"search", "split"} if "g" in flags else {"search"})
            yield Found(f"{path.name}: /{text}/{flags}", re.compile(_in_python(text), sum(known)), methods)


def _in_python(text: str) -> str:
    for javascript, python in IN_PYTHON.items():
        text = text.replace(javascript, python)
    return text


@dataclass(frozen=True)
class Worst:
    """A text that repeats a part, between a head and a tail that makes the match fail."""

    head: str
    part: str
    tail: str

    def text(self, length: int, pattern: re.Pattern[Any]) -> Any:
        found = self.head + self.part * (length // len(self.part)) + self.tail
        return found if isinstance(pattern.pattern, str) else found.encode()


def is_linear(found: Found) -> bool:
    """Return whether a pattern takes linear time on its worst texts, up to a million characters."""
    tries = [(worst, method) for worst in worst_texts(found.pattern) for method in sorted(found.methods)]
    for length, kept, limit in STAGES:
        took = {}
        for worst, method in tries:
            took[worst, method] = seconds = _took(found.pattern, method, worst.text(length, found.pattern), limit)
            if seconds > limit:
                return False
        tries = sorted(took, key=took.__getitem__)[-kept:]
    return True


def worst_texts(pattern: re.Pattern[Any]) -> set[Worst]:
    """Return texts that repeat what a repeat in the pattern matches, alone and with the text around it."""
    text = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    tree = parser.parse(text, pattern.flags)
    signs = Signs(tree)
    return {
        Worst(head, part, tail)
        for before, body, after in _repeats(tree, "", "", signs)
        for unit in signs.units(body)
        for head, part in (
            (before, unit),
            ("", before + unit),
            ("", "\n" + before + unit),
            (before, unit + after[:-1]),
            ("", before + unit + after[:-1]),
        )
        for tail in signs.tails
        if part
    }


class Signs:
    """Representative characters of a pattern: one of each class that its atoms treat alike."""

    def __init__(self, tree: Any) -> None:
        self._state = tree.state
        atoms = [self._compiled([atom]) for atom in _atoms(tree)]
        self._alphabet = {tuple(bool(atom.fullmatch(sign)) for atom in atoms): sign for sign in ALPHABET}.values()
        self.tails = {"", "\n\0", *self._alphabet}
        """Characters that make the match fail."""

    def units(self, body: Any) -> set[str]:
        """Return what a repeat's body matches: each single character, and its shortest text."""
        test = self._compiled(body)
        return {sign for sign in self._alphabet if test.fullmatch(sign)} | {self.sample(body)} - {""}

    def sample(self, items: Any) -> str:
        """Return a text for a part of the tree, with each repeat at least once."""
        return "".join(self._sample_of(kind, value) for kind, value in items)

    def _sample_of(self, kind: Any, value: Any) -> str:
        if kind is op.LITERAL:
            return chr(value)
        if kind in ATOMS:
            test = self._compiled([(kind, value)])
            return next(filter(test.fullmatch, self._alphabet), "")
        if kind in REPEATS:
            return self.sample(value[2]) * int(value[0] or 1)
        return next((self.sample(part) for part in _parts(kind, value)), "")

    def _compiled(self, items: Any) -> re.Pattern[str]:
        found: re.Pattern[str] = compiler.compile(parser.SubPattern(self._state, list(items)), self._state.flags)
        return found


def _repeats(items: Any, before: str, after: str, signs: Signs) -> Iterator[tuple[str, Any, str]]:
    """Yield the body of each unbounded repeat, with texts for what precedes and follows it."""
    for at, (kind, value) in enumerate(items):
        left, right = before + signs.sample(items[:at]), signs.sample(items[at + 1 :]) + after
        if kind in REPEATS and value[1] >= MANY:
            yield left, value[2], right
        for part in _parts(kind, value):
            yield from _repeats(part, left, right, signs)


def _parts(kind: Any, value: Any) -> Sequence[Any]:
    """Return the children of a node."""
    if kind in REPEATS:
        return [value[2]]
    if kind is op.SUBPATTERN:
        return [value[3]]
    if kind is op.BRANCH:
        return list(value[1])
    if kind is op.ATOMIC_GROUP:
        return [value]
    return []


def _atoms(items: Any) -> Iterator[Any]:
    for kind, value in items:
        if kind in ATOMS:
            yield kind, value
        for part in _parts(kind, value):
            yield from _atoms(part)


def _took(pattern: re.Pattern[Any], method: str, text: Any, enough: float) -> float:
    """Return the CPU seconds of a match; the minimum of three runs if the first is slow."""
    arguments = ("", text) if method in {"sub", "subn"} else (text,)
    least = float("inf")
    for _ in range(3):
        begun = time.process_time()
        found = getattr(pattern, method)(*arguments)
        if method == "finditer":
            list(found)
        took = time.process_time() - begun
        least = min(least, took)
        if not enough < took < SURELY * enough:
            break
    return least
