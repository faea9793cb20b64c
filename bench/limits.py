"""Cost that keys and limits add to a turn: the same turns with a key and every kind of limit, and without."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import databases, servers, turn
from bench.load import Target
from bench.table import Report, Row, add_ratio, medians

OFF, ON = "without", "with a key and limits"
COLUMNS = turn.COLUMNS | {"ratio": "ratio to without"}
ROUNDS = 4
MANY = 10**9  # no request is refused
SEEN_S = 3.0  # seconds until the server has read the new key
LIMITS = dict.fromkeys(
    ("requests_per_minute", "requests_per_day", "tokens_per_minute", "tokens_per_day", "concurrent_replies"), MANY
)
NOTES = [
    "Both servers run all the time and are measured alternately, so that other load affects both equally.",
    f"With: the key and its account each have all {len(LIMITS)} limits, and all turns count against the same two rows.",
]


def arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--turns", type=int, default=2000, help="turns of each kind (2000)")
    parser.add_argument("--concurrency", type=int, default=turn.CONCURRENCY, help="turns side by side (8)")
    databases.argument(parser)


def measure(options: Namespace) -> Report:
    """Measure turns on both servers, in rounds."""
    limits = {"CHATKEEP_LIMITS": json.dumps({"key": LIMITS, "account": LIMITS})}
    with (
        servers.folder() as place,
        servers.upstream(place) as direct,
        databases.chosen(options.database) as database,
        _serving(place / "open", direct, database) as (off, _),
        _serving(place / "limited", direct, database, **limits) as (on, url),
    ):
        targets = dataclasses.replace(off, name=OFF), _keyed(on, place / "limited", url)
        runs = [run(targets, options, database) for _ in range(options.runs)]
    rows = medians(runs)
    parameters: Row = {
        "turns": options.turns, "concurrency": options.concurrency, "database": options.database, "runs": options.runs,
    }  # fmt: skip
    return Report("limits", parameters, databases.shown(COLUMNS, options.database), rows, runs, NOTES)


def run(targets: tuple[Target, ...], options: Namespace, database: databases.Server | None) -> list[Row]:
    """Measure both servers in rounds, and each kind of response separately."""
    rows = []
    for answer, load in turn.loads_of(options.turns // ROUNDS, options.concurrency).items():
        rounds = [[turn.row(target, answer, load, database) for target in targets] for _ in range(ROUNDS)]
        found = medians(rounds)
        add_ratio(found, "turn_us", of=OFF)
        rows += found
    return rows


@contextmanager
def _serving(
    home: Path, direct: Target, database: databases.Server | None, **more: str
) -> Iterator[tuple[Target, str | None]]:
    """Run chatkeep in a new folder, or on a new database. Lends the server and the database's URL."""
    home.mkdir()
    url = database.new_database() if database else None
    with servers.chatkeep(home, direct, url, **more) as target:
        yield target, url


def _keyed(target: Target, home: Path, url: str | None) -> Target:
    """Create the first key of a server. Return the server with this key."""
    command = servers.command_line("keys", "create", "the benchmark", "--limits", json.dumps(LIMITS))
    made = subprocess.run(command, env=servers.command_environ(home, url), capture_output=True, text=True, check=True)
    time.sleep(SEEN_S)
    return dataclasses.replace(target, name=ON, key=made.stdout.strip())
