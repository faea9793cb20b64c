"""Benchmarks: `./dev bench WHAT`. Everything runs on this machine, in temporary folders, with one server process.

stream: what a streamed token costs; turn: what a turn of one token costs; cached: what an answer from the cache and
reading a conversation cost; limits: what keys and limits add to a turn; hold: what an open stream holds; write: what
storing a turn costs beside the raw driver; store: whether listing and reading stay flat while the store grows; export:
what exports cost beside the database's own program; life: what turns feel of exports and of the sweep; crowd: what
streams feel of searches, exports, a sweep and an erasure at once; start: installed size and time to the first answer;
page: what the chat page weighs in a browser; redact: what looking for sensitive text costs, and what it finds; peers:
the same work in LiteLLM's proxy, which is installed for it; all: every one of them but peers, smaller. Costs are CPU
time, which compares where wall time does not; nginx as a plain proxy in the same run is the measure. What the figures
mean, and which commands make those that are published: docs/performance.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from importlib.metadata import version

import apsw

from bench import (
    cached,
    crowd,
    databases,
    export,
    hold,
    life,
    limits,
    nginx,
    page,
    peers,
    redact,
    start,
    store,
    stream,
    turn,
    write,
)  # fmt: skip
from bench.processes import BenchError, allow_many_files
from bench.table import Report, Value, as_json, as_text

BENCHES = {
    "stream": stream,
    "turn": turn,
    "cached": cached,
    "limits": limits,
    "hold": hold,
    "write": write,
    "store": store,
    "export": export,
    "life": life,
    "crowd": crowd,
    "start": start,
    "page": page,
    "redact": redact,
    "peers": peers,
}
ALL = "All of them but peers, smaller."
SHORT = [
    ("stream", "--runs=1"),
    ("turn", "--runs=1", "--turns=800"),
    ("cached", "--runs=1", "--requests=800"),
    ("limits", "--runs=1", "--turns=800"),
    ("hold", "--runs=1", "--streams=200", "--seconds=10"),
    ("write", "--runs=1", "--turns=800", "--messages", "10000", "100000"),
    ("write", "--runs=1", "--turns=800", "--messages", "10000", "--database=mariadb"),
    ("write", "--runs=1", "--turns=800", "--messages", "10000", "--database=mysql"),
    ("store", "--runs=1", "--requests=400", "--messages", "10000", "100000"),
    ("export", "--runs=1", "--messages=100000"),
    ("export", "--runs=1", "--messages=100000", "--database=mariadb"),
    ("life", "--runs=1", "--messages=100000", "--seconds=5"),
    ("life", "--runs=1", "--messages=100000", "--seconds=5", "--database=mariadb"),
    ("crowd", "--runs=1", "--messages=100000", "--seconds=10"),
    ("crowd", "--runs=1", "--messages=100000", "--seconds=10", "--database=mariadb"),
    ("start", "--launches=3"),
    ("page", "--runs=1"),
    ("redact", "--runs=1", "--cases=8000"),
]


def parser() -> ArgumentParser:
    """Return the parser of the command line."""
    found = ArgumentParser(prog="./dev bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    chosen = found.add_subparsers(dest="bench", required=True, metavar="WHAT")
    for name, bench in BENCHES.items():
        child = chosen.add_parser(name, help=bench.__doc__, description=bench.__doc__)
        if bench is not start:
            child.add_argument(
                "--runs", type=int, default=3, help="how often a figure is taken; the median is shown (3)"
            )
        bench.arguments(child)
    chosen.add_parser("all", help=ALL, description=ALL)
    for child in chosen.choices.values():
        child.add_argument(
            "--json", action="store_true", help="print JSON with every run's figures in place of a table"
        )
    return found


def environment() -> dict[str, Value]:
    """Return what the figures depend on beside chatkeep."""
    return {
        "cores": os.cpu_count(),
        "load before": round(os.getloadavg()[0], 2),  # what else ran: a busy machine's caches make everything dearer
        "Python": platform.python_version(),
        "gunicorn": version("gunicorn"),
        "gevent": version("gevent"),
        "SQLite": apsw.sqlite_lib_version(),
        "nginx": nginx.version(),
        **databases.versions(),
    }


def reports(options: Namespace) -> list[Report]:
    """Measure what was asked for."""
    if options.bench != "all":
        return [BENCHES[options.bench].measure(options)]
    found = []
    for arguments in SHORT:
        print(f"bench: {' '.join(arguments)} …", file=sys.stderr)
        found.append(BENCHES[arguments[0]].measure(parser().parse_args(arguments)))
    return found


def show(around: dict[str, Value], found: list[Report], *, as_document: bool) -> None:
    """Print what was found."""
    if as_document:
        print(as_json(around, found))
        return
    print(", ".join(f"{name} {'absent' if value is None else value}" for name, value in around.items()))
    for report in found:
        print(f"\n{as_text(report)}")
    if not nginx.find():
        print(nginx.ABSENT)


def main() -> None:
    """Run the command line."""
    options = parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that whatever was started is ended
    allow_many_files()
    try:
        show(environment(), reports(options), as_document=options.json)
    except (BenchError, subprocess.CalledProcessError) as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
