"""Replace sensitive text by labels, also in a stream. Pure.

The result does not depend on how a text is split: text that could still become a match is held back until it is
decided. `Redactor.hold_back` is the most characters that are ever held back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from chatkeep.i18n import _, text_of
from chatkeep.redaction.automaton import MOST_INVISIBLE, SEEN_BEFORE, UNDECIDED, Automaton, Pattern, Unsupported
from chatkeep.redaction.kinds import KINDS, PATTERNS
from chatkeep.redaction.spelling import INVISIBLE, normalise

__all__ = ["KINDS", "OWN_WORD", "Redacted", "Redactor", "Stream", "Unsupported"]

MOST_WORDS = 1_000
MOST_ASCII = 2
"""Words of up to this many letters are not searched with separators between them: too many texts would match."""
OWN_WORD = "word"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_REST = re.compile(rf"(?:[A-Za-z0-9_{INVISIBLE}-]|\.(?=[A-Za-z0-9_-]))*")


@dataclass(frozen=True, slots=True)
class Redacted:
    """A redacted text, and the kinds of what was found."""

    text: str
    kinds: frozenset[str]


class Redactor:
    """Finds the chosen kinds, the operator's words, and the operator's regular expressions by name."""

    def __init__(
        self, kinds: Iterable[str] = KINDS, words: Iterable[str] = (), patterns: Mapping[str, str] | None = None
    ) -> None:
        """Raise `Unsupported` if a kind, a word or an expression is not supported."""
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
        normalise("\u3002")  # builds its table now, not during the first reply
        self.hold_back = self.automaton.width + MOST_INVISIBLE
        """The most characters that a stream holds back."""

    def redact(self, text: str) -> Redacted:
        """Redact a whole text."""
        stream = self.stream()
        return Redacted(stream.feed(text) + stream.end(), frozenset(stream.kinds))

    def stream(self, *, ends_at_first: bool = False) -> Stream:
        """Return a stream. With ``ends_at_first`` it ends before the first match."""
        return Stream(self.automaton, ends_at_first=ends_at_first)


class Stream:
    """Redacts a text in pieces. The joined results do not depend on how it was split."""

    def __init__(self, automaton: Automaton, *, ends_at_first: bool) -> None:
        self.kinds: set[str] = set()
        """The kinds found so far."""
        self._automaton = automaton
        self._ends_at_first = ends_at_first
        self._text = self._spelled = ""
        """The text held back, after the context that checks need."""
        self._held = 0
        self._goes_on = False

    @property
    def held(self) -> int:
        """How many characters are held back."""
        return len(self._text) - self._held

    def feed(self, text: str) -> str:
        """Add a piece, and return the text that is decided."""
        return self._advance(text, final=False)

    def end(self) -> str:
        """Return the rest of the text."""
        return self._advance("", final=True)

    def _advance(self, text: str, *, final: bool) -> str:
        if self._ends_at_first and self.kinds:
            return ""
        text, whole = self._text + text, self._spelled + normalise(text)
        shown: list[str] = []
        at = place = self._held
        while True:
            if self._goes_on:
                at = place = self._end_of_match(whole, at, final=final)
                if self._goes_on:
                    break
            found = self._automaton.begin.search(whole, place)
            begin = found.start() if found else len(text)
            end, pattern = self._automaton.match(whole, begin, final=final) if found else (UNDECIDED, None)
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

    def _end_of_match(self, whole: str, at: int, *, final: bool) -> int:
        """Return the end of an open-ended match, as far as it is known."""
        found = _REST.match(whole, at)
        end = found.end() if found else at
        # A dot belongs to the match only if a letter follows.
        self._goes_on = not final and whole[end:] in {"", "."}
        return end


def _words(words: list[str]) -> list[Pattern]:
    if len(words) > MOST_WORDS:
        raise Unsupported(_("there are more than {count} words", count=MOST_WORDS))
    return [Pattern(OWN_WORD, regex) for word in words for regex in _spellings(normalise(word).replace(INVISIBLE, ""))]


def _spellings(word: str) -> list[str]:
    """Return case-insensitive expressions for a word, as it is and with separators between its letters."""
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
        Automaton([Pattern(name, regex)]).require_bounded_states(regex)
    except (re.error, Unsupported, RecursionError, OverflowError) as error:
        raise Unsupported(_("the pattern {name}: {reason}", name=name, reason=text_of(error))) from error
    return Pattern(name, regex)
