"""Latency of streams during searches, exports, a sweep and an erasure at once, next to the targets."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import databases, servers
from bench.export import filled
from bench.life import SWEEP_INTERVAL, Store, copied
from bench.load import Load, Outcome, Target, drive
from bench.processes import BenchError
from bench.table import Report, Row, medians
from chatkeep.auth.access import owner_of
from chatkeep.domain.conversation import OPEN_OWNER
from tests.services.users import USER

SEARCHES, EXPORTS, STREAMS = 20, 5, 50
RATE = 20.0
BEGIN_S = 3  # seconds in which the streams open
NOWHERE = "zyzzyva"  # a word in no text, so that a search reads everything
END_USER = "erased"
SHARE = 20  # one in 20 conversations expires, and one in 20 belongs to the end user
COPIES = 3  # disk space of a run, in files
SETTLED_S = 1
OK = 200
BEAT_S = 0.01
MEANWHILE = ("searches", "exports", "sweep", "erasure")
EXPIRED = "SELECT count(*) FROM conversations WHERE expires_at = 1"
LEFT = f"SELECT COUNT(*) FROM information_schema.processlist WHERE user = '{USER}' AND command = 'Query' AND time >= 1"  # noqa: S608 - our own name
COLUMNS = {"figure": "figure", "measured": "measured", "aim": "at most"}
NOTES = [
    "Every search is for a word that no text has, and is repeated after a response or a refusal.",
    "Exports of everything run one after another. The sweep and the erasure cover a twentieth of the store each.",
    "The loop's stall is the delay of a greenlet that sleeps for 10 ms at a time.",
]
# The worker records delays of its event loop.
CONFIGURATION = f"""
import time
from chatkeep.server.gunicorn_conf import *

def post_worker_init(worker):
    import gevent

    def beat():
        with open("beats", "w", buffering=1) as beats:
            while True:
                began = time.monotonic()
                gevent.sleep({BEAT_S})
                beats.write(f"{{began}} {{time.monotonic() - began - {BEAT_S}}}\\n")

    gevent.spawn(beat)
