"""What an export costs beside the `sqlite3` program on the same file, and how much memory the server takes for it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
import urllib.request
import zlib
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path

from bench import fill, servers
from bench.load import Target
from bench.processes import PROC, BenchError, cpu_seconds, tree
from bench.table import Report, Row, medians
from chatkeep.exports.formats import FORMATS
from chatkeep.store import schema

TURN_US = 30_000_000  # between two turns of a conversation
CODINGS = ("gzip", "zstd")
COLUMNS = {
    "what": "what",
    "megabytes": "MB",
    "seconds": "CPU s",
    "rate": "MB/CPU s",
    "of_json": "of sqlite3 json",
    "of_csv": "of sqlite3 csv",
    "sent": "MB sent",
    "peak": "peak RSS MB",
}
# The columns that an export has, with ids and order as it has them; what is raw is not readable, but cheaper.
QUERIES = {
    "readable": "SELECT lower(hex(conversation_id)) conversation_id, lower(hex(message_id)) id,"
    " lower(hex(parent_id)) parent_id, position, timestamp, on_branch, role, status, model, finish_reason, error,"
    " cached, input_tokens, output_tokens, content, reasoning FROM messages ORDER BY conversation_id, timestamp",
    "raw": "SELECT * FROM messages ORDER BY conversation_id, timestamp",
}
TEXT = (
    "a haiku is the poem of three short lines that begins with an old pond and ends where a frog jumps into water"
    ' she said: "five, seven" `print(17)` \n\n- first \n- next 🐸'
    " 俳句 是 一种 日本 短诗 由 十七个 音节 组成 古池 蛙 跳入 水声"
)


def arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--messages", type=int, default=200_000, help="messages in the store (200000)")


def measure(options: Namespace) -> Report:
    """Measure every format, the compressed ones, and `sqlite3`, in rounds."""
    program = shutil.which("sqlite3")
    if not program:
        raise BenchError("There is no sqlite3 here; on Debian and Ubuntu: apt-get install sqlite3")
    with servers.folder() as place, servers.upstream(place) as direct:
        with servers.chatkeep(place, direct):
            pass  # it makes the tables, and its warm-up leaves the rows of real turns
        file = servers.sqlite_file(place)
        store(file, options.messages)
        with servers.chatkeep(place, direct) as target:
            runs = [rows(target, program, file) for _ in range(options.runs)]
        parameters: Row = {
            "messages": options.messages, "file MB": file.stat().st_size / 1e6, "runs": options.runs,
        }  # fmt: skip
    notes = [
        "MB are those before compression. sqlite3 writes the same columns to /dev/null, readable ones with ids in hex.",
        "The server's CPU time has the sending in it, and all else that it does. Its peak RSS is since its start.",
    ]
    return Report("export", parameters, COLUMNS, medians(runs), runs, notes)


def rows(target: Target, program: str, file: Path) -> list[Row]:
    """Return the figures of one round."""
    found = [
        cli(program, file, f"sqlite3 {mode}, {name}", mode, query)
        for name, query in QUERIES.items()
        for mode in ("json", "csv")
    ]
    found += [export(target, name) for name in FORMATS]
    found += [export(target, "ndjson", coding) for coding in CODINGS]
    for row in found:
        row["of_json"], row["of_csv"] = (float(row["rate"] or 0) / float(found[at]["rate"] or 1) for at in (0, 1))
    return [*found, *(alone(name, target) for name in ("isal", "zlib"))]


def export(target: Target, name: str, coding: str = "identity") -> Row:
    """Return the figures of one export over HTTP; the client keeps nothing of it."""
    url = f"{target.url}/api/conversations/export-all?format={name}"
    before = cpu_seconds(target.pid or 0)
    sent = download(url, coding)
    spent = cpu_seconds(target.pid or 0) - before
    megabytes = sent if coding == "identity" else download(url, "identity")
    what = name if coding == "identity" else f"{name}, {coding}"
    return {**figures(what, megabytes, spent), "sent": sent, "peak": peak_megabytes(target)}


def download(url: str, coding: str) -> float:
    """Return how many MB an address answers."""
    request = urllib.request.Request(url, headers={"Accept-Encoding": coding})  # noqa: S310 - the benchmark's own
    with urllib.request.urlopen(request, timeout=600) as response:  # noqa: S310 - the same
        return sum(map(len, iter(lambda: response.read(1 << 20), b""))) / 1e6


def cli(program: str, file: Path, what: str, mode: str, query: str) -> Row:
    """Return the figures of `sqlite3`, which writes to /dev/null; what it would have written is counted apart."""
    command = [program, "-readonly", str(file), "-cmd", f".mode {mode}", query]
    counted = subprocess.Popen(command, stdout=subprocess.PIPE)
    if counted.stdout is None:
        raise BenchError("sqlite3 has no output")
    with counted, counted.stdout as output:
        megabytes = sum(map(len, iter(lambda: output.read(1 << 20), b""))) / 1e6
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BenchError(f"sqlite3 failed on {query!r}")
    return {**figures(what, megabytes, usage.ru_utime + usage.ru_stime), "sent": None, "peak": None}


def alone(name: str, target: Target) -> Row:
    """Return the figures of a compressor by itself, on lines of an export."""
    with urllib.request.urlopen(f"{target.url}/api/conversations/export-all?format=ndjson") as response:  # noqa: S310
        text = response.read(16_000_000)
    squeezed, seconds = timed(compressor(name), text)
    row = figures(f"{name} alone", len(text) / 1e6, seconds)
    return {**row, "of_json": None, "of_csv": None, "sent": len(squeezed) / 1e6, "peak": None}


def compressor(name: str) -> Callable[[bytes], bytes]:
    """Return the compressor that exports use, or zlib at its fastest."""
    if name == "zlib":
        return lambda text: zlib.compress(text, 1)
    from isal import isal_zlib  # noqa: PLC0415 - there are no builds of it for some machines

    return lambda text: isal_zlib.compress(text, 2)


def timed(work: Callable[[bytes], bytes], text: bytes) -> tuple[bytes, float]:
    """Return what ``work`` makes of a text, and its CPU seconds."""
    before = time.process_time()
    made = work(text)
    return made, time.process_time() - before


def figures(what: str, megabytes: float, seconds: float) -> Row:
    """Return the part of a row that all have."""
    return {"what": what, "megabytes": megabytes, "seconds": seconds, "rate": megabytes / seconds if seconds else None}


def peak_megabytes(target: Target) -> float:
    """Return the most memory that a process of the server ever had resident."""
    return max(peak_kib(pid) for pid in tree(target.pid or 0)) / 1024


def peak_kib(pid: int) -> int:
    """Return the peak of a process's resident memory."""
    lines = (PROC / str(pid) / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def store(file: Path, size: int) -> None:
    """Add conversations with texts of their own until there are ``size`` messages."""
    template, chance = fill.take_template(file), random.Random(1)  # noqa: S311 - texts, not secrets
    with fill.connected(file) as connection:
        for first in range(0, size // fill.LENGTH, fill.BATCH):
            connection.execute("BEGIN IMMEDIATE")
            for number in range(first, min(first + fill.BATCH, size // fill.LENGTH)):
                conversation, messages = talk(template, number, chance)
                connection.execute(fill.insert(schema.conversations, conversation), conversation)
                connection.executemany(fill.insert(schema.messages, messages[0]), messages)
            connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def talk(template: fill.Template, number: int, chance: random.Random) -> tuple[fill.Values, list[fill.Values]]:
    """Return the rows of a conversation in which something is said, every half a minute."""
    conversation, messages = fill.like(template, number)
    for index, message in enumerate(messages):
        message["content"] = said(chance, 90 if index % 2 else 20)
        message["timestamp"] = conversation["created_at"] + index // 2 * TURN_US + index % 2
    return conversation, messages


def said(chance: random.Random, most: int) -> str:
    """Return some words."""
    words = TEXT.split(" ")
    return " ".join(chance.choices(words, k=chance.randint(1, most)))
