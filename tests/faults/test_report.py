"""docs/promises.md says what the long form measured."""

from __future__ import annotations

from pathlib import Path

from tests.faults import report


def test_the_page_is_made_of_the_kept_figures(tmp_path: Path) -> None:
    report.main(page=tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == report.PAGE.read_text(encoding="utf-8")