"""


@dataclass(slots=True)
class Seen:
    """Results of all threads."""

    over: threading.Event = field(default_factory=threading.Event)
    searches: Counter[str] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)
    exported: int = 0
    erased: int = 0
    erasing: float | None = None


def arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--messages", type=int, default=2_000_000, help="messages in the store (2000000)")
    parser.add_argument("--seconds", type=int, default=30, help="how long the streams last (30)")
    parser.add_argument("--meanwhile", nargs="+", choices=MEANWHILE, default=list(MEANWHILE), help="(all)")
    databases.argument(parser)


def measure(options: Namespace) -> Report:
    """Measure streams during all other work, each run on a new store."""
    with (
        servers.folder() as place,
        servers.upstream(place) as direct,
        databases.chosen(options.database) as database,
    ):
        file = filled(place, direct, options.messages, COPIES * options.runs)
        runs = [run(copied(file, f"run{number}", database), direct, options) for number in range(options.runs)]
    parameters: Row = {
        "messages": options.messages, "streams": STREAMS, "searches": SEARCHES, "exports": EXPORTS,
        "seconds": options.seconds, "database": options.database, "runs": options.runs,
    }  # fmt: skip
    return Report("crowd", parameters, COLUMNS, medians(runs), runs, NOTES)


def run(store: Store, direct: Target, options: Namespace) -> list[Row]:
    """Return the figures of one run."""
    configuration = store.place / "beating.py"
    configuration.write_text(CONFIGURATION)
    store.query(mark(1, f"owner = '{owner_of(OPEN_OWNER, END_USER)}'"))
    if "sweep" in options.meanwhile:
        store.query(mark(2, "expires_at = 1"))
    expired = store.query(EXPIRED)
    load = Load(STREAMS, tokens=int((BEGIN_S + options.seconds) * RATE), rate=RATE, ramp=BEGIN_S)
    sweeping = {"CHATKEEP_SWEEP_INTERVAL": SWEEP_INTERVAL}
    with servers.chatkeep(store.place, direct, store.url, configuration, **sweeping) as target:
        alone = drive(target, load)
        began, seen = time.monotonic(), Seen()
        with crowding(target, seen, options.meanwhile):
            streams = drive(target, load)
        ended = time.monotonic()
        time.sleep(SETTLED_S)
        left = running(store)
    swept = expired - store.query(EXPIRED)
    stalls = longest_stall(store.place / "beats", began, ended)
    return figures(alone, streams, seen, stalls, left, swept)


def mark(share: int, change: str) -> str:
    """Return the statement that changes one in ``SHARE`` conversations."""
    return (
        f"UPDATE conversations SET {change} WHERE id IN (SELECT id FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY id)"  # noqa: S608 - no input of users
        f" AS number FROM conversations) numbered WHERE number % {SHARE} = {share})"
    )


@contextmanager
def crowding(target: Target, seen: Seen, meanwhile: list[str]) -> Iterator[None]:
    """Search, export and erase during the block. Wait until all requests have a response."""
    clients = {"searches": [search] * SEARCHES, "exports": [export] * EXPORTS, "erasure": [erase]}
    work = [one for name in meanwhile for one in clients.get(name, [])]
    with ThreadPoolExecutor(SEARCHES + EXPORTS + 1) as pool:
        begun = [pool.submit(later, one, target, seen) for one in work]
        try:
            yield
        finally:
            seen.over.set()
    for one in begun:
        one.result()


def later(work: Callable[[Target, Seen], None], target: Target, seen: Seen) -> None:
    """Start the work when the streams are open."""
    seen.over.wait(BEGIN_S)
    work(target, seen)


def search(target: Target, seen: Seen) -> None:
    """Search repeatedly. After a refusal, wait as long as it says."""
    while not seen.over.is_set():
        began = time.monotonic()
        try:
            with urllib.request.urlopen(f"{target.url}/api/conversations?q={NOWHERE}", timeout=60) as response:  # noqa: S310 - a server of this benchmark
                response.read()
            code = "answered"
        except urllib.error.HTTPError as error:
            code = json.load(error)["code"]
            seen.over.wait(float(error.headers["Retry-After"]))
        seen.searches[code] += 1
        seen.times.append(time.monotonic() - began)


def export(target: Target, seen: Seen) -> None:
    """Export everything repeatedly, and disconnect at the end."""
    while not seen.over.is_set():
        address = f"{target.url}/api/conversations/export-all?format=ndjson"
        with urllib.request.urlopen(address, timeout=60) as response:  # noqa: S310 - a server of this benchmark
            while not seen.over.is_set() and (piece := response.read1(1 << 20)):
                seen.exported += len(piece)


def erase(target: Target, seen: Seen) -> None:
    """Erase the end user."""
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=600)
    with contextlib.closing(connection):
        connection.request("DELETE", "/api/end-users/me", headers={"X-End-User": END_USER})
        response = connection.getresponse()
        body = json.load(response)
    if response.status != OK:
        raise BenchError(f"The erasure was answered with {body}")
    seen.erased, seen.erasing = body["conversations"], time.monotonic() - began


def running(store: Store) -> int | None:
    """Return the number of long statements that the database still runs after all requests have a response."""
    if not store.database:
        return None  # SQLite runs a statement in the thread of its request
    return store.database.number(LEFT)


def longest_stall(heartbeats: Path, began: float, ended: float) -> float:
    """Return the longest delay in ms of the worker's loop in an interval."""
    found = [tuple(map(float, line.split())) for line in heartbeats.read_text().splitlines()]
    return max(late for at, late in found if began <= at <= ended) * 1000


def figures(alone: Outcome, streams: Outcome, seen: Seen, stall: float, left: int | None, swept: int) -> list[Row]:
    """Return the figures next to their targets."""
    times = sorted(seen.times)
    found: list[tuple[str, float | None, float | None]] = [
        ("token delay p99 of streams alone, ms", alone.delay_p99 / 1000, None),
        ("token delay p50, ms", streams.delay_p50 / 1000, None),
        ("token delay p99, ms", streams.delay_p99 / 1000, 250),
        ("longest token delay, ms", streams.raw["dly_max"] / 1000, None),
        ("longest stall of the loop, ms", stall, 200),
        ("statements left 1 s after the last answer", left, 0),
        ("searches that looked through everything", seen.searches["answered"], None),
        ("searches that were refused (database_busy)", seen.searches["database_busy"], None),
        ("searches that were ended (database_timeout)", seen.searches["database_timeout"], None),
        ("longest search, s", times[-1] if times else None, None),
        ("exported, MB", seen.exported / 1e6, None),
        ("conversations swept", swept, None),
        ("conversations erased", seen.erased, None),
        ("erasure, s", seen.erasing, None),
    ]
    return [{"figure": figure, "measured": measured, "aim": aim} for figure, measured, aim in found]
