"""Cost of a streamed token, and the delay that the server adds."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

from bench import databases, nginx, servers
from bench.load import Load, Outcome, Target, drive
from bench.processes import BenchError, cpu_seconds
from bench.table import Report, Row, add_ratio, medians

LOW = Load(connections=4, requests=5, tokens=5, rate=20, ramp=1)
SETTLE_S = 0.3  # seconds in which the server finishes its work after the last byte
RATE = 20.0
BEGUN_A_SECOND = 200  # streams that begin in a second
TOGETHER_S = 1.5  # seconds during which all streams are open
COLUMNS = {
    "server": "server",
    "token_us": "CPU µs/token",
    "ratio": "ratio to nginx",
    "database_us": "database CPU µs/token",
    "ttft_added_ms": "TTFT added, low load, ms",
    "ttft_ms": "TTFT p50 ms",
    "delay_p50_ms": "token delay p50 ms",
    "delay_p99_ms": "p99 ms",
    "open": "open at once",
    "core": "% of a core",
}


def arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--streams", type=int, default=200, help="streams side by side (200)")
    parser.add_argument("--rate", type=float, default=RATE, help="tokens a second in each (20)")
    parser.add_argument("--tokens", type=int, help="tokens of each (enough for all to be open for 1.5 s: 50)")
    parser.add_argument("--ramp", type=float, help="seconds in which they begin (one for every 200: 1)")
    databases.argument(parser)


def measure(options: Namespace) -> Report:
    """Measure streams through chatkeep and through nginx, in turn."""
    load = load_of(options.streams, options.rate, options.tokens, options.ramp)
    with (
        servers.folder() as place,
        servers.upstream(place) as direct,
        databases.chosen(options.database) as database,
    ):
        runs = [run(place, direct, load, database, number) for number in range(options.runs)]
    rows = medians(runs)
    add_ratio(rows, "token_us")
    parameters: Row = {
        "streams": load.connections, "rate": load.rate, "tokens": load.tokens, "ramp": load.ramp,
        "database": options.database, "runs": options.runs,
    }  # fmt: skip
    notes = [
        "CPU is user + system of the server's processes, the set-up of every stream included.",
        "Token delay is from the provider's send to the client's read; direct is the provider without a server.",
        "A server that needs nearly a whole core falls behind, and what it costs and delays then says little.",
    ]
    return Report("stream", parameters, databases.shown(COLUMNS, options.database), rows, runs, notes)


def load_of(streams: int, rate: float = RATE, tokens: int | None = None, ramp: float | None = None) -> Load:
    """Return a load of paced streams. By default, all of them are open together for a while."""
    ramp = streams / BEGUN_A_SECOND if ramp is None else ramp
    return Load(streams, tokens=tokens or round(rate * (ramp + TOGETHER_S)), rate=rate, ramp=ramp)


def run(place: Path, direct: Target, load: Load, database: databases.Server | None, number: int) -> list[Row]:
    """Measure each server once."""
    low = drive(direct, LOW).ttft_p50
    through_chatkeep = stored(place / f"run{number}", direct, load, database, low)
    with nginx.proxy(place, direct) as proxy:
        through_nginx = [row(proxy, load, low)] if proxy else []
    plain = row(direct, load, low)
    return [through_chatkeep, *through_nginx, plain]


def stored(place: Path, direct: Target, load: Load, database: databases.Server | None, low: int) -> Row:
    """Measure chatkeep on an empty database, and check that it stored the streams."""
    place.mkdir()
    url = database.new_database() if database else None
    with servers.chatkeep(place, direct, url) as target:
        found = row(target, load, low, database)
        servers.check_replies(target, servers.WARM_UP.total + LOW.total + load.total)
    return found


def row(target: Target, load: Load, low: int, database: databases.Server | None = None) -> Row:
    """Return the figures of a server under a load. ``low`` is the provider's time to the first token, in µs."""
    quiet = drive(target, LOW).ttft_p50
    seen, spent = timed(target, load, database)
    check_tokens(target, load, seen)
    return {
        "server": target.name,
        "token_us": each(spent[0], seen.tokens),
        "database_us": each(spent[1], seen.tokens),
        "ttft_added_ms": (quiet - low) / 1000,
        "ttft_ms": seen.ttft_p50 / 1000,
        "delay_p50_ms": seen.delay_p50 / 1000,
        "delay_p99_ms": seen.delay_p99 / 1000,
        "open": seen.open_most,
        "core": None if spent[0] is None else 100 * spent[0] / seen.wall,
    }


def timed(target: Target, load: Load, database: databases.Server | None = None) -> tuple[Outcome, list[float | None]]:
    """Put a load on a server. Return the results, and the CPU seconds of the server and the database."""
    before = clocks(target, database)
    seen = drive(target, load)
    time.sleep(SETTLE_S)
    after = clocks(target, database)
    return seen, [
        None if start is None or end is None else end - start for start, end in zip(before, after, strict=True)
    ]


def each(seconds: float | None, count: int) -> float | None:
    """Return the µs for each of ``count`` items from the total seconds."""
    return None if seconds is None else seconds * 1e6 / count


def clocks(target: Target, database: databases.Server | None) -> tuple[float | None, float | None]:
    """Return the CPU seconds of the server and the database so far."""
    return cpu_seconds(target.pid) if target.pid else None, cpu_seconds(database.pid) if database else None


def check_tokens(target: Target, load: Load, seen: Outcome) -> None:
    """Raise `BenchError` unless every requested token arrived."""
    if seen.tokens != load.total * load.tokens:
        raise BenchError(f"{target.name} streamed {seen.tokens} tokens of {load.total * load.tokens}")
