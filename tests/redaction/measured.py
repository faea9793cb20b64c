"""Measure recall, false positives and held-back characters of redaction."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from chatkeep.redaction import Redactor
from tests.redaction.cases import Case, cut


@dataclass(slots=True)
class Seen:
    """The results of one kind."""

    cases: int = 0
    right: int = 0
    """Cases with exactly the right labels."""
    differing: int = 0
    """Cases with another result in a stream."""
    held: list[int] = field(default_factory=list)
    """Characters held back after each piece."""


def measured(redactor: Redactor, cases: Iterable[Case]) -> dict[str, Seen]:
    """Redact every case, whole and in pieces. Return the results by kind."""
    rng = random.Random(1)  # noqa: S311 - the same pieces each time
    found: dict[str, Seen] = {}
    for case in cases:
        seen = found.setdefault(case.kind, Seen())
        text = redactor.redact(case.text).text
        seen.cases += 1
        seen.right += text == case.redacted
        seen.differing += "".join(streamed(redactor, cut(rng, case.text), seen)) != text
    return found


def streamed(redactor: Redactor, pieces: list[str], seen: Seen) -> Iterator[str]:
    """Yield a stream's output, and record how much it holds back."""
    stream = redactor.stream()
    for piece in pieces:
        yield stream.feed(piece)
        seen.held.append(stream.held)
    yield stream.end()
