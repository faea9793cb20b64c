"""What a whole turn costs that has next to no tokens: the request, the rows, the call to the provider, the answer."""

from __future__ import annotations

import dataclasses
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

from bench import nginx, servers
from bench.load import Load, Target, drive
from bench.processes import cpu_seconds
from bench.stream import SETTLE_S
from bench.table import Report, Row, medians

NGINX_TIMES = 10  # nginx is that much quicker: it needs more turns for a CPU clock that counts in 10 ms
COLUMNS = {
    "server": "server",
    "answer": "answer",
    "turn_us": "CPU µs/turn",
    "ratio": "ratio to nginx",
    "latency_p50_ms": "latency p50 ms",
    "latency_p99_ms": "p99 ms",
    "turns_per_second": "turns/s",
}


def arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--turns", type=int, default=2000, help="turns of each kind (2000)")
    parser.add_argument("--concurrency", type=int, default=8, help="turns side by side (8)")


def measure(options: Namespace) -> Report:
    """Measure turns of one token, as a stream and as plain JSON, through chatkeep and through nginx."""
    each = max(1, options.turns // options.concurrency)
    loads = {
        "stream": Load(options.concurrency, each, stream=True),
        "json": Load(options.concurrency, each, stream=False),
    }
    with servers.folder() as place, servers.upstream(place) as direct:
        runs = [run(place, direct, loads, number) for number in range(options.runs)]
    rows = medians(runs)
    add_ratios(rows)
    parameters: Row = {"turns": options.turns, "concurrency": options.concurrency, "runs": options.runs}
    notes = ["Every turn begins a conversation: two messages, a lease and a conversation are written."]
    return Report("turn", parameters, COLUMNS, rows, runs, notes)


def run(place: Path, direct: Target, loads: dict[str, Load], number: int) -> list[Row]:
    """Measure each server once."""
    home = place / f"run{number}"
    home.mkdir()
    with servers.chatkeep(home, direct) as target:
        rows = [row(target, answer, load) for answer, load in loads.items()]
        servers.check_replies(target, servers.WARM_UP.total + sum(load.total for load in loads.values()))
    with nginx.proxy(place, direct) as proxy:
        if proxy:
            rows += [row(proxy, answer, more(load)) for answer, load in loads.items()]
    return rows


def more(load: Load) -> Load:
    """Return a load of the same kind with as many requests as nginx needs."""
    return dataclasses.replace(load, requests=load.requests * NGINX_TIMES)


def row(target: Target, answer: str, load: Load) -> Row:
    """Return the figures of one kind of turn on one server."""
    before = cpu_seconds(target.pid) if target.pid else 0.0
    seen = drive(target, load)
    time.sleep(SETTLE_S)
    spent = (cpu_seconds(target.pid) if target.pid else 0.0) - before
    return {
        "server": target.name,
        "answer": answer,
        "turn_us": spent * 1e6 / seen.requests,
        "latency_p50_ms": seen.latency_p50 / 1000,
        "latency_p99_ms": seen.latency_p99 / 1000,
        "turns_per_second": seen.requests / seen.wall,
    }


def add_ratios(rows: list[Row]) -> None:
    """Put into every row how many times nginx's cost of the same kind of turn its own is."""
    bases = {row["answer"]: row["turn_us"] for row in rows if row["server"] == "nginx"}
    for row in rows:
        cost, base = row["turn_us"], bases.get(row["answer"])
        row["ratio"] = cost / base if isinstance(cost, float) and isinstance(base, float) and base else None
