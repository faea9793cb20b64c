"""Cost of listing and reading while the store grows a hundredfold."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import fill, nginx, servers
from bench.load import Load, Target, drive
from bench.processes import cpu_seconds
from bench.stream import SETTLE_S
from bench.table import Report, Row, medians
from bench.turn import NGINX_TIMES

READ = 20  # conversations to read in turn
CONVERSATIONS = "/api/conversations"
KINDS = ("list", "deep", "read")
COLUMNS = {
    "messages": "messages",
    "megabytes": "file MB",
    "list_us": "list: CPU µs/request",
    "list_growth": "growth",
    "deep_us": "list amid: CPU µs/request",
    "deep_growth": "growth",
    "read_us": "read: CPU µs/request",
    "read_growth": "growth",
    "read_p50_ms": "p50 ms",
    "nginx_us": "nginx: CPU µs/request",
}


def arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--messages", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="sizes, growing")
    parser.add_argument("--requests", type=int, default=1600, help="requests of each kind (1600)")


def measure(options: Namespace) -> Report:
    """Measure the requests at every size. nginx with a tiny response shows the least cost of a request."""
    with servers.folder() as place, servers.upstream(place) as direct, nginx.proxy(place, direct) as proxy:
        stores = list(filled(place, direct, options.messages))
        with contextlib.ExitStack() as stack:
            open_ = [(store, stack.enter_context(servers.chatkeep(store.place, direct))) for store in stores]
            # In rounds, so that other load on the machine affects every size equally.
            runs = [
                [row(store, target, proxy, options.requests) for store, target in open_] for _ in range(options.runs)
            ]
    rows = medians(runs)
    add_growth(rows)
    parameters: Row = {"conversations of": fill.LENGTH, "requests": options.requests, "runs": options.runs}
    note = (
        "List is the first page, list amid a page from the middle, read one conversation with its messages."
        " Growth is the cost against the smallest store's; flat is the aim. All belongs to one owner."
    )
    return Report("store", parameters, COLUMNS, rows, runs, [note])


@dataclass(frozen=True, slots=True)
class Store:
    """A filled store: the folder of its file, and the ids of some conversations."""

    place: Path
    messages: int
    ids: list[str]


def filled(place: Path, direct: Target, sizes: list[int]) -> Iterator[Store]:
    """Yield a store of each size, each filled from a copy of the smaller one."""
    with servers.chatkeep(place, direct):
        pass  # it makes the tables, and its warm-up stores real turns
    last = servers.sqlite_file(place)
    template = fill.take_template(last)
    for size in sizes:
        home = place / str(size)
        home.mkdir()
        file = servers.sqlite_file(home)
        shutil.copy(last, file)
        fill.fill(file, template, size)
        yield Store(home, size, fill.spread(file, READ))
        last = file


def row(store: Store, target: Target, proxy: Target | None, requests: int) -> Row:
    """Return the figures of one run on one store."""
    middle = f"{CONVERSATIONS}?after={store.ids[READ // 2]}"
    listed, _ = request_us(target, [CONVERSATIONS], requests)
    deep, _ = request_us(target, [middle], requests)
    read, latency = request_us(target, [f"{CONVERSATIONS}/{identity}" for identity in store.ids], requests // READ)
    return {
        "messages": store.messages,
        "megabytes": servers.sqlite_file(store.place).stat().st_size / 1e6,
        "list_us": listed,
        "deep_us": deep,
        "read_us": read,
        "read_p50_ms": latency,
        "nginx_us": request_us(proxy, ["/health"], requests * NGINX_TIMES)[0] if proxy else None,
    }


def request_us(target: Target, paths: list[str], requests: int) -> tuple[float, float]:
    """Return the CPU µs of a GET, ``requests`` of each path in turn, and the median of their latency in ms."""
    load = Load(connections=4, requests=max(1, requests // 4), stream=False)
    before = cpu_seconds(target.pid or 0)
    seen = [drive(dataclasses.replace(target, path=path, mode="rawget"), load) for path in paths]
    time.sleep(SETTLE_S)
    spent = cpu_seconds(target.pid or 0) - before
    return spent * 1e6 / (load.total * len(paths)), statistics.median(one.latency_p50 for one in seen) / 1000


def add_growth(rows: list[Row]) -> None:
    """Add the cost relative to the first row to every row."""
    for kind in KINDS:
        for row in rows:
            row[f"{kind}_growth"] = float(row[f"{kind}_us"] or 0) / float(rows[0][f"{kind}_us"] or 1)
