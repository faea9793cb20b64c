"""Reports of benchmarks, as tables or as JSON."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field

Value = str | float | None
Row = dict[str, Value]


@dataclass(frozen=True, slots=True)
class Report:
    """The rows of one benchmark. ``columns`` maps the keys that the table shows to headings."""

    bench: str
    parameters: dict[str, Value]
    columns: dict[str, str]
    rows: list[Row]
    runs: list[list[Row]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def medians(runs: list[list[Row]]) -> list[Row]:
    """Combine the rows of several runs: the median of every number."""
    return [{key: _median([row[key] for row in same]) for key in same[0]} for same in zip(*runs, strict=True)]


def _median(values: list[Value]) -> Value:
    numbers = [value for value in values if isinstance(value, int | float)]
    return statistics.median(numbers) if numbers else values[0]


def add_ratio(rows: list[Row], key: str, of: str = "nginx", ratio: str = "ratio") -> None:
    """Add the value relative to nginx to every row, if nginx was measured."""
    base = next((row[key] for row in rows if row["server"] == of), None)
    for row in rows:
        value = row[key]
        row[ratio] = value / base if isinstance(value, int | float) and isinstance(base, int | float) and base else None


def as_text(report: Report) -> str:
    """Return a report as a Markdown table with a heading."""
    parameters = ", ".join(f"{name} {_shown(value)}" for name, value in report.parameters.items())
    return "\n".join([f"## {report.bench}: {parameters}", "", *_table(report), "", *report.notes])


def _table(report: Report) -> list[str]:
    cells = [list(report.columns.values())]
    cells += [[_shown(row.get(key)) for key in report.columns] for row in report.rows]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(map(_aligned, line, widths, range(len(line)))) + " |" for line in cells]
    rule = "|" + "|".join("-" * (width + 1) + ("-" if index == 0 else ":") for index, width in enumerate(widths)) + "|"
    return [lines[0], rule, *lines[1:]]


def _aligned(cell: str, width: int, index: int) -> str:
    return cell.ljust(width) if index == 0 else cell.rjust(width)


def _shown(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, int) or value == round(value) or abs(value) >= 100:  # noqa: PLR2004 - three significant digits
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"  # noqa: PLR2004 - the same


def as_json(environment: dict[str, Value], reports: list[Report]) -> str:
    """Return reports as JSON, with the rows of every run."""
    found = [
        {
            "bench": report.bench,
            "parameters": report.parameters,
            "rows": report.rows,
            "runs": report.runs,
            "notes": report.notes,
        }
        for report in reports
    ]
    return json.dumps({"environment": environment, "benches": found}, indent=2, ensure_ascii=False)
