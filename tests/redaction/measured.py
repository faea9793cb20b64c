"""How often what is sensitive is found, what is not is taken for it, and how much is held back meanwhile."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from chatkeep.redaction import Redactor
from tests.redaction.cases import Case, cut


@dataclass(slots=True)
class Seen:
    """What became of the cases of one kind."""

    cases: int = 0
    right: int = 0
    """Those of which exactly what is sensitive was labelled."""
    differing: int = 0
    """Those of which a stream made something else."""
    held: list[int] = field(default_factory=list)
    """How many characters were held back, after each piece."""


def measured(redactor: Redactor, cases: Iterable[Case]) -> dict[str, Seen]:
    """Redact every case, whole and in pieces; return what was seen, by kind."""
    rng = random.Random(1)  # noqa: S311 - the same pieces each time
    found: dict[str, Seen] = {}
    for case in cases:
        seen = found.setdefault(case.kind, Seen())
        text = redactor.whole(case.text).text
        seen.cases += 1
        seen.right += text == case.redacted
        seen.differing += "".join(streamed(redactor, cut(rng, case.text), seen)) != text
    return found


def streamed(redactor: Redactor, pieces: list[str], seen: Seen) -> Iterator[str]:
    """Yield what a stream shows; note how much it holds back."""
    stream = redactor.stream()
    for piece in pieces:
        yield stream.feed(piece)
        seen.held.append(stream.held)
    yield stream.end()
