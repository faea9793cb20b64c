"""Benchmarks: `./dev bench NAME`. They run on this machine, in temporary folders, with one server process.

stream: cost of a streamed token; turn: cost of a turn of one token; cached: cost of a cached reply and of reading a
conversation; limits: cost that keys and limits add to a turn; hold: memory of an open stream; write: cost of storing a
turn, compared with the raw driver; store: cost of listing and reading as the store grows; export: cost of exports,
compared with the database's own program; life: latency of turns during exports and the sweep; crowd: latency of streams
during searches, exports, a sweep and an erasure; start: installed size and time to the first response; page: load of
the chat page on a browser; redact: cost and accuracy of redaction; peers: the same work in LiteLLM's proxy, which is
installed for it; all: all of them except peers, with smaller loads. Costs are CPU time, because wall time varies with
the machine's load. nginx as a plain proxy in the same run is the baseline. docs/performance.md explains the figures and
lists the commands of the published ones.
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
            child.add_argument("--runs", type=int, default=3, help="runs, of which the median is shown (3)")
        bench.arguments(child)
    chosen.add_parser("all", help=ALL, description=ALL)
    for child in chosen.choices.values():
        child.add_argument("--json", action="store_true", help="print the figures of every run as JSON")
    return found


def environment() -> dict[str, Value]:
    """Return the machine and the versions that affect the figures."""
    return {
        "cores": os.cpu_count(),
        "load before": round(os.getloadavg()[0], 2),  # on a busy machine, caches miss more often
        "Python": platform.python_version(),
        "gunicorn": version("gunicorn"),
        "gevent": version("gevent"),
        "SQLite": apsw.sqlite_lib_version(),
        "nginx": nginx.version(),
        **databases.versions(),
    }


def reports(options: Namespace) -> list[Report]:
    """Run the selected benchmarks."""
    if options.bench != "all":
        return [BENCHES[options.bench].measure(options)]
    found = []
    for arguments in SHORT:
        print(f"bench: {' '.join(arguments)} …", file=sys.stderr)
        found.append(BENCHES[arguments[0]].measure(parser().parse_args(arguments)))
    return found


def show(around: dict[str, Value], found: list[Report], *, as_document: bool) -> None:
    """Print the reports."""
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that started processes end
    allow_many_files()
    try:
        show(environment(), reports(options), as_document=options.json)
    except (BenchError, subprocess.CalledProcessError) as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
