"""Cost of the same work in LiteLLM's proxy, which stores nothing."""

from __future__ import annotations

import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path

from bench import nginx, servers, stream, turn
from bench.load import CACHE, ROOT, Load, Target, drive
from bench.processes import free_port, running, wait_until
from bench.table import Report, Row, add_ratio, medians

PEER = "litellm[proxy]"
HOME = CACHE / "litellm"
START_S = 180.0
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", "install")
CONFIGURATION = """
model_list:
  - model_name: bench
    litellm_params:
      model: openai/bench
      api_base: {provider}/v1
      api_key: key-of-the-benchmark
general_settings:
  dangerously_permit_weak_or_unset_master_key: true
"""
# Otherwise it downloads the prices of models.
OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
COLUMNS = {
    "server": "server",
    "token_us": "CPU µs/token",
    "token_ratio": "ratio to nginx",
    "stream_us": "turn, stream: CPU µs",
    "stream_ratio": "ratio",
    "json_us": "turn, JSON: CPU µs",
    "json_ratio": "ratio",
    "ttft_added_ms": "TTFT added, low load, ms",
    "delay_p99_ms": "token delay p99 ms",
}


def arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--streams", type=int, default=200, help="streams side by side, 20 tokens a second each (200)")
    parser.add_argument("--turns", type=int, default=400, help="turns of one token of each kind (400)")


def measure(options: Namespace) -> Report:
    """Measure chatkeep, LiteLLM's proxy and nginx on the same work, one after another."""
    install()
    loads = {"token": stream.load_of(options.streams), **turn.loads_of(options.turns)}
    with servers.folder() as place, servers.upstream(place) as direct:
        runs = [run(place, direct, loads, number) for number in range(options.runs)]
    rows = medians(runs)
    for kind in loads:
        add_ratio(rows, f"{kind}_us", ratio=f"{kind}_ratio")
    parameters: Row = {
        "streams": options.streams, "rate": stream.RATE, "tokens": loads["token"].tokens, "turns": options.turns,
        "LiteLLM": version(), "runs": options.runs,
    }  # fmt: skip
    note = (
        "One worker each. chatkeep stores every turn and every token before it is shown; LiteLLM and nginx store none."
    )
    return Report("peers", parameters, COLUMNS, rows, runs, [note])


def install() -> None:
    """Install the newest proxy into a separate environment, once."""
    done = HOME / "installed"
    if done.exists():
        return
    print(f"bench: installing {PEER} into {HOME.relative_to(ROOT)} …", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", HOME], check=True)
    subprocess.run([HOME / "bin" / "python", *PIP, PEER], check=True)
    done.touch()


def version() -> str:
    """Return the installed version."""
    packages = next(HOME.glob("lib/python*/site-packages"))
    return next(one.version for one in distributions(name="litellm", path=[str(packages)]))


def run(place: Path, direct: Target, loads: dict[str, Load], number: int) -> list[Row]:
    """Measure each server once."""
    home = place / f"run{number}"
    home.mkdir()
    low = drive(direct, stream.LOW).ttft_p50
    with servers.chatkeep(home, direct) as target:
        rows = [row(target, loads, low)]
        servers.check_replies(
            target, servers.WARM_UP.total + stream.LOW.total + sum(load.total for load in loads.values())
        )
    with litellm(home, direct) as target:
        rows.append(row(target, loads, low))
    with nginx.proxy(place, direct) as proxy:
        if proxy:
            rows.append(row(proxy, loads | {kind: turn.more(loads[kind]) for kind in turn.KINDS}, low))
    return rows


def row(target: Target, loads: dict[str, Load], low: int) -> Row:
    """Return the figures of one server."""
    turns = {f"{kind}_us": turn.row(target, kind, loads[kind])["turn_us"] for kind in turn.KINDS}
    return stream.row(target, loads["token"], low) | turns


@contextmanager
def litellm(place: Path, provider: Target) -> Iterator[Target]:
    """Run a warmed-up LiteLLM proxy with one worker in front of the provider."""
    port, log, configuration = free_port(), place / "litellm.log", place / "litellm.yaml"
    configuration.write_text(CONFIGURATION.format(provider=provider.url))
    options = ("--config", str(configuration), "--host", "127.0.0.1", "--port", str(port))
    quiet = ("--num_workers", "1", "--telemetry", "False")
    environ = {name: value for name, value in servers.environ(**OFFLINE).items() if name != "PYTHONPATH"}
    with running(HOME / "bin" / "litellm", *options, *quiet, env=environ, log=log) as process:
        target = Target("LiteLLM", process.pid, port, provider.path, provider.mode, log)
        wait_until(lambda: servers.answers(f"{target.url}/health/liveliness"), process, log, START_S)
        drive(target, servers.WARM_UP)
        yield target
