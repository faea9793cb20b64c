"""Cost of responses without a model: a cached reply, and a conversation that is read."""

from __future__ import annotations

import dataclasses
import json
import urllib.request
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from bench import databases, nginx, servers, turn
from bench.load import Load, Target, drive
from bench.processes import BenchError
from bench.table import Report, Row, medians

TOKENS = 20  # of the cached reply
HISTORY = 10  # messages in the conversation
COLUMNS = turn.COLUMNS | {
    "turn_us": "CPU µs/request",
    "database_us": "database CPU µs/request",
    "turns_per_second": "requests/s",
}
NOTES = [
    "stream and json: every request asks the same question in a new conversation; both messages are stored.",
    f"history: a conversation of {HISTORY} messages is read; nginx fetches a tiny answer, the least that there is.",
]


def arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--requests", type=int, default=2000, help="requests of each kind (2000)")
    parser.add_argument("--concurrency", type=int, default=turn.CONCURRENCY, help="requests side by side (8)")
    databases.argument(parser)


def measure(options: Namespace) -> Report:
    """Measure cached replies and reading a conversation, through chatkeep and through nginx."""
    loads = turn.loads_of(options.requests, options.concurrency, TOKENS)
    with (
        servers.folder() as place,
        servers.upstream(place) as direct,
        databases.chosen(options.database) as database,
    ):
        runs = [run(place, direct, loads, database, number) for number in range(options.runs)]
    rows = medians(runs)
    turn.add_ratios(rows)
    parameters: Row = {
        "requests": options.requests, "concurrency": options.concurrency, "database": options.database,
        "runs": options.runs,
    }  # fmt: skip
    return Report("cached", parameters, databases.shown(COLUMNS, options.database), rows, runs, NOTES)


def run(
    place: Path, direct: Target, loads: dict[str, Load], database: databases.Server | None, number: int
) -> list[Row]:
    """Measure each server once."""
    home = place / f"run{number}"
    home.mkdir()
    url = database.new_database() if database else None
    with servers.chatkeep(home, direct, url) as target:
        rows = [*repeated(target, direct, loads, database), history(target, loads["json"], database)]
    with nginx.proxy(place, direct) as proxy:
        if proxy:
            rows += [turn.row(proxy, answer, turn.more(load)) for answer, load in loads.items()]
            rows.append(turn.row(reading(proxy, "/health"), "history", turn.more(loads["json"])))
    return rows


def repeated(target: Target, direct: Target, loads: dict[str, Load], database: databases.Server | None) -> list[Row]:
    """Return the figures of cached replies. Raises `BenchError` if one was not cached or not stored."""
    asking = dataclasses.replace(target, mode="again")
    drive(asking, Load(1, tokens=TOKENS))  # the provider answers this one
    asked = calls(direct)
    rows = [turn.row(asking, answer, load, database) for answer, load in loads.items()]
    if calls(direct) != asked:
        raise BenchError(f"the provider was asked {calls(direct) - asked} questions that chatkeep knew the answer of")
    total = sum(load.total for load in loads.values())
    servers.check_replies(target, servers.WARM_UP.total + 1 + total, cached=total)
    return rows


def calls(direct: Target) -> int:
    """Return the number of calls to the provider."""
    return int(servers.get(f"{direct.url}/stats")["requests"])


def history(target: Target, load: Load, database: databases.Server | None) -> Row:
    """Return the figures of reading a conversation."""
    identity = conversation(target)
    path = f"/api/conversations/{identity}"
    if len(servers.get(f"{target.url}{path}")["messages"]["data"]) != HISTORY:
        raise BenchError(f"the conversation that is read has not {HISTORY} messages")
    return turn.row(reading(target, path), "history", load, database)


def reading(target: Target, path: str) -> Target:
    """Return the same server with GET requests."""
    return dataclasses.replace(target, path=path, mode="rawget")


def conversation(target: Target) -> str:
    """Make a conversation of `HISTORY` messages and return its id."""
    identity: dict[str, str] = {}
    for number in range(HISTORY // 2):
        message = f"#n={TOKENS},r=0# {number}: and which of these tables does the plan for the next quarter read?"
        identity = {"conversation_id": post(target, {"message": message, **identity})["conversation_id"]}
    return identity["conversation_id"]


def post(target: Target, body: dict[str, str]) -> Any:
    """Return the response to a turn."""
    asking = urllib.request.Request(  # noqa: S310 - a server of this benchmark
        f"{target.url}{target.path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(asking, timeout=30) as response:  # noqa: S310 - the same
        return json.load(response)
