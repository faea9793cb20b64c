"""What a streamed token costs, and how much later it arrives than without a server in between."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

from bench import mariadb, nginx, servers
from bench.load import Load, Outcome, Target, drive
from bench.processes import BenchError, cpu_seconds
from bench.table import Report, Row, add_ratio, medians

LOW = Load(connections=4, requests=5, tokens=5, rate=20, ramp=1)
SETTLE_S = 0.3  # after the last byte the server still ends its work
COLUMNS = {
    "server": "server",
    "token_us": "CPU µs/token",
    "ratio": "ratio to nginx",
    "database_us": "database CPU µs/token",
    "ttft_added_ms": "TTFT added, low load, ms",
    "ttft_ms": "TTFT p50 ms",
    "delay_p50_ms": "token delay p50 ms",
    "delay_p99_ms": "p99 ms",
}


def arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--streams", type=int, default=200, help="streams side by side (200)")
    parser.add_argument("--rate", type=float, default=20, help="tokens a second in each (20)")
    parser.add_argument("--tokens", type=int, default=50, help="tokens of each (50)")
    parser.add_argument("--ramp", type=float, default=1, help="seconds over which they begin (1)")
    parser.add_argument("--database", choices=("sqlite", "mariadb"), default="sqlite", help="where it stores (sqlite)")


def measure(options: Namespace) -> Report:
    """Measure streams through chatkeep and through nginx, in turn."""
    load = Load(options.streams, tokens=options.tokens, rate=options.rate, ramp=options.ramp)
    with (
        servers.folder() as place,
        servers.upstream(place) as direct,
        mariadb.chosen(options.database, place) as database,
    ):
        runs = [run(place, direct, load, database, number) for number in range(options.runs)]
    rows = medians(runs)
    add_ratio(rows, "token_us")
    parameters: Row = {
        "streams": options.streams, "rate": options.rate, "tokens": options.tokens, "ramp": options.ramp,
        "database": options.database, "runs": options.runs,
    }  # fmt: skip
    note = (
        "CPU is user + system of the server's processes, the set-up of every stream included."
        " Token delay is from the provider's send to the client's read; direct is the provider without a server."
    )
    return Report("stream", parameters, shown(options.database == "mariadb"), rows, runs, [note])


def shown(with_database: bool) -> dict[str, str]:  # noqa: FBT001 - one of two tables
    """Return the columns, without the database's own where it is part of the server."""
    return {key: title for key, title in COLUMNS.items() if with_database or key != "database_us"}


def run(place: Path, direct: Target, load: Load, database: mariadb.Mariadb | None, number: int) -> list[Row]:
    """Measure each server once."""
    low = drive(direct, LOW).ttft_p50
    through_chatkeep = stored(place / f"run{number}", direct, load, database, low)
    with nginx.proxy(place, direct) as proxy:
        through_nginx = [row(proxy, load, low)] if proxy else []
    plain = row(direct, load, low)
    return [through_chatkeep, *through_nginx, plain]


def stored(place: Path, direct: Target, load: Load, database: mariadb.Mariadb | None, low: int) -> Row:
    """Measure chatkeep on an empty database, and check afterwards that it kept what it streamed."""
    place.mkdir()
    url = database.new_database(place.name) if database else None
    with servers.chatkeep(place, direct, url) as target:
        found = row(target, load, low, database)
        servers.check_replies(target, servers.WARM_UP.total + LOW.total + load.total)
    return found


def row(target: Target, load: Load, low: int, database: mariadb.Mariadb | None = None) -> Row:
    """Return the figures of one server under a load; ``low`` is the provider's own time to the first token, in µs."""
    quiet = drive(target, LOW).ttft_p50
    before = clocks(target, database)
    seen = drive(target, load)
    check_tokens(target, load, seen)
    time.sleep(SETTLE_S)
    server_us, database_us = (
        None if start is None or end is None else (end - start) * 1e6 / seen.tokens
        for start, end in zip(before, clocks(target, database), strict=True)
    )
    return {
        "server": target.name,
        "token_us": server_us,
        "database_us": database_us,
        "ttft_added_ms": (quiet - low) / 1000,
        "ttft_ms": seen.ttft_p50 / 1000,
        "delay_p50_ms": seen.delay_p50 / 1000,
        "delay_p99_ms": seen.delay_p99 / 1000,
    }


def clocks(target: Target, database: mariadb.Mariadb | None) -> tuple[float | None, float | None]:
    """Return the CPU seconds that the server and the database have used so far."""
    return cpu_seconds(target.pid) if target.pid else None, cpu_seconds(database.pid) if database else None


def check_tokens(target: Target, load: Load, seen: Outcome) -> None:
    """Raise `BenchError` unless every token that was asked for came."""
    if seen.tokens != load.total * load.tokens:
        raise BenchError(f"{target.name} streamed {seen.tokens} tokens of {load.total * load.tokens}")
