"""SQL statements in the dialects of both databases, and the protocols of what runs them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from chatkeep.domain.conversation import Delta
from chatkeep.errors import ChatkeepError


class StoreError(ChatkeepError):
    """Base of the store's internal errors; none of these reaches a caller of the store."""


class Duplicate(StoreError):
    """A unique or foreign key constraint failed.

    The statement changed nothing, and the transaction goes on.
    """


class Contention(StoreError):
    """A deadlock or a lock timeout rolled the transaction back; run all of it again."""


class Sql:
    """One statement with ``:name`` parameters; ``mysql`` is its text for MySQL, if that differs."""

    __slots__ = ("mysql", "sqlite")

    def __init__(self, text: str, *, mysql: str | None = None) -> None:
        self.sqlite = text
        self.mysql = re.sub(r":(\w+)", r"%(\1)s", (mysql or text).replace("%", "%%"))


class Append(NamedTuple):
    """A delta for a reply whose row holds ``at`` characters so far (content and reasoning together)."""

    reply_id: UUID
    at: int
    delta: Delta

    @property
    def length(self) -> int:
        """Characters that this adds."""
        return len(self.delta.text) + len(self.delta.reasoning)


class Connection(Protocol):
    """Runs statements: a driver's connection, or a `Transaction` on one.

    Raises `Duplicate` and `Contention`, `DatabaseTimeout` for a statement that the database interrupted,
    `DatabaseRefused` for a statement that the database never accepts, and `StoreUnavailable` for all other failures.
    """

    def rows(self, sql: Sql, **values: Any) -> list[tuple[Any, ...]]:
        """Run a query and return its rows."""

    def stream(self, sql: Sql, **values: Any) -> AbstractContextManager[Iterator[tuple[Any, ...]]]:
        """Run a query and fetch its rows one by one, only as far as the caller reads."""

    def change(self, sql: Sql, **values: Any) -> int:
        """Run an INSERT, UPDATE or DELETE and return how many rows it matched."""

    def change_each(self, sql: Sql, rows: list[dict[str, Any]]) -> None:
        """Run an INSERT once for each row of values, in few round trips."""

    def append(self, appends: list[Append]) -> int:
        """Append to each reply that is still generating and holds exactly ``at`` characters; return how many did."""


class DriverConnection(Connection, Protocol):
    """A connection of a database driver; it autocommits until `begin`."""

    @property
    def writes(self) -> int:
        """How many statements have written: an operation that fails before its first write needs no rollback."""

    def begin(self, *, waits: bool = True) -> None:
        """Begin a transaction that writes.

        Unless it ``waits``, raise `Contention` if another transaction holds the database's write lock.
        """

    def commit(self) -> None:
        """Make the transaction durable. Raises `OutcomeUnknown` if the database does not answer."""

    def rollback(self) -> None:
        """Roll back the transaction, if one is open."""

    def close(self) -> None:
        """Close the connection, whatever its state."""


def quoted(names: Iterable[str]) -> str:
    """Return column names as a list, each in backticks: each database reserves other words."""
    return ", ".join(f"`{name}`" for name in names)


def in_list(name: str, values: Iterable[Any]) -> tuple[str, dict[str, Any]]:
    """Return the placeholders and the parameters of ``IN (…)``."""
    parameters = {f"{name}{index}": value for index, value in enumerate(values)}
    return ", ".join(f":{key}" for key in parameters), parameters
