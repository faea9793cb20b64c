"""docs/promises.md and the READMEs' table match the figures of the long form."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.faults import readme, report


def test_pages_match_the_stored_figures(tmp_path: Path) -> None:
    readmes = tuple(Path(shutil.copy(page, tmp_path)) for page in readme.PAGES)
    report.main(page=tmp_path / "promises.md", readmes=readmes)
    written = [page.read_text(encoding="utf-8") for page in (tmp_path / "promises.md", *readmes)]
    assert written == [page.read_text(encoding="utf-8") for page in (report.PAGE, *readme.PAGES)]


@pytest.mark.parametrize(("language", "told"), [(0, "12 s at most"), (1, "最多 12 秒")])
def test_new_figure_changes_only_its_cell(language: int, told: str) -> None:
    name = "longest s to a final status"
    rows = [
        {"fault": "kill -9 of a worker", "database": "MySQL", "values": {name: seconds}} for seconds in (8.5, 11.96)
    ]
    filled = [line.split(" | ")[1:] for line in readme.lines(language, rows)][2:]
    assert [cells for cells in filled if cells != ["-", "-", "- |"]] == [["-", "-", f"{told} |"]]


def test_values_follow_the_order_of_their_databases(tmp_path: Path) -> None:
    values = {"acknowledged": 7, "lost": 0, "doubled": 2, "streams compared": 7, "unsound rows": 1}
    row = {"promises": [1, 3], "fault": "a fault", "passed": True, "date": "2026-12-01", "machine": "a machine"}
    rows = [
        row | {"database": "MySQL", "values": values},
        row | {"database": "SQLite", "values": values | {"doubled": 0, "unsound rows": 0}, "passed": False},
    ]
    (tmp_path / "figures.json").write_text(json.dumps(rows), encoding="utf-8")
    report.main(tmp_path / "figures.json", tmp_path / "promises.md", ())
    told = "acknowledged 7, wrong 0/3, doubled -/2, unsound rows -/1, **not kept on SQLite**"
    page = (tmp_path / "promises.md").read_text(encoding="utf-8")
    assert f"- **a fault** (SQLite/MySQL, also 3): {told}." in page
    assert "## 3. No reply stays “generating”\n\nSee 1.\n" in page


def test_faults_that_differ_in_their_last_word_share_an_item(tmp_path: Path) -> None:
    row = {"promises": [5], "database": "SQLite", "passed": True, "date": "2026-12-01", "machine": "a machine"}
    measured = {"a body at flask": 1, "a body at gunicorn": 2, "a body at waitress": 1}
    rows = [row | {"fault": fault, "values": {"s": value}} for fault, value in measured.items()]
    (tmp_path / "figures.json").write_text(json.dumps(rows), encoding="utf-8")
    report.main(tmp_path / "figures.json", tmp_path / "promises.md", ())
    page = (tmp_path / "promises.md").read_text(encoding="utf-8")
    assert "- **a body at flask, waitress** (SQLite): s 1.\n- **a body at gunicorn** (SQLite): s 2.\n" in page
