"""The figures of several runs as one table."""

from __future__ import annotations

import json

from bench.table import Report, Row, add_ratio, as_json, as_text, medians


def test_the_median_of_each_number_is_taken_and_what_was_never_measured_stays_away() -> None:
    runs: list[list[Row]] = [[{"server": "a", "cost": cost, "ratio": None}] for cost in (9.0, 1.0, 2.0)]
    assert medians(runs) == [{"server": "a", "cost": 2.0, "ratio": None}]


def test_a_ratio_is_to_the_row_of_nginx() -> None:
    rows: list[Row] = [{"server": "chatkeep", "cost": 60.0}, {"server": "nginx", "cost": 40.0}]
    add_ratio(rows, "cost")
    assert [row["ratio"] for row in rows] == [1.5, 1.0]


def test_a_table_without_nginx_has_no_ratio() -> None:
    rows: list[Row] = [{"server": "chatkeep", "cost": 60.0}]
    add_ratio(rows, "cost")
    assert rows[0]["ratio"] is None


def test_a_table_shows_its_columns_aligned_and_three_digits() -> None:
    rows: list[Row] = [
        {"server": "chatkeep", "cost": 1234.56, "hidden": 1},
        {"server": "nginx", "cost": 0.126},
        {"server": "direct", "cost": None},
    ]
    report = Report("stream", {"streams": 1000}, {"server": "server", "cost": "CPU µs"}, rows, notes=["A note."])
    assert as_text(report).splitlines() == [
        "## stream: streams 1,000",
        "",
        "| server   | CPU µs |",
        "|----------|-------:|",
        "| chatkeep |  1,235 |",
        "| nginx    |   0.13 |",
        "| direct   |      - |",
        "",
        "A note.",
    ]


def test_json_has_every_run() -> None:
    report = Report("turn", {"turns": 8}, {}, [{"cost": 2.0}], [[{"cost": 1.0}], [{"cost": 3.0}]])
    found = json.loads(as_json({"cores": 2}, [report]))
    assert found["environment"] == {"cores": 2}
    assert found["benches"][0]["runs"] == [[{"cost": 1.0}], [{"cost": 3.0}]]
