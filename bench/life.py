"""Latency of turns during exports of everything, and during the sweep of expired conversations."""

from __future__ import annotations

import json
import shutil
import statistics
import threading
import time
import urllib.request
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from bench import databases, fill, servers
from bench.databases import Server
from bench.export import download, filled, peak_megabytes
from bench.load import Load, Outcome, Target, drive
from bench.processes import BenchError, cpu_seconds, other_cpu_seconds
from bench.table import Report, Row, medians

LOOK_S = 0.05
WARM_UP_S = 1
SWEEP_INTERVAL = "2s"
PATIENCE_S = 3600.0  # seconds in which a sweep must end
COPIES = 4  # disk space of a run, in files: a store, its copy in progress, files of jobs
EXPORT = "api/conversations/export-all"
COLUMNS = {
    "meanwhile": "meanwhile",
    "turns": "turns",
    "p50": "turn p50 ms",
    "p99": "p99 ms",
    "added": "p99 added ms",
    "took": "it took s",
    "cpu": "server CPU %",
    "others": "others' CPU %",
    "log": "WAL MB",
    "peak": "peak RSS MB",
}
NOTES = [
    "Every turn begins a conversation and has one token. Turns are sent at a steady rate.",
    "Exports run one after another during the turns. The figures of the sweep are those of its slowest interval.",
    "It took: an export, a job until its file exists, the whole sweep. WAL: the largest size of SQLite's log.",
    "Others' CPU is the load of other programs, in per cent of a core. If it is high, the figures mean little.",
]


@dataclass(frozen=True, slots=True)
class Store:
    """The store of one run: its folder, its URL, and the database server if it is not SQLite."""

    place: Path
    url: str
    database: Server | None

    def query(self, sql: str) -> int:
        """Run a statement and return the number that it selects, if any."""
        if self.database:
            rows = self.database.service.execute(f"USE {make_url(self.url).database}", sql)
            return int(rows[0][0]) if rows else 0
        with fill.connected(servers.sqlite_file(self.place)) as connection:
            found = connection.execute(sql).fetchall()
        return int(str(found[0][0])) if found else 0

    def log_bytes(self) -> int:
        """Return the size of SQLite's write-ahead log."""
        log = Path(f"{servers.sqlite_file(self.place)}-wal")
        return log.stat().st_size if log.exists() else 0


@dataclass(slots=True)
class Peak:
    """The largest observed size of SQLite's write-ahead log."""

    log: int = 0


def arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--messages", type=int, default=1_000_000, help="messages in the store (1000000)")
    parser.add_argument("--rate", type=int, default=20, help="turns a second (20)")
    parser.add_argument("--seconds", type=int, default=20, help="seconds to measure turns (20)")
    parser.add_argument("--meanwhile", nargs="+", choices=[*BESIDE, "sweep"], default=[*BESIDE, "sweep"], help="(all)")
    databases.argument(parser)


def measure(options: Namespace) -> Report:
    """Measure turns alone, during exports, and during the sweep, each run on a new store."""
    with (
        servers.folder() as place,
        servers.upstream(place) as direct,
        databases.chosen(options.database) as database,
    ):
        file = filled(place, direct, options.messages, COPIES * options.runs)
        runs = [run(copied(file, f"run{number}", database), direct, options) for number in range(options.runs)]
    parameters: Row = {
        "messages": options.messages, "turns a second": options.rate, "seconds": options.seconds,
        "database": options.database, "runs": options.runs,
    }  # fmt: skip
    shown = {key: title for key, title in COLUMNS.items() if key != "log" or not database}
    return Report("life", parameters, shown, medians(runs), runs, NOTES)


def copied(file: Path, name: str, database: Server | None) -> Store:
    """Return a copy of a filled store in a new folder."""
    place = file.parent / name
    place.mkdir()
    if database:
        return Store(place, database.copy(file), database)
    shutil.copy(file, servers.sqlite_file(place))
    return Store(place, servers.sqlite_url(place), None)


def run(store: Store, direct: Target, options: Namespace) -> list[Row]:
    """Return the figures of one run."""
    load = steady(options.rate, options.seconds)
    with servers.chatkeep(store.place, direct, store.url) as target:
        drive(target, steady(options.rate, WARM_UP_S))
        found = [beside(store, target, load, "nothing", lambda _: time.sleep(LOOK_S)) | {"took": None}]
        found += [beside(store, target, load, name, BESIDE[name]) for name in BESIDE if name in options.meanwhile]
    if "sweep" in options.meanwhile:
        found.append(sweep(store, direct, load))
    for row in found:
        row["added"] = float(row["p99"] or 0) - float(found[0]["p99"] or 0)
    return found


