"""The part of PEP 249 that SQLAlchemy needs, implemented over apsw.

Python often comes with an SQLite that can corrupt a database in WAL mode if two connections write and checkpoint at
once (3.7.0 to 3.51.2, fixed in 3.51.3: sqlite.org/wal.html). apsw brings a current one. Only the pool and the
migrations use this module; the store's own statements use the apsw connection itself, ``Connection.raw``.
"""

from __future__ import annotations

from typing import Any

import apsw

apilevel = "2.0"
threadsafety = 1
paramstyle = "qmark"
sqlite_version_info = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
sqlite_version = apsw.sqlite_lib_version()

Error = Warning = DatabaseError = InterfaceError = OperationalError = apsw.Error  # noqa: A001 - PEP 249's names
DataError = InternalError = NotSupportedError = ProgrammingError = apsw.Error
IntegrityError = apsw.ConstraintError
Binary = bytes


def connect(filename: str, **_options: Any) -> Connection:
    """Open a database file. Create it if it is missing."""
    return Connection(apsw.Connection(filename))


class Connection:
    """A connection that never begins a transaction by itself."""

    isolation_level = ""

    def __init__(self, raw: apsw.Connection) -> None:
        self.raw = raw

    def cursor(self) -> Cursor:
        """Return a new cursor."""
        return Cursor(self)

    def commit(self) -> None:
        """Commit the open transaction, if any."""
        if self.raw.in_transaction:
            self.raw.execute("COMMIT")

    def rollback(self) -> None:
        """Roll back the open transaction, if any."""
        if self.raw.in_transaction:
            self.raw.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file."""
        self.raw.close(True)  # noqa: FBT003 - apsw's own signature: also with statements unfinished

    def create_function(self, name: str, arity: int, function: Any, *, deterministic: bool = False) -> None:
        """Register a scalar SQL function."""
        self.raw.create_scalar_function(name, function, arity, deterministic=deterministic)


class Cursor:
    """A cursor that reads its rows at once."""

    arraysize = 1

    def __init__(self, connection: Connection) -> None:
        self._raw = connection.raw
        self._rows: list[tuple[Any, ...]] = []
        self.description: list[tuple[Any, ...]] | None = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    def execute(self, statement: str, parameters: Any = ()) -> Cursor:
        """Run one statement."""
        cursor = self._raw.cursor()
        cursor.exec_trace = self._describe
        before = self._raw.total_changes()
        self._rows = cursor.execute(statement, tuple(parameters)).fetchall()
        self.rowcount = self._raw.total_changes() - before
        self.lastrowid = self._raw.last_insert_rowid()
        return self

    def executemany(self, statement: str, rows: Any) -> Cursor:
        """Run one statement for each row of parameters."""
        for parameters in rows:
            self.execute(statement, parameters)
        return self

    def _describe(self, cursor: apsw.Cursor, _statement: str, _parameters: Any) -> bool:
        """Store the columns' names: apsw knows them only while the statement runs."""
        columns = cursor.get_description()
        self.description = [(*column[:2], None, None, None, None, None) for column in columns] or None
        return True

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row."""
        return self._rows.pop(0) if self._rows else None

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """Return the next rows."""
        amount = size or self.arraysize
        found, self._rows = self._rows[:amount], self._rows[amount:]
        return found

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the remaining rows."""
        found, self._rows = self._rows, []
        return found

    def close(self) -> None:
        """Drop the rows."""
        self._rows = []
