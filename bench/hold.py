"""Memory and database connections of an open stream that waits for its next token."""

from __future__ import annotations

import subprocess
import time
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path

from bench import databases, nginx, servers
from bench.load import Load, Target, command, outcome
from bench.processes import BenchError, opened, pss_kib, rss_kib
from bench.table import Report, Row, add_ratio, medians

RATE = 2.0
BEGUN_A_SECOND = 150  # streams that begin in a second, so that the server has time for open ones
COLUMNS = {
    "server": "server",
    "idle_mib": "PSS idle MiB",
    "held_mib": "PSS held MiB",
    "stream_kib": "PSS KiB/stream",
    "ratio": "ratio to nginx",
    "stream_rss_kib": "RSS KiB/stream",
    "after_mib": "PSS after MiB",
    "connections_idle": "database connections idle",
    "connections_held": "held",
    "transactions": "open transactions",
}


def arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--streams", type=int, default=500, help="slow streams side by side (500)")
    parser.add_argument("--seconds", type=float, default=9, help="seconds during which all are open (9)")
    databases.argument(parser)


def measure(options: Namespace) -> Report:
    """Measure the memory of chatkeep and of nginx with no stream and with many slow ones."""
    ramp = options.streams / BEGUN_A_SECOND
    load = Load(options.streams, tokens=int((ramp + options.seconds) * RATE), rate=RATE, ramp=ramp)
    with (
        servers.folder() as place,
        servers.upstream(place) as direct,
        databases.chosen(options.database) as database,
    ):
        runs = [run(place, direct, load, database, number) for number in range(options.runs)]
    rows = medians(runs)
    add_ratio(rows, "stream_kib")
    parameters: Row = {
        "streams": options.streams, "rate": RATE, "seconds": options.seconds, "database": options.database,
        "runs": options.runs,
    }  # fmt: skip
    note = (
        "Database connections: on SQLite, how often the processes have the file open. A stream that broke ends the"
        " benchmark with an error. After: a second after the last stream has ended."
    )
    return Report("hold", parameters, COLUMNS, rows, runs, [note])


def run(place: Path, direct: Target, load: Load, database: databases.Server | None, number: int) -> list[Row]:
    """Measure each server once."""
    home = place / f"run{number}"
    home.mkdir()
    url = database.new_database() if database else None
    with servers.chatkeep(home, direct, url) as target:
        rows = [row(target, direct, load, Watch(target.pid or 0, servers.sqlite_file(home), database))]
        servers.check_replies(target, servers.WARM_UP.total + load.total)
    with nginx.proxy(place, direct) as proxy:
        if proxy:
            rows.append(row(proxy, direct, load, Watch(proxy.pid or 0, None, None)))
    return rows


@dataclass(frozen=True, slots=True)
class Watch:
    """What is measured while streams are open: a process tree, and its database, if any."""

    pid: int
    file: Path | None
    database: databases.Server | None

    def connections(self) -> int | None:
        """Return the number of open database connections."""
        if self.database:
            return self.database.connections()
        return opened(self.pid, self.file) if self.file else None

    def transactions(self) -> int | None:
        """Return the number of open transactions, if the database reports it."""
        return self.database.transactions() if self.database else None

    def take(self) -> Row:
        """Return the current figures."""
        return {
            "pss": pss_kib(self.pid),
            "rss": rss_kib(self.pid),
            "connections": self.connections(),
            "transactions": self.transactions(),
        }


def row(target: Target, direct: Target, load: Load, watch: Watch) -> Row:
    """Return the figures of one server: before, while all streams are open, and after."""
    idle = watch.take()
    held = hold(target, direct, load, watch)
    time.sleep(1)
    return {
        "server": target.name,
        "idle_mib": number(idle, "pss") / 1024,
        "held_mib": number(held, "pss") / 1024,
        "stream_kib": (number(held, "pss") - number(idle, "pss")) / load.total,
        "stream_rss_kib": (number(held, "rss") - number(idle, "rss")) / load.total,
        "after_mib": number(watch.take(), "pss") / 1024,
        "connections_idle": idle["connections"],
        "connections_held": held["connections"],
        "transactions": held["transactions"],
    }


def number(found: Row, key: str) -> float:
    """Return a figure that is never None."""
    return float(found[key] or 0)


def hold(target: Target, direct: Target, load: Load, watch: Watch) -> Row:
    """Open all streams, measure, and let them end."""
    with subprocess.Popen(command(target, load), stdout=subprocess.PIPE) as client:
        try:
            wait_for_streams(direct, load)
            held = watch.take()
            printed, _ = client.communicate()
        except BaseException:
            client.kill()
            raise
    outcome(target, printed)  # raises if a stream was dropped
    return held


def wait_for_streams(direct: Target, load: Load) -> None:
    """Wait until all streams are open for the time of two tokens. Raises `BenchError` if they never are."""
    deadline = time.monotonic() + load.ramp + load.tokens / load.rate
    while servers.get(f"{direct.url}/stats")["active"] < load.total:
        if time.monotonic() > deadline:
            raise BenchError(f"{load.total} streams were never open at once; choose more --seconds")
        time.sleep(0.1)
    time.sleep(2 / load.rate)