def steady(rate: int, seconds: int) -> Load:
    """Return turns at a steady rate, each on a new connection."""
    return Load(connections=rate * seconds, ramp=seconds)


def beside(store: Store, target: Target, load: Load, what: str, work: Callable[[Target], object]) -> Row:
    """Return the figures of turns during repeated work."""
    over = threading.Event()
    with watched(store, target) as row, ThreadPoolExecutor(1) as pool:
        times = pool.submit(repeat, partial(work, target), over)
        try:
            turns = drive(target, load)
        finally:
            over.set()
        row.update(figures(what, turns, statistics.median(times.result())))
    return row


def repeat(work: Callable[[], object], over: threading.Event) -> list[float]:
    """Repeat the work until the turns end. Return the seconds that each repetition took."""
    found = []
    while not over.is_set():
        began = time.monotonic()
        work()
        found.append(time.monotonic() - began)
    return found


def job(target: Target) -> None:
    """Run an export job, and delete its file."""
    made = ask(f"{target.url}/api/exports", "POST", {"format": "ndjson", "compression": "gzip"})
    address = f"{target.url}/api/exports/{made['id']}"
    while (now := ask(address))["status"] in {"queued", "running"}:
        time.sleep(LOOK_S)
    if now["status"] != "completed":
        raise BenchError(f"The export job ended as {now}")
    ask(address, "DELETE")


def ask(url: str, method: str = "GET", body: object = None) -> Any:
    """Return the JSON of a response."""
    text = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, text, {"Content-Type": "application/json"}, method=method)  # noqa: S310 - the benchmark's own
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - the same
        return json.load(response)


BESIDE: dict[str, Callable[[Target], object]] = {
    "export ndjson": lambda target: download(f"{target.url}/{EXPORT}?format=ndjson", "identity"),
    "export csv, gzip": lambda target: download(f"{target.url}/{EXPORT}?format=csv", "gzip"),
    "export job": job,
}


def sweep(store: Store, direct: Target, load: Load) -> Row:
    """Return the figures of turns while all earlier conversations are swept."""
    store.query("UPDATE conversations SET expires_at = 1")
    with (
        servers.chatkeep(store.place, direct, store.url, CHATKEEP_SWEEP_INTERVAL=SWEEP_INTERVAL) as target,
        watched(store, target) as row,
        ThreadPoolExecutor(1) as pool,
    ):
        took = pool.submit(swept, store)
        spans = list(spans_until(took, target, load))
        worst = max(spans, key=lambda span: span.latency_p99)
        row.update(figures("sweep", worst, took.result()))
    return row


def swept(store: Store) -> float:
    """Wait for the sweep, and return its seconds. Raises `BenchError` if it doesn't end."""
    waiting = "SELECT count(*) FROM conversations WHERE expires_at = 1"
    everything, began, deadline = store.query(waiting), time.monotonic(), time.monotonic() + PATIENCE_S
    while (left := store.query(waiting)) and time.monotonic() < deadline:
        if left == everything:
            began = time.monotonic()
        time.sleep(1)
    if left:
        raise BenchError(f"{left} of {everything} conversations were not swept within {PATIENCE_S:.0f} s")
    return time.monotonic() - began


def spans_until(done: Future[Any], target: Target, load: Load) -> Iterator[Outcome]:
    """Yield the results of turns, one load after another."""
    while not done.done():
        yield drive(target, load)


@contextmanager
def watched(store: Store, target: Target) -> Iterator[Row]:
    """Lend a row, and add the resources that the server used during the block."""
    row: Row = {}
    peak, over, began, before = Peak(), threading.Event(), time.monotonic(), clocks(target)
    watching = threading.Thread(target=watch, args=(store, peak, over))
    watching.start()
    try:
        yield row
    finally:
        over.set()
        watching.join()
    seconds = time.monotonic() - began
    row["cpu"], row["others"] = ((now - then) / seconds * 100 for now, then in zip(clocks(target), before, strict=True))
    row["log"] = None if store.database else peak.log / 1e6
    row["peak"] = peak_megabytes(target)


def clocks(target: Target) -> tuple[float, float]:
    """Return the CPU seconds of the server, and those of other programs."""
    return cpu_seconds(target.pid or 0), other_cpu_seconds()


def watch(store: Store, peak: Peak, over: threading.Event) -> None:
    """Measure the log repeatedly."""
    while not over.wait(LOOK_S):
        peak.log = max(peak.log, store.log_bytes())


def figures(what: str, turns: Outcome, took: float) -> Row:
    """Return the columns about turns."""
    return {
        "meanwhile": what, "turns": turns.requests, "p50": turns.latency_p50 / 1000, "p99": turns.latency_p99 / 1000,
        "took": took,
    }  # fmt: skip
