"""Statements in the words of both databases, and the connections that run them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from chatkeep.domain.audit import AuditEvent
from chatkeep.domain.conversation import Delta
from chatkeep.errors import ChatkeepError
from chatkeep.store.ledger import Ledger


class StoreError(ChatkeepError):
    """Base of what the store raises to itself; none of these reaches a caller of the store."""


class Duplicate(StoreError):
    """A unique key exists already, or what a row belongs to is gone.

    The statement changed nothing and the transaction goes on.
    """


class Contention(StoreError):
    """A deadlock or a lock's timeout rolled the transaction back; run the whole of it again."""


class Sql:
    """One statement with ``:name`` parameters; ``mysql`` is its text there, where it differs."""

    __slots__ = ("mysql", "sqlite")

    def __init__(self, text: str, *, mysql: str | None = None) -> None:
        self.sqlite = text
        self.mysql = re.sub(r":(\w+)", r"%(\1)s", (mysql or text).replace("%", "%%"))


class Append(NamedTuple):
    """A delta to be appended to a reply whose row holds ``at`` characters (content and reasoning together) so far."""

    reply_id: UUID
    at: int
    delta: Delta

    @property
    def length(self) -> int:
        """How many characters this adds."""
        return len(self.delta.text) + len(self.delta.reasoning)


class Connection(Protocol):
    """A database connection; in autocommit until `begin`.

    Raises `Duplicate` and `Contention`, `DatabaseTimeout` for a statement that the database ended, `StoreUnavailable`
    for whatever else keeps the database from working now, and `DatabaseRefused` for a statement that it never takes.
    """

    writes: int
    """How many statements have written so far: an operation that failed without any needs no rollback."""
    epoch: int | None
    """The epoch that what changes is stamped with; None, which no row takes, where the transaction holds none."""
    ledger: Ledger
    """What the transaction counts of what callers use."""
    notes: list[AuditEvent]
    """What the transaction tells the audit log."""

    def rows(self, sql: Sql, **values: Any) -> list[tuple[Any, ...]]:
        """Run a query and return its rows."""

    def stream(self, sql: Sql, **values: Any) -> AbstractContextManager[Iterator[tuple[Any, ...]]]:
        """Run a query whose rows are read one by one, and only as far as they are wanted."""

    def change(self, sql: Sql, **values: Any) -> int:
        """Run an INSERT, UPDATE or DELETE and return how many rows it matched."""

    def change_each(self, sql: Sql, rows: list[dict[str, Any]]) -> None:
        """Run an INSERT once for each row of values, with few round trips."""

    def append(self, appends: list[Append]) -> int:
        """Append to every reply whose row is still generating and holds just ``at`` characters; return how many did."""

    def begin(self, *, waits: bool = True) -> None:
        """Begin a transaction that writes; unless it ``waits``, `Contention` where another one holds all up."""

    def commit(self) -> None:
        """Make the transaction durable. Raises `OutcomeUnknown` if it may be or not."""

    def rollback(self) -> None:
        """Undo the transaction, as far as one is open."""

    def close(self) -> None:
        """Close the connection, whatever its state."""


def quoted(names: Iterable[str]) -> str:
    """Return names of columns as a list, each in backticks: what one database reserves is free on another."""
    return ", ".join(f"`{name}`" for name in names)


def in_list(name: str, values: Iterable[Any]) -> tuple[str, dict[str, Any]]:
    """Return the placeholders and parameters for ``IN (…)``."""
    parameters = {f"{name}{index}": value for index, value in enumerate(values)}
    return ", ".join(f":{key}" for key in parameters), parameters
