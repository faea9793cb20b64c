"""The default loads of the benchmarks, and the statements that they replay."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from bench import databases, stream, turn, write
from bench.__main__ import BENCHES, SHORT, parser
from bench.table import Row
from tests.servers import ROOT


@pytest.mark.parametrize("streams", [20, 200, 1000, 3000])
def test_all_streams_are_open_together_for_a_while_however_many_there_are(streams: int) -> None:
    load = stream.load_of(streams)
    assert load.tokens / load.rate - load.ramp == pytest.approx(stream.TOGETHER_S, abs=1 / load.rate)
    assert load.connections / load.ramp == stream.BEGUN_A_SECOND


def test_two_hundred_streams_have_fifty_tokens_each_within_a_second() -> None:
    load = stream.load_of(200)
    assert (load.tokens, load.ramp) == (50, 1)


def test_what_is_said_of_a_load_holds() -> None:
    load = stream.load_of(10, rate=5, tokens=7, ramp=0)
    assert (load.connections, load.rate, load.tokens, load.ramp) == (10, 5, 7, 0)


def test_nginx_is_given_more_of_the_same_turns() -> None:
    json = turn.loads_of(80)["json"]
    assert (json.total, json.stream) == (80, False)
    assert (turn.more(json).total, turn.more(json).stream) == (80 * turn.NGINX_TIMES, False)


def test_the_database_has_a_column_where_it_is_a_server() -> None:
    columns = {"server": "server", "database_us": "database CPU µs"}
    assert databases.shown(columns, "mariadb") == columns
    assert databases.shown(columns, "sqlite") == {"server": "server"}


def test_every_benchmark_has_a_short_form_but_the_one_that_installs() -> None:
    assert BENCHES.keys() - {arguments[0] for arguments in SHORT} == {"peers"}
    for arguments in SHORT:
        assert parser().parse_args(arguments).bench == arguments[0]


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("UPDATE t SET a = :a WHERE b = :b AND c = :a", "?", "UPDATE t SET a = ? WHERE b = ? AND c = ?"),
        ("UPDATE t SET a = %(a)s WHERE b = %(b)s AND c = %(a)s", "%s", "UPDATE t SET a = %s WHERE b = %s AND c = %s"),
    ],
)
def test_a_statement_is_replayed_with_its_values_in_order(text: str, place: str, expected: str) -> None:
    assert write.positional(text, {"b": 2, "a": 1}, place) == (expected, (1, 2, 1))


def test_ratio_and_growth_are_to_the_raw_driver_and_to_the_smallest_store() -> None:
    costs = {(1, write.RAW): 100.0, (1, write.STORE): 150.0, (9, write.RAW): 200.0, (9, write.STORE): 180.0}
    rows: list[Row] = [{"messages": size, "way": way, "turn_us": cost} for (size, way), cost in costs.items()]
    write.add_ratios(rows)
    assert [row["ratio"] for row in rows] == [1.0, 1.5, 1.0, 0.9]
    assert [row["growth"] for row in rows] == [1.0, 1.0, 2.0, 1.2]


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="the load tools are C++")
@pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks read /proc")
@pytest.mark.parametrize(
    "arguments",
    [
        ("cached", "--requests=16"),
        ("limits", "--turns=80"),
        ("write", "--turns=30", "--messages", "2000"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_benchmark_measures_and_finds_its_own_checks_true(arguments: tuple[str, ...]) -> None:
    """Takes seconds: a server, a provider and nginx are started, and the load tools compiled the first time."""
    command = (sys.executable, "-m", "bench", *arguments, "--runs=1", "--json")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f'"bench": "{arguments[0]}"' in done.stdout
