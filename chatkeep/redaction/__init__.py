"""Finds sensitive text and puts a label in its place, also while the text comes in pieces; pure.

A text is the same however it is cut: each place is judged by what is around it in the whole text, and what could still
become a match is held back until it is judged. `Redactor.hold_back` is the most that is ever held back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from chatkeep.i18n import _, text_of
from chatkeep.redaction.automaton import MOST_INVISIBLE, SEEN_BEFORE, UNDECIDED, Automaton, Pattern, Unsupported
from chatkeep.redaction.kinds import KINDS, PATTERNS
from chatkeep.redaction.spelling import INVISIBLE, spelled

__all__ = ["KINDS", "OWN_WORD", "Redacted", "Redactor", "Stream", "Unsupported"]

MOST_WORDS = 1_000
MOST_ASCII = 2
"""Letters of a word that is not looked for in pieces: too many others have them one after the other."""
OWN_WORD = "word"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_REST = re.compile(rf"(?:[A-Za-z0-9_{INVISIBLE}-]|\.(?=[A-Za-z0-9_-]))*")


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text without what is sensitive in it, and the kinds of that."""

    text: str
    kinds: frozenset[str]


class Redactor:
    """Knows what is sensitive: the chosen kinds, own words, and own regular expressions by their kinds' names."""

    def __init__(
        self, kinds: Iterable[str] = KINDS, words: Iterable[str] = (), patterns: Mapping[str, str] | None = None
    ) -> None:
        """Raise `Unsupported` where a kind, a word or an expression cannot be looked for."""
        chosen = frozenset(kinds)
        if unknown := chosen - {*KINDS}:
            raise Unsupported(
                _(
                    "there is no kind {unknown}; there are {kinds}",
                    unknown=", ".join(sorted(unknown)),
                    kinds=", ".join(KINDS),
                )
            )
        found = [pattern for pattern in PATTERNS if pattern.kind in chosen]
        found += _words([*words])
        found += [_own(name, regex) for name, regex in (patterns or {}).items()]
        self.automaton = Automaton(found)
        spelled("\u3002")  # makes its table now and not in the first reply
        self.hold_back = self.automaton.width + MOST_INVISIBLE
        """The most characters that a stream holds back."""

    def whole(self, text: str) -> Redacted:
        """Return a whole text with labels in place of what is sensitive."""
        stream = self.stream()
        return Redacted(stream.feed(text) + stream.end(), frozenset(stream.kinds))

    def stream(self, *, ends_at_first: bool = False) -> Stream:
        """Return what redacts a text that comes in pieces; with ``ends_at_first`` it ends before what is sensitive."""
        return Stream(self.automaton, ends_at_first=ends_at_first)


class Stream:
    """A text that comes in pieces. What `feed` and `end` return, joined, is the same however the text was cut."""

    def __init__(self, automaton: Automaton, *, ends_at_first: bool) -> None:
        self.kinds: set[str] = set()
        """What was found so far."""
        self._automaton = automaton
        self._ends_at_first = ends_at_first
        self._text = self._spelled = ""
        """What is held back, and before it what the checks look at."""
        self._held = 0
        self._goes_on = False

    @property
    def held(self) -> int:
        """How many characters are held back."""
        return len(self._text) - self._held

    def feed(self, text: str) -> str:
        """Return what can be shown after one more piece of the text."""
        return self._judged(text, final=False)

    def end(self) -> str:
        """Return the rest: nothing more comes."""
        return self._judged("", final=True)

    def _judged(self, text: str, *, final: bool) -> str:
        if self._ends_at_first and self.kinds:
            return ""
        text, whole = self._text + text, self._spelled + spelled(text)
        shown: list[str] = []
        at = place = self._held
        while True:
            if self._goes_on:
                at = place = self._passed(whole, at, final=final)
                if self._goes_on:
                    break
            found = self._automaton.begin.search(whole, place)
            begin = found.start() if found else len(text)
            end, pattern = self._automaton.judge(whole, begin, final=final) if found else (UNDECIDED, None)
            if end == UNDECIDED:
                shown.append(text[at:begin])
                at = begin
                break
            if pattern is None:
                place = begin + 1
                continue
            shown.append(text[at:begin])
            self.kinds.add(pattern.kind)
            if self._ends_at_first:
                break
            shown.append(f"[{pattern.kind}]")
            at = place = end
            self._goes_on = pattern.goes_on
        seen = max(0, at - SEEN_BEFORE)
        self._text, self._spelled, self._held = text[seen:], whole[seen:], at - seen
        return "".join(shown)

    def _passed(self, whole: str, at: int, *, final: bool) -> int:
        """Return where the rest of a match ends that has no end of its own, or how far it is known to go on."""
        found = _REST.match(whole, at)
        end = found.end() if found else at
        # A dot belongs to the match only if a letter follows.
        self._goes_on = not final and whole[end:] in {"", "."}
        return end


def _words(words: list[str]) -> list[Pattern]:
    if len(words) > MOST_WORDS:
        raise Unsupported(_("there are more than {count} words", count=MOST_WORDS))
    return [Pattern(OWN_WORD, regex) for word in words for regex in _spellings(spelled(word).replace(INVISIBLE, ""))]


def _spellings(word: str) -> list[str]:
    """Return expressions for a word in letters of any case, as it is and with something between all its letters."""
    letters = [f"[{re.escape(letter.lower())}{re.escape(letter.upper()[:1])}]" for letter in word]
    apart = len(word) > (MOST_ASCII if word.isascii() else 1)
    return ["".join(letters), *(["[-._* ]".join(letters)] if apart else [])]


def _own(name: str, regex: str) -> Pattern:
    if not _NAME.fullmatch(name):
        raise Unsupported(
            _("{name}: a name has up to 32 of the characters a-z, 0-9 and -, and begins with a letter", name=name)
        )
    try:
        re.compile(regex)
        Automaton([Pattern(name, regex)]).require_settling(regex)
    except (re.error, Unsupported, RecursionError, OverflowError) as error:
        raise Unsupported(_("the pattern {name}: {reason}", name=name, reason=text_of(error))) from error
    return Pattern(name, regex)
