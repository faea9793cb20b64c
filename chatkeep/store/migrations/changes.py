"""The changes of which migration steps consist. Each checks what exists, so that a step can be repeated and resumed.

MySQL and MariaDB commit each change by itself, so a killed step is partly done. On SQLite a step is atomic.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa
from pymysql.constants import ER
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable, DropIndex

from chatkeep.i18n import Text, _

Tell = Callable[[Text], None]
# The types of the steps' columns.
UUID = sa.LargeBinary(16).with_variant(mysql.BINARY(16), "mysql")
DIGEST = sa.LargeBinary(32).with_variant(mysql.BINARY(32), "mysql")
TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}

AGAIN_S = 3.0
"""How long a change leaves a table to others before it tries again to lock it."""
# How a server can change a table while others use it, best first. The last one locks the table.
INSTANT = ", ALGORITHM=INSTANT"
ONLINE = ", ALGORITHM=INPLACE, LOCK=NONE"
LOCKED = ""
# The server does not support that way: ER_ALTER_OPERATION_NOT_SUPPORTED, the same with a reason, and
# ER_INNODB_MAX_ROW_VERSION.
_NOT_THAT_WAY = {1845, 1846, 4092}


class Change(ABC):
    """One change of one table."""

    def __init__(self, table: str, name: str, title: Text) -> None:
        self.table = table
        self.name = name
        self.title = title
        """What people call it."""

    def __str__(self) -> str:
        return self.title

    @abstractmethod
    def is_made(self, connection: sa.Connection) -> bool:
        """Return whether the database has the change already."""

    @abstractmethod
    def make(self, connection: sa.Connection, tell: Tell) -> None:
        """Make the change, online if the database can. ``tell`` what it waits for."""


class NewTable(Change):
    """A table."""

    def __init__(self, table: sa.Table) -> None:
        super().__init__(table.name, table.name, _("table {name}", name=table.name))
        self._table = table

    def is_made(self, connection: sa.Connection) -> bool:
        """Return whether the table exists."""
        return sa.inspect(connection).has_table(self.table)

    def make(self, connection: sa.Connection, tell: Tell) -> None:  # noqa: ARG002 - a new table is unused
        """Create the table."""
        connection.execute(CreateTable(self._table))


class NewColumn(Change):
    """A column of an existing table."""

    def __init__(self, table: str, column: sa.Column[Any]) -> None:
        super().__init__(table, f"{table}.{column.name}", _("column {name}", name=f"{table}.{column.name}"))
        self._column = column
        sa.Table(table, sa.MetaData(), column)

    def is_made(self, connection: sa.Connection) -> bool:
        """Return whether the table has such a column."""
        return self._column.name in {column["name"] for column in sa.inspect(connection).get_columns(self.table)}

    def make(self, connection: sa.Connection, tell: Tell) -> None:
        """Add the column; no row is rewritten."""
        described = CreateColumn(self._column).compile(dialect=connection.dialect)
        _alter(connection, self.table, f"ADD COLUMN {described}", (INSTANT, ONLINE, LOCKED), tell)


class NewIndex(Change):
    """An index of a table that there is, in place of one with the same name and other columns."""

    def __init__(
        self, name: str, table: str, columns: Iterable[str], *, unique: bool = False, sqlite_where: str | None = None
    ) -> None:
        super().__init__(table, name, _("index {name}", name=name))
        self._columns = list(columns)
        described = sa.Table(table, sa.MetaData(), *(sa.Column(column, sa.Integer) for column in self._columns))
        where = None if sqlite_where is None else sa.text(sqlite_where)
        self._index = sa.Index(name, *described.columns, unique=unique, sqlite_where=where)

    def is_made(self, connection: sa.Connection) -> bool:
        """Return whether the table has such an index."""
        return self._found(connection) == self._columns

    def make(self, connection: sa.Connection, tell: Tell) -> None:
        """Build the index."""
        is_replaced = self._found(connection) is not None
        if connection.dialect.name == "sqlite":
            if is_replaced:
                connection.execute(DropIndex(self._index))
            connection.execute(CreateIndex(self._index))
            return
        quote = connection.dialect.identifier_preparer.quote
        unique = "UNIQUE " if self._index.unique else ""
        added = f"ADD {unique}INDEX {quote(self.name)} ({', '.join(map(quote, self._columns))})"
        # In one statement: no query is without an index meanwhile.
        dropped = f"DROP INDEX {quote(self.name)}, " if is_replaced else ""
        _alter(connection, self.table, dropped + added, (ONLINE, LOCKED), tell)

    def _found(self, connection: sa.Connection) -> list[str | None] | None:
        """Return the columns of the index with this name, if there is one."""
        indexes = sa.inspect(connection).get_indexes(self.table)
        return next((index["column_names"] for index in indexes if index["name"] == self.name), None)


class NewMark(Change):
    """A row of the table ``marks``."""

    def __init__(self, name: str, value: int) -> None:
        super().__init__("marks", name, _("mark {name}", name=name))
        self._value = value

    def is_made(self, connection: sa.Connection) -> bool:
        """Return whether the mark is set, to whatever."""
        found = sa.text("SELECT COUNT(*) FROM marks WHERE name = :name")
        return bool(connection.execute(found, {"name": self.name}).scalar_one())

    def make(self, connection: sa.Connection, tell: Tell) -> None:  # noqa: ARG002 - a row takes a moment
        """Set the mark."""
        inserted = sa.text("INSERT INTO marks (name, value) VALUES (:name, :value)")
        connection.execute(inserted, {"name": self.name, "value": self._value})


def _alter(connection: sa.Connection, table: str, change: str, ways: Iterable[str], tell: Tell) -> None:
    """Change a table in the first way that the server supports."""
    statement = f"ALTER TABLE {connection.dialect.identifier_preparer.quote(table)} {change}"
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(statement)
        return
    for way in ways:
        if way == LOCKED:
            tell(
                _(
                    "The server can make this change only with a lock: nothing is stored in the table {table} "
                    "meanwhile.",
                    table=table,
                )
            )
        try:
            _persist(connection, table, statement + way, tell)
        except sa.exc.DBAPIError as error:
            if way == LOCKED or number_of(error) not in _NOT_THAT_WAY:
                raise
        else:
            return


def _persist(connection: sa.Connection, table: str, statement: str, tell: Tell) -> None:
    """Run a statement, and repeat it while other transactions lock the table.

    A waiting change blocks all later statements, so it waits only briefly and then lets them go on.
    """
    has_reported = False
    while True:
        try:
            connection.exec_driver_sql(statement)
        except sa.exc.DBAPIError as error:
            if number_of(error) != ER.LOCK_WAIT_TIMEOUT:
                raise
        else:
            return
        if not has_reported:
            tell(_("Waiting for a transaction that uses the table {table}.", table=table))
            has_reported = True
        time.sleep(AGAIN_S)


def number_of(error: sa.exc.DBAPIError) -> int | None:
    """Return an error's number, or None."""
    arguments = error.orig.args if error.orig else ()
    return arguments[0] if arguments and isinstance(arguments[0], int) else None
