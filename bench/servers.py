"""The measured servers: chatkeep, and the provider behind it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.load import ROOT, Load, Target, drive, tool
from bench.processes import BenchError, free_port, listening, running, wait_until

CONFIGURATION = ROOT / "gunicorn_conf.py"
WARM_UP = Load(connections=4, requests=5, tokens=5)


@contextmanager
def folder() -> Iterator[Path]:
    """Lend a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="chatkeep-bench-", ignore_cleanup_errors=True) as path:
        yield Path(path).resolve()


def environ(**more: str) -> dict[str, str]:
    """Return an environment without settings of the current user."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return kept | {"PYTHONPATH": str(ROOT)} | more


@contextmanager
def upstream(place: Path) -> Iterator[Target]:
    """Run the provider. As a target it shows the share of a server behind it."""
    port, log = free_port(), place / "upstream.log"
    with running(tool("upstream"), str(port), env=environ(), log=log) as process:
        wait_until(lambda: listening(port), process, log)
        yield Target("direct", None, port, "/v1/chat/completions", "openai", log)


@contextmanager
def chatkeep(
    place: Path, provider: Target, database: str | None = None, configuration: Path = CONFIGURATION, /, **more: str
) -> Iterator[Target]:
    """Run chatkeep with one worker and production settings in ``place``, warmed up by a few turns."""
    port = free_port()
    log = place / "chatkeep.log"
    settings = environ(
        CHATKEEP_ENV="production",
        HOST="127.0.0.1",
        PORT=str(port),
        WEB_CONCURRENCY="1",
        CHATKEEP_DATA_DIR=str(place),
        DATABASE_URL=database or sqlite_url(place),
        OPENAI_BASE_URL=f"{provider.url}/v1",
        OPENAI_API_KEY="key-of-the-benchmark",
        **more,
    )
    with running(
        sys.executable, "-m", "gunicorn", "-c", str(configuration), "app:app", env=settings, log=log
    ) as process:
        target = Target("chatkeep", process.pid, port, "/api/chat", "app", log)
        wait_until(lambda: answers(f"{target.url}/health/ready"), process, log)
        drive(target, WARM_UP)
        yield target


def command_line(*arguments: str) -> list[str]:
    """Return the command line of `chatkeep` with these arguments."""
    return [sys.executable, "-m", "chatkeep", *arguments]


def command_environ(place: Path, database: str | None = None) -> dict[str, str]:
    """Return the environment in which `chatkeep` uses the database of a server."""
    return environ(CHATKEEP_DATA_DIR=str(place), DATABASE_URL=database or sqlite_url(place), OPENAI_API_KEY="unused")


def sqlite_file(place: Path) -> Path:
    """Return the path of the database in a data folder."""
    return place / "chatkeep.sqlite3"


def sqlite_url(place: Path) -> str:
    """Return the URL of `sqlite_file`."""
    return f"sqlite:///{sqlite_file(place)}"


def answers(url: str) -> bool:
    """Return whether a GET returns 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - a server of this benchmark
            return int(response.status) == 200  # noqa: PLR2004 - OK
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def get(url: str) -> Any:
    """Return the JSON of a GET."""
    with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310 - a server of this benchmark
        return json.load(response)


def conversation_ids(target: Target) -> Iterator[str]:
    """Yield the ids of all conversations, with the API."""
    after = ""
    while True:
        page = get(f"{target.url}/api/conversations?limit=100{after}")
        yield from (conversation["id"] for conversation in page["data"])
        if not page["has_more"]:
            return
        after = f"&after={page['last_id']}"


def check_replies(target: Target, turns: int, cached: int = 0, sample: int = 200) -> None:
    """Check that every turn is stored, and of ``sample`` of them that the reply is complete.

    The newest ``cached`` turns must have come from the cache. Raises `BenchError` otherwise: a server that loses work
    measures well.
    """
    ids = list(conversation_ids(target))
    if len(ids) != turns:
        raise BenchError(f"chatkeep took {turns} turns and lists {len(ids)} conversations")
    for number, identity in enumerate(ids[:sample]):
        reply = get(f"{target.url}/api/conversations/{identity}")["messages"]["data"][-1]
        if reply["status"] != "completed" or not reply["content"]:
            raise BenchError(f"chatkeep stored a reply that is not complete: {reply}")
        if reply["cached"] != (number < cached):
            raise BenchError(f"chatkeep says of a reply wrongly whether it was given before: {reply}")
