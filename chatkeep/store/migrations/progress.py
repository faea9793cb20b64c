"""Report a migration to the operator: its cost and locks beforehand, then its progress."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from chatkeep.i18n import N_, Text, _
from chatkeep.store.migrations.changes import Change, NewIndex
from chatkeep.store.migrations.patience import Tell

if TYPE_CHECKING:
    from chatkeep.store.migrations.running import Step

MANY = 100_000
"""Indexes on more rows than this are reported one by one. All other changes are quick."""
AGAIN_S = 10.0
# Seconds of the slowest index for a million rows, as measured in docs/deployment.md.
INDEX_S = {"sqlite": 3.0, "mysql": 11.0}
_BEGINS = {
    "sqlite": N_(
        "Migrating from {before} to {after}: {count} changes. While a step is made nothing else can be stored; "
        "reading goes on."
    ),
    "mysql": N_(
        "Migrating from {before} to {after}: {count} changes. Reading and storing go on. "
        "Each change waits for open transactions and locks its table for a moment."
    ),
}


class Work(NamedTuple):
    """A change to make, and how many rows it has to read."""

    revision: str
    change: Change
    rows: int


class Progress:
    """Reports one migration."""

    def __init__(self, connection: sa.Connection, tell: Tell) -> None:
        self.tell = tell
        self._connection = connection
        self._database = connection.dialect.name
        self._todo: list[Work] = []
        self._made = 0

    def announce(self, before: str, steps: Sequence[Step]) -> None:
        """Report the missing changes, the expected time of large indexes, and what is locked."""
        rows: dict[str, int | None] = {}
        for step in steps:
            for change in step.changes:
                if change.table not in rows:
                    rows[change.table] = self._rows(change.table)
                found = rows[change.table]
                if found is None or not change.is_made(self._connection):
                    reads = (found or 0) if isinstance(change, NewIndex) else 0
                    self._todo.append(Work(step.revision, change, reads))
        if not self._todo:
            return
        after, count = steps[-1].revision, len(self._todo)
        self.tell(Text(_BEGINS[self._database], before=before, after=after, count=count))
        for work in self._todo:
            if work.rows >= MANY:
                self.tell(
                    _(
                        "{revision}: {change}, about {rows} rows, about {seconds} s",
                        revision=work.revision,
                        change=work.change.title,
                        rows=f"{work.rows:,}",
                        seconds=f"{self._expected(work):,.0f}",
                    )
                )

    @contextmanager
    def making(self, change: Change) -> Iterator[None]:
        """Report the progress and the duration of a change."""
        self._made += 1
        work = next((work for work in self._todo if work.change is change), None)
        if work is None or work.rows < MANY:
            yield
            return
        self.tell(_("{number} of {count}: {change}", number=self._made, count=len(self._todo), change=change.title))
        began, is_over = time.monotonic(), threading.Event()
        threading.Thread(target=self._tick, args=(work, began, is_over), name="progress", daemon=True).start()
        try:
            yield
        finally:
            is_over.set()
        seconds = time.monotonic() - began
        self.tell(
            _(
                "Made in {seconds} s, {rows} rows a second.",
                seconds=f"{seconds:,.1f}",
                rows=f"{work.rows / seconds:,.0f}",
            )
        )

    def _tick(self, work: Work, began: float, is_over: threading.Event) -> None:
        while not is_over.wait(AGAIN_S):
            seconds = time.monotonic() - began
            self.tell(
                _(
                    "{change}: {seconds} s of about {expected} s",
                    change=work.change.title,
                    seconds=f"{seconds:,.0f}",
                    expected=f"{self._expected(work):,.0f}",
                )
            )

    def _expected(self, work: Work) -> float:
        """Return the expected seconds of an index."""
        return work.rows / 1e6 * INDEX_S[self._database]

    def _rows(self, table: str) -> int | None:
        """Estimate the rows of a table; None if it does not exist."""
        if not sa.inspect(self._connection).has_table(table):
            return None
        if self._database == "sqlite":
            quoted = self._connection.dialect.identifier_preparer.quote(table)
            return int(self._connection.exec_driver_sql(f"SELECT COUNT(*) FROM {quoted}").scalar_one())  # noqa: S608 - our own names
        estimated = sa.text(
            "SELECT table_rows FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = :name"
        )
        return int(self._connection.execute(estimated, {"name": table}).scalar() or 0)
