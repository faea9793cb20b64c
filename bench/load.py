"""Compile the two load tools in ``load/`` when they are first needed, and run them against a server."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.processes import BenchError

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "bench" / "load"
CACHE = ROOT / "build" / "bench"


@dataclass(frozen=True, slots=True)
class Target:
    """A server under load: its address, an API key if it needs one, and the root of its process tree.

    Without ``pid`` it is not measured.
    """

    name: str
    pid: int | None
    port: int
    path: str
    mode: str
    log: Path | None = None
    key: str | None = None

    @property
    def url(self) -> str:
        """The root of the server."""
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class Load:
    """The requests to a server: ``connections`` in parallel, with ``requests`` in turn on each.

    Every stream has ``tokens`` at ``rate`` a second (0: as fast as they go); connections open over ``ramp`` seconds.
    """

    connections: int
    requests: int = 1
    stream: bool = True
    tokens: int = 1
    rate: float = 0
    ramp: float = 0

    @property
    def total(self) -> int:
        """Requests of all connections."""
        return self.connections * self.requests


@dataclass(frozen=True, slots=True)
class Outcome:
    """The client's results, with times in µs. ``delay`` is the latency of a token, ``ttft`` that of the first one.

    ``open_most`` is how many requests were under way at once at most.
    """

    requests: int
    tokens: int
    wall: float
    ttft_p50: int
    delay_p50: int
    delay_p99: int
    latency_p50: int
    latency_p99: int
    open_most: int
    raw: dict[str, Any] = field(repr=False)


def tool(name: str) -> Path:
    """Return the path of a compiled load tool. Raises `BenchError` if it can't be compiled."""
    source = SOURCES / f"{name}.cc"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    program = CACHE / f"{name}-{digest}"
    if not program.exists():
        _compile(source, program)
    return program


def _compile(source: Path, program: Path) -> None:
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        raise BenchError("The load tools are C++ and there is no g++ here; on Debian and Ubuntu: apt-get install g++")
    CACHE.mkdir(parents=True, exist_ok=True)
    fresh = program.with_suffix(f".{os.getpid()}")  # two benchmarks may compile at once
    subprocess.run([compiler, "-std=c++17", "-O2", "-o", fresh, source], check=True)
    fresh.replace(program)


def command(target: Target, load: Load) -> list[str]:
    """Return the client's command line for a load."""
    shape = (int(load.stream), load.connections, load.requests, 0, int(load.ramp * 1000), load.tokens, load.rate)
    return [str(tool("client")), str(target.port), target.path, target.mode, *map(str, shape)]


def drive(target: Target, load: Load) -> Outcome:
    """Put a load on a server and return the results. Raises `BenchError` if any response was wrong."""
    env = os.environ | ({"KEY": target.key} if target.key else {})
    return outcome(target, subprocess.run(command(target, load), env=env, capture_output=True, check=True).stdout)


def outcome(target: Target, printed: bytes) -> Outcome:
    """Return the client's results. Raises `BenchError` if any response was wrong: then the figures mean nothing."""
    seen = json.loads(printed)
    if seen["err"] or seen["unfinished"]:
        ending = target.log.read_text(errors="replace")[-2000:] if target.log else ""
        raise BenchError(f"{target.name} answered wrong: {seen}\n{ending}")
    return Outcome(
        requests=seen["ok"],
        tokens=seen["tokens"],
        wall=seen["wall"],
        ttft_p50=seen["ttft_p50"],
        delay_p50=seen["dly_p50"],
        delay_p99=seen["dly_p99"],
        latency_p50=seen["lat_p50"],
        latency_p99=seen["lat_p99"],
        open_most=seen["open_max"],
        raw=seen,
    )
