"""Cost and memory of an export, compared with the database's own program on the same rows."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import time
import urllib.request
import zlib
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import databases, fill, servers
from bench.databases import Server
from bench.load import Target
from bench.processes import BenchError, cpu_seconds, peak_kib, tree
from bench.table import Report, Row, medians
from chatkeep.exports.formats import FORMATS

CODINGS = ("gzip", "zstd")
LOOK_S = 0.02  # seconds between measurements of memory
COPIES = 4  # disk space of both stores and the lines between them, in files
COLUMNS = {
    "what": "what",
    "megabytes": "MB",
    "seconds": "CPU s",
    "database_s": "database CPU s",
    "rate": "MB/CPU s",
    "of_first": "of {}",
    "of_second": "of {}",
    "sent": "MB sent",
    "peak": "peak RSS MB",
}
# The columns of an export, with its ids and order. Raw columns are not readable, but cheaper.
QUERIES = {
    "readable": "SELECT lower(hex(conversation_id)) conversation_id, lower(hex(message_id)) id,"
    " lower(hex(parent_id)) parent_id, `position`, timestamp, on_branch, `role`, status, model, finish_reason, error,"
    " cached, input_tokens, output_tokens, content, reasoning FROM messages {} ORDER BY conversation_id, timestamp",
    "raw": "SELECT * FROM messages {} ORDER BY conversation_id, timestamp",
}
# Otherwise a server sorts everything.
IN_ORDER = "FORCE INDEX (ix_messages_conversation)"

NOTES = [
    "MB is the size before compression. Programs write to /dev/null. The database's program writes the same columns.",
    "Readable: with ids in hex. The CPU time of `chatkeep export` includes the start of its process.",
    "The server's CPU time includes sending and all its other work. Its peak RSS is since its start.",
]


@dataclass(frozen=True, slots=True)
class Program:
    """A command that writes rows to its standard output, and its environment."""

    what: str
    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Store:
    """A filled store: its folder, its URL, and its server if it is not SQLite."""

    place: Path
    url: str
    database: Server | None

    def clock(self) -> float:
        """Return the CPU seconds of the database server."""
        return cpu_seconds(self.database.pid) if self.database else 0.0


def arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--messages", type=int, default=1_000_000, help="messages in the store (1000000)")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS), help="which formats (all)")
    databases.argument(parser)


def measure(options: Namespace) -> Report:
    """Measure every format, compressed formats, and the database's own program, in rounds."""
    with (
        servers.folder() as place,
        servers.upstream(place) as direct,
        databases.chosen(options.database) as database,
    ):
        file = filled(place, direct, options.messages, COPIES if database else 1)
        parameters: Row = {
            "messages": options.messages, "file MB": file.stat().st_size / 1e6, "database": options.database,
            "runs": options.runs,
        }  # fmt: skip
        url = database.copy(file) if database else servers.sqlite_url(place)
        own, store = owns(file, url, database), Store(place, url, database)
        with servers.chatkeep(place, direct, url) as target:
            runs = [rows(store, target, own, options.formats) for _ in range(options.runs)]
    return Report("export", parameters, columns(own, database), medians(runs), runs, NOTES)


def filled(place: Path, direct: Target, messages: int, copies: float = 1) -> Path:
    """Make a SQLite store with ``messages`` messages. Raises `BenchError` without disk space for ``copies`` of it."""
    fill.check_room(place, messages, copies)
    with servers.chatkeep(place, direct):
        pass  # it makes the tables, and its warm-up stores real turns
    file = servers.sqlite_file(place)
    fill.fill(file, fill.take_template(file), messages)
    return file


def columns(own: list[Program], database: Server | None) -> dict[str, str]:
    """Return the headings, which name the programs of the comparison."""
    left_out = {"of_second"} if database else {"database_s"}
    names = {"of_first": own[0].what, "of_second": own[1].what}
    return {key: title.format(names.get(key)) for key, title in COLUMNS.items() if key not in left_out}


def owns(file: Path, url: str, database: Server | None) -> list[Program]:
    """Return the database's own programs. The first ones are the baseline."""
    env = tuple(servers.environ().items())
    if database:
        return [
            Program(f"client -q, {name}", tuple(database.client(url, "-q", "-B", "-e", query.format(IN_ORDER))), env)
            for name, query in QUERIES.items()
        ]
    program = shutil.which("sqlite3")
    if not program:
        raise BenchError("There is no sqlite3 here; on Debian and Ubuntu: apt-get install sqlite3")
    return [
        Program(
            f"sqlite3 {mode}, {name}",
            (program, "-readonly", str(file), "-cmd", f".mode {mode}", query.format("")), env,
        )
        for name, query in QUERIES.items()
        for mode in ("json", "csv")
    ]  # fmt: skip


