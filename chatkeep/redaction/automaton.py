"""Match regular expressions incrementally, in linear time, and know whether more text could still become a match.

Python's `re` can do neither. Here an expression becomes a finite automaton whose states are built lazily. Expressions
that a finite automaton can't express are refused, and so are unbounded ones, because text that could become a match is
held back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import combinations
from random import Random
from typing import Any

from chatkeep.i18n import _
from chatkeep.redaction.spelling import INVISIBLE, normalise

# The parser of `re` is private. It has had this name since Python 3.11.
op: Any = import_module("re._constants")
parser: Any = import_module("re._parser")
MOST_INVISIBLE = 64
"""The most zero-width characters in a match, beyond `MOST_WIDTH`."""
MOST_WIDTH = 200
"""The most characters of a match."""
MOST_NODES = 20_000
"""The most nodes of an expression."""
MOST_KNOWN = 100_000
"""The most cached transitions, about 10 MB."""
MOST_NEW = 20
"""The most new transitions per character after `TRIED` characters: a few thousand take a second."""
TRIED = 300
_LIKELY = 4
_COMMON = "0aA -字"
SEEN_BEFORE = 16
UNDECIDED = -1
_ALNUM = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_CATEGORIES = {
    op.CATEGORY_DIGIT: r"\d",
    op.CATEGORY_NOT_DIGIT: r"\D",
    op.CATEGORY_SPACE: r"\s",
    op.CATEGORY_NOT_SPACE: r"\S",
    op.CATEGORY_WORD: r"\w",
    op.CATEGORY_NOT_WORD: r"\W",
}
_REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT)


def _always(_text: str, _begin: int, _end: int) -> bool:
    return True


def _anywhere(_before: str) -> bool:
    return True


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """An expression for a kind of sensitive text, normalised by `normalise`."""

    kind: str
    regex: str
    check: Callable[[str, int, int], bool] = _always
    """Verify a match in a text from begin to end. It may look at one character after it."""
    fits: Callable[[str], bool] = _anywhere
    """Whether a match can follow this text, which is up to `SEEN_BEFORE` characters before it."""
    goes_on: bool = False
    """Whether a match is open-ended: the rest of its word belongs to it."""


class Unsupported(ValueError):
    """An expression is not supported; the message says why."""


class _State(dict[str, "_State | None"]):
    """A state of the automaton: its transitions by character, None if there is none."""

    __slots__ = ("_automaton", "accepts", "nodes")

    def __init__(self, automaton: Automaton, nodes: frozenset[int], accepts: tuple[Pattern, ...]) -> None:
        super().__init__()
        self._automaton = automaton
        self.nodes = nodes
        self.accepts = accepts

    def __missing__(self, character: str) -> _State | None:
        found = self[character] = self._automaton.step(self, character)
        return found


class Automaton:
    """Matches several patterns at once."""

    def __init__(self, patterns: list[Pattern]) -> None:
        self.width = 0
        """The most characters of a match."""
        self._steps: list[list[tuple[str, int]]] = [[]]
        self._free: list[list[int]] = [[]]
        self._most_nodes = 0
        self._accepts: dict[int, Pattern] = {}
        for pattern in patterns:
            self._add(pattern)
        self._states: dict[frozenset[int], _State] = {}
        self._known = self._made = 0
        self._start = self._state(self._closure({0}))
        self.begin = self._beginnings()
        """Finds where a match can begin, which is never within an ASCII word or number."""

    def match(self, text: str, begin: int, *, final: bool) -> tuple[int, Pattern | None]:
        """Return the end and the pattern of the longest match at ``begin``; None as the pattern if there is none.

        The end is `UNDECIDED` if it depends on text to come, unless the text is ``final``.
        """
        found: list[tuple[int, tuple[Pattern, ...]]] = []
        state = self._start
        invisible = 0
        for at in range(begin, len(text)):
            character = text[at]
            if character == INVISIBLE:
                invisible += 1
                if invisible > MOST_INVISIBLE:
                    break
                continue
            following = state[character]
            if following is None:
                break
            state = following
            if state.accepts:
                endless = _endless(state.accepts, text, begin, at + 1)
                if endless is not None:
                    return at + 1, endless
                found.append((at + 1, state.accepts))
        else:
            if not final:
                return UNDECIDED, None
        return _longest(text, begin, found)

    def step(self, state: _State, character: str) -> _State | None:
        """Return the state after a character, or None if no match can continue."""
        self._known += 1
        self._made += 1
        if self._known > MOST_KNOWN:
            self._clear_cache()
        nodes = {node for origin in state.nodes for test, node in self._steps[origin] if _test(test)(character)}
        return self._state(self._closure(nodes)) if nodes else None

    def require_bounded_states(self, characters: str) -> None:
        """Raise `Unsupported` if texts of these characters keep leading to new states.

        An expression can have exponentially many states, and a text that visits them would block the server for
        minutes.
        """
        fits = {character: self._fits(normalise(character)) for character in {*characters, *_COMMON}}
        likely = sorted((one for one in fits if fits[one]), key=lambda one: (-fits[one], one))
        if not all(map(self._settles_on, combinations(likely[:_LIKELY], 2))):
            raise Unsupported(_("it would take too long on some texts; give its repeats lower limits"))

    def _fits(self, character: str) -> int:
        return sum(bool(_test(test)(character)) for steps in self._steps for test, _ in steps)

    def _settles_on(self, characters: Sequence[str]) -> bool:
        dice = Random(0)  # noqa: S311 - the same at every start
        first, second = (normalise("".join(dice.choices(characters, k=TRIED))) for _ in range(2))
        self._match_all(first)
        before = self._made
        self._match_all(second)
        return self._made - before < MOST_NEW * TRIED

    def _match_all(self, text: str) -> None:
        for begin in range(len(text)):
            self.match(text, begin, final=True)

    def _clear_cache(self) -> None:
        """Clear all cached transitions."""
        self._known = 0
        for state in [self._start, *self._states.values()]:
            state.clear()
        self._states.clear()

    def _state(self, nodes: frozenset[int]) -> _State:
        found = self._states.get(nodes)
        if found is None:
            found = self._states[nodes] = _State(self, nodes, self._patterns(nodes))
        return found

    def _patterns(self, nodes: frozenset[int]) -> tuple[Pattern, ...]:
        return tuple(self._accepts[node] for node in sorted(nodes) if node in self._accepts)

    def _closure(self, nodes: set[int]) -> frozenset[int]:
        """Return the epsilon closure of these nodes."""
        found, new = set(nodes), list(nodes)
        while new:
            for node in self._free[new.pop()]:
                if node not in found:
                    found.add(node)
                    new.append(node)
        # Other nodes have no effect.
        return frozenset(node for node in found if self._steps[node] or node in self._accepts)

    def _beginnings(self) -> re.Pattern[str]:
        tests = sorted({test for node in self._start.nodes for test, _ in self._steps[node]})
        return re.compile(f"(?:{'|'.join(tests)})(?<![A-Za-z0-9][A-Za-z0-9])" if tests else r"(?!)")

    def _add(self, pattern: Pattern) -> None:
        tree = parser.parse(pattern.regex)
        least, most = tree.getwidth()
        if most >= op.MAXREPEAT:
            raise Unsupported(_("it has no longest match; give repeats a limit in place of + and *"))
        if most > MOST_WIDTH:
            raise Unsupported(
                _("its longest match has {count} characters; the most are {most}", count=most, most=MOST_WIDTH)
            )
        if not least:
            raise Unsupported(_("it matches nothing at all, too"))
        self.width = max(self.width, most)
        self._most_nodes = len(self._steps) + MOST_NODES
        end = self._build(tree, self._node(0), ignore_case=bool(tree.state.flags & re.IGNORECASE))
        self._accepts[end] = pattern

    def _node(self, *origins: int) -> int:
        """Return a new node with epsilon transitions from others."""
        if len(self._steps) > self._most_nodes:
            raise Unsupported(_("it is too large"))
        self._steps.append([])
        self._free.append([])
        for origin in origins:
            self._free[origin].append(len(self._steps) - 1)
        return len(self._steps) - 1

    def _build(self, tree: Any, start: int, *, ignore_case: bool) -> int:
        """Add a parsed expression after a node. Return the node at its end."""
        for kind, value in tree:
            if kind is op.SUBPATTERN and not value[1] and not value[2]:
                start = self._build(value[3], start, ignore_case=ignore_case)
            elif kind is op.BRANCH:
                ends = [self._build(branch, self._node(start), ignore_case=ignore_case) for branch in value[1]]
                start = self._node(*ends)
            elif kind is op.LITERAL and normalise(chr(value)) == INVISIBLE:
                continue  # matching skips it
            elif kind in _REPEATS:
                start = self._repeat(value, start, ignore_case=ignore_case)
            else:
                test = _class_of(kind, value)
                node = self._node()
                self._steps[start].append((f"(?i:{test})" if ignore_case else test, node))
                start = node
        return start

    def _repeat(self, value: tuple[int, int, Any], start: int, *, ignore_case: bool) -> int:
        least, most, body = value
        ends = []
        for number in range(most):
            if number >= least:
                ends.append(start)
            start = self._build(body, self._node(start), ignore_case=ignore_case)
        return self._node(*ends, start)


def _endless(patterns: tuple[Pattern, ...], text: str, begin: int, end: int) -> Pattern | None:
    """Return the first open-ended pattern whose match is verified, or None."""
    for pattern in patterns:
        if pattern.goes_on and pattern.check(text, begin, end):
            return pattern
    return None


def _longest(text: str, begin: int, found: list[tuple[int, tuple[Pattern, ...]]]) -> tuple[int, Pattern | None]:
    before = text[max(0, begin - SEEN_BEFORE) : begin]
    # Once for each pattern, not for each end: hostile texts have many ends.
    fitting = {
        pattern for pattern in {pattern for _, patterns in found for pattern in patterns} if pattern.fits(before)
    }
    for end, patterns in reversed(found) if fitting else ():
        if not _ends_amid(text, end):
            for pattern in patterns:
                if pattern in fitting and not pattern.goes_on and pattern.check(text, begin, end):
                    return end, pattern
    return begin, None


def _ends_amid(text: str, end: int) -> bool:
    """Return whether an ASCII word or number continues there."""
    last = end - 1
    following = text[end : end + MOST_INVISIBLE + 1].lstrip(INVISIBLE)[:1]
    return text[last] in _ALNUM and following in _ALNUM


@cache
def _test(regex: str) -> Callable[[str], object]:
    return re.compile(regex).match


def _class_of(kind: Any, value: Any) -> str:
    """Return the expression of one character."""
    if kind is op.LITERAL:
        return re.escape(normalise(chr(value)))
    if kind is op.NOT_LITERAL:
        return f"[^{re.escape(normalise(chr(value)))}]"
    if kind is op.ANY:
        return r"[^\n]"
    if kind is op.IN:
        return f"[{''.join(_member_of(*item) for item in value)}]"
    raise Unsupported(_("anchors, \\b, look-arounds, references and flags for a part are not understood"))


def _member_of(kind: Any, value: Any) -> str:
    if kind is op.NEGATE:
        return "^"
    if kind is op.RANGE:
        return f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}"
    return _CATEGORIES[value] if kind is op.CATEGORY else re.escape(normalise(chr(value)))
