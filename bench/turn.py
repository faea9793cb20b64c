"""Cost of a whole turn of one token: the request, the rows, the call to the provider, the response."""

from __future__ import annotations

import dataclasses
from argparse import ArgumentParser, Namespace
from pathlib import Path

from bench import databases, nginx, servers
from bench.load import Load, Target
from bench.stream import each, timed
from bench.table import Report, Row, medians

KINDS = ("stream", "json")
CONCURRENCY = 8
NGINX_TIMES = 10  # nginx is faster, and needs more turns for a CPU clock of 10 ms
COLUMNS = {
    "server": "server",
    "answer": "answer",
    "turn_us": "CPU µs/turn",
    "ratio": "ratio to nginx",
    "database_us": "database CPU µs/turn",
    "latency_p50_ms": "latency p50 ms",
    "latency_p99_ms": "p99 ms",
    "turns_per_second": "turns/s",
}


def arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--turns", type=int, default=2000, help="turns of each kind (2000)")
    parser.add_argument("--concurrency", type=int, default=CONCURRENCY, help=f"turns side by side ({CONCURRENCY})")
    databases.argument(parser)


def measure(options: Namespace) -> Report:
    """Measure turns of one token, as a stream and as plain JSON, through chatkeep and through nginx."""
    loads = loads_of(options.turns, options.concurrency)
    with (
        servers.folder() as place,
        servers.upstream(place) as direct,
        databases.chosen(options.database) as database,
    ):
        runs = [run(place, direct, loads, database, number) for number in range(options.runs)]
    rows = medians(runs)
    add_ratios(rows)
    parameters: Row = {
        "turns": options.turns, "concurrency": options.concurrency, "database": options.database, "runs": options.runs,
    }  # fmt: skip
    notes = ["Every turn begins a conversation, and writes two messages, a lease and a conversation."]
    return Report("turn", parameters, databases.shown(COLUMNS, options.database), rows, runs, notes)


def loads_of(turns: int, concurrency: int = CONCURRENCY, tokens: int = 1) -> dict[str, Load]:
    """Return the loads for both kinds of response."""
    each_does = max(1, turns // concurrency)
    return {kind: Load(concurrency, each_does, stream=kind == "stream", tokens=tokens) for kind in KINDS}


def run(
    place: Path, direct: Target, loads: dict[str, Load], database: databases.Server | None, number: int
) -> list[Row]:
    """Measure each server once."""
    home = place / f"run{number}"
    home.mkdir()
    url = database.new_database() if database else None
    with servers.chatkeep(home, direct, url) as target:
        rows = [row(target, answer, load, database) for answer, load in loads.items()]
        servers.check_replies(target, servers.WARM_UP.total + sum(load.total for load in loads.values()))
    with nginx.proxy(place, direct) as proxy:
        if proxy:
            rows += [row(proxy, answer, more(load)) for answer, load in loads.items()]
    return rows


def more(load: Load) -> Load:
    """Return the same load with as many requests as nginx needs."""
    return dataclasses.replace(load, requests=load.requests * NGINX_TIMES)


def row(target: Target, answer: str, load: Load, database: databases.Server | None = None) -> Row:
    """Return the figures of one kind of turn on one server."""
    seen, spent = timed(target, load, database)
    return {
        "server": target.name,
        "answer": answer,
        "turn_us": each(spent[0], seen.requests),
        "database_us": each(spent[1], seen.requests),
        "latency_p50_ms": seen.latency_p50 / 1000,
        "latency_p99_ms": seen.latency_p99 / 1000,
        "turns_per_second": seen.requests / seen.wall,
    }


def add_ratios(rows: list[Row]) -> None:
    """Add the cost relative to nginx for the same kind of turn to every row."""
    bases = {row["answer"]: row["turn_us"] for row in rows if row["server"] == "nginx"}
    for row in rows:
        cost, base = row["turn_us"], bases.get(row["answer"])
        row["ratio"] = cost / base if isinstance(cost, float) and isinstance(base, float) and base else None