def exporter(store: Store, name: str) -> Program:
    """Return `chatkeep export` of everything."""
    env = servers.command_environ(store.place, store.url)
    return Program(
        f"chatkeep export {name}", tuple(servers.command_line("export", "--format", name)), tuple(env.items())
    )


def rows(store: Store, target: Target, own: list[Program], formats: list[str]) -> list[Row]:
    """Return the figures of one round."""
    found = [alone(store, program) for program in [*own, *(exporter(store, name) for name in formats)]]
    found += [served(store, target, name) for name in formats]
    found += [served(store, target, "ndjson", coding) for coding in CODINGS if "ndjson" in formats]
    for row in found:
        row["of_first"], row["of_second"] = (float(row["rate"] or 0) / float(found[at]["rate"] or 1) for at in (0, 1))
    return [*found, *(compressing(name, target) for name in ("isal", "zlib"))]


def alone(store: Store, program: Program) -> Row:
    """Return the figures of a program that writes to /dev/null."""
    before = store.clock()
    seconds, peak = usage_of(program, store.place / "programs.log")
    spent = store.clock() - before
    return {**figures(program.what, written(program), seconds), "database_s": spent, "sent": None, "peak": peak}


def usage_of(program: Program, log: Path) -> tuple[float, float]:
    """Return the CPU seconds and the peak of the resident MB of a program.

    The peak that ``wait4`` tells would be at least this process's own, out of which it was started.
    """
    with log.open("ab") as errors:
        process = subprocess.Popen(program.command, env=dict(program.env), stdout=subprocess.DEVNULL, stderr=errors)
    peak = 0
    while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
        peak = max(peak, peak_kib(process.pid))
        time.sleep(LOOK_S)
    _, status, usage = ended
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BenchError(f"{program.what} failed:\n{log.read_text(errors='replace')[-2000:]}")
    return usage.ru_utime + usage.ru_stime, peak / 1024


@functools.cache  # every round writes the same
def written(program: Program) -> float:
    """Return the MB that a program writes."""
    with subprocess.Popen(
        program.command, env=dict(program.env), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        if process.stdout is None:
            raise BenchError(f"{program.what} has no output")
        return sum(map(len, iter(functools.partial(process.stdout.read, 1 << 20), b""))) / 1e6


def served(store: Store, target: Target, name: str, coding: str = "identity") -> Row:
    """Return the figures of one export over HTTP. The client discards it."""
    url = f"{target.url}/api/conversations/export-all?format={name}"
    before = cpu_seconds(target.pid or 0), store.clock()
    sent = download(url, coding)
    spent, database_s = cpu_seconds(target.pid or 0) - before[0], store.clock() - before[1]
    megabytes = sent if coding == "identity" else whole(url)
    what = f"server, {name}" if coding == "identity" else f"server, {name}, {coding}"
    return {
        **figures(what, megabytes, spent), "database_s": database_s, "sent": sent, "peak": peak_megabytes(target),
    }  # fmt: skip


def download(url: str, coding: str) -> float:
    """Return the MB of a response."""
    request = urllib.request.Request(url, headers={"Accept-Encoding": coding})  # noqa: S310 - the benchmark's own
    with urllib.request.urlopen(request, timeout=3600) as response:  # noqa: S310 - the same
        return sum(map(len, iter(lambda: response.read(1 << 20), b""))) / 1e6


@functools.cache  # every round sends the same
def whole(url: str) -> float:
    """Return the MB of a response without compression."""
    return download(url, "identity")


def compressing(name: str, target: Target) -> Row:
    """Return the figures of a compressor alone, on lines of an export."""
    with urllib.request.urlopen(f"{target.url}/api/conversations/export-all?format=ndjson") as response:  # noqa: S310
        text = response.read(16_000_000)
    squeezed, seconds = timed(compressor(name), text)
    row = figures(f"{name} alone", len(text) / 1e6, seconds)
    return {**row, "database_s": None, "of_first": None, "of_second": None, "sent": len(squeezed) / 1e6, "peak": None}


def compressor(name: str) -> Callable[[bytes], bytes]:
    """Return the compressor that exports use, or zlib at its fastest."""
    if name == "zlib":
        return lambda text: zlib.compress(text, 1)
    from isal import isal_zlib  # noqa: PLC0415 - some machines have no wheels of it

    return lambda text: isal_zlib.compress(text, 2)


def timed(work: Callable[[bytes], bytes], text: bytes) -> tuple[bytes, float]:
    """Return the result of ``work`` on a text, and its CPU seconds."""
    before = time.process_time()
    made = work(text)
    return made, time.process_time() - before


def figures(what: str, megabytes: float, seconds: float) -> Row:
    """Return the columns that all rows have."""
    return {"what": what, "megabytes": megabytes, "seconds": seconds, "rate": megabytes / seconds if seconds else None}


def peak_megabytes(target: Target) -> float:
    """Return the peak RSS of the server's processes."""
    return max(peak_kib(pid) for pid in tree(target.pid or 0)) / 1024
