"""Cost of redaction in a stream, the text that it holds back, and its hits and false positives."""

from __future__ import annotations

import random
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from bench.table import Report, Row, medians
from chatkeep.redaction import Redactor
from tests.redaction.cases import SENSITIVE, Case, chinese, english, ordinary, sensitive
from tests.redaction.measured import Seen, measured

TOKEN = 4  # characters
COLUMNS = {
    "text": "text",
    "cases": "cases",
    "token_us": "CPU µs/token",
    "held_mean": "held back, mean",
    "held_most": "most",
    "right": "right %",
    "wrong": "wrong",
    "differing": "cut otherwise: differing",
}


def arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--cases", type=int, default=100_000, help="texts, half of them harmless (100,000)")


def measure(options: Namespace) -> Report:
    """Measure texts with and without sensitive content, cut into tokens."""
    redactor = Redactor()
    runs = [run(redactor, options.cases, seed) for seed in range(options.runs)]
    parameters: Row = {"cases": options.cases, "characters a token": TOKEN, "runs": options.runs}
    notes = [
        f"Characters are held back while they could become something sensitive: {redactor.hold_back} at most.",
        "An ordinary text is right if nothing in it changed; another one if exactly what is sensitive was labelled.",
    ]
    return Report("redact", parameters, COLUMNS, medians(runs), runs, notes)


def run(redactor: Redactor, count: int, seed: int) -> list[Row]:
    """Return a row for each kind of text."""
    rng = random.Random(seed)  # noqa: S311 - the same texts each time
    makers: dict[str, tuple[int, Callable[[], Case]]] = {
        "Chinese prose": (count // 8, lambda: plain(chinese(rng))),
        "English prose": (count // 8, lambda: plain(english(rng))),
        "with ordinary numbers and code": (count // 4, lambda: ordinary(rng)),
    }
    for kind in SENSITIVE:
        makers[f"with {kind}"] = (count // 2 // len(SENSITIVE), lambda kind=kind: sensitive(rng, kind))  # type: ignore[misc]
    return [row(redactor, name, [make() for _ in range(max(1, many))]) for name, (many, make) in makers.items()]


def plain(text: str) -> Case:
    """Return prose as a case."""
    return Case("ordinary", text, text)


def row(redactor: Redactor, name: str, cases: list[Case]) -> Row:
    """Return the figures of one kind of text."""
    (seen,) = measured(redactor, cases).values()
    return {
        "text": name,
        "cases": seen.cases,
        "token_us": token_us(redactor, [case.text for case in cases]),
        **figures(seen),
    }


def figures(seen: Seen) -> Row:
    """Return the findings and the text held back."""
    return {
        "held_mean": sum(seen.held) / len(seen.held),
        "held_most": max(seen.held),
        "right": 100 * seen.right / seen.cases,
        "wrong": seen.cases - seen.right,
        "differing": seen.differing,
    }


def token_us(redactor: Redactor, texts: list[str]) -> float:
    """Return the CPU µs of a token, including the set-up of a stream for each text."""
    cut = [[text[at : at + TOKEN] for at in range(0, len(text), TOKEN)] for text in texts]
    begun = time.process_time()
    for pieces in cut:
        stream = redactor.stream()
        for piece in pieces:
            stream.feed(piece)
        stream.end()
    return (time.process_time() - begun) * 1e6 / sum(map(len, cut))
