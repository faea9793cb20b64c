"""Connections that observe the statements sent through them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from chatkeep.store.sql import Append, DriverConnection, Sql


class PassingOn:
    """A `DriverConnection` that passes everything on to another one."""

    def __init__(self, connection: DriverConnection) -> None:
        self.beneath = connection

    @property
    def writes(self) -> int:
        """How many statements have written."""
        return self.beneath.writes

    def rows(self, sql: Sql, **values: Any) -> list[tuple[Any, ...]]:
        """Run a query and return its rows."""
        return self.beneath.rows(sql, **values)

    def stream(self, sql: Sql, **values: Any) -> AbstractContextManager[Iterator[tuple[Any, ...]]]:
        """Run a query whose rows are read one by one."""
        return self.beneath.stream(sql, **values)

    def change(self, sql: Sql, **values: Any) -> int:
        """Run an INSERT, UPDATE or DELETE and return how many rows it matched."""
        return self.beneath.change(sql, **values)

    def change_each(self, sql: Sql, rows: list[dict[str, Any]]) -> None:
        """Run an INSERT once for each row of values."""
        self.beneath.change_each(sql, rows)

    def append(self, appends: list[Append]) -> int:
        """Append to replies."""
        return self.beneath.append(appends)

    def begin(self, *, waits: bool = True) -> None:
        """Begin a transaction."""
        self.beneath.begin(waits=waits)

    def commit(self) -> None:
        """End the transaction."""
        self.beneath.commit()

    def rollback(self) -> None:
        """Roll back the transaction."""
        self.beneath.rollback()

    def close(self) -> None:
        """Close the connection."""
        self.beneath.close()


class Planned(PassingOn):
    """Records each statement and its query plan."""

    def __init__(self, connection: DriverConnection, *, embedded: bool) -> None:
        super().__init__(connection)
        self.sent: list[Sql] = []
        self.plans: list[tuple[str, str]] = []
        self._embedded = embedded

    def rows(self, sql: Sql, **values: Any) -> list[tuple[Any, ...]]:
        """Run a query and return its rows."""
        self._explain(sql, values)
        return super().rows(sql, **values)

    def stream(self, sql: Sql, **values: Any) -> AbstractContextManager[Iterator[tuple[Any, ...]]]:
        """Run a query whose rows are read one by one."""
        self._explain(sql, values)
        return super().stream(sql, **values)

    def change(self, sql: Sql, **values: Any) -> int:
        """Run an INSERT, UPDATE or DELETE and return how many rows it matched."""
        self._explain(sql, values)
        return super().change(sql, **values)

    def scans(self) -> list[tuple[str, str]]:
        """Return the statements that scan a table, or sort what an index could have sorted."""
        return [plan for plan in self.plans if _is_slow(*plan, embedded=self._embedded)]

    def _explain(self, sql: Sql, values: dict[str, Any]) -> None:
        self.sent.append(sql)
        if sql.sqlite.startswith("INSERT"):
            return
        explain = Sql("")
        explain.sqlite, explain.mysql = f"EXPLAIN QUERY PLAN {sql.sqlite}", f"EXPLAIN FORMAT=TRADITIONAL {sql.mysql}"
        self.plans += [(sql.sqlite, str(row)) for row in self.beneath.rows(explain, **values)]


def _is_slow(statement: str, plan: str, *, embedded: bool) -> bool:
    """Return whether a plan scans or sorts without an index. Computed groups have no index."""
    grouped = "GROUP BY" in statement
    if embedded:
        return "SCAN" in plan or ("TEMP B-TREE" in plan and not grouped)
    return "'ALL'" in plan or ("filesort" in plan and not grouped)
