"""What the fault suite measured: recorded by the tests, shown after each run, kept as JSON by the long form."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.faults.rows import PRODUCTS

PROPERTY = "figure"
KEPT = Path(__file__).with_name("figures.json")


@dataclass(slots=True)
class Figures:
    """The figures of one run, a row for each fault and database."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def take(self, properties: list[tuple[str, Any]], *, passed: bool) -> None:
        """Take the figures that come with a test's report, also with that of another process."""
        self.rows += [value | {"passed": passed} for name, value in properties if name == PROPERTY]

    def lines(self) -> list[str]:
        """Return the figures for people."""
        return [f"{row['fault']} [{row['database']}]: {shown(row['values'])}" for row in self.rows]

    def keep(self, path: Path = KEPT) -> None:
        """Add the figures to the file, in place of older ones of the same fault on the same database."""
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        new = {(row["fault"], row["database"]) for row in self.rows}
        kept = [row for row in kept if (row["fault"], row["database"]) not in new]
        path.write_text(json.dumps([*kept, *self.rows], indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def figure(promises: tuple[int, ...], fault: str, database: str, values: dict[str, Any]) -> dict[str, Any]:
    """Return one row: what was thrown, on which database, what it measured, when and where."""
    assert database in PRODUCTS, database
    return {
        "promises": promises,
        "fault": fault,
        "database": database,
        "values": values,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
    }


def shown(values: dict[str, Any]) -> str:
    """Return figures as a line of text."""
    return ", ".join(f"{name} {number(value)}" for name, value in values.items())


def number(value: Any) -> str:
    """Return a figure, or counts by name, as text."""
    if isinstance(value, dict):
        return " + ".join(f"{number(count)} × {name}" for name, count in sorted(value.items()))  # noqa: RUF001
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
