"""Copy a whole database into an empty one, of the same or another kind.

A killed copy resumes where it was, because rows are inserted in the order of their keys. Until the target is complete
and compared with the source, its schema has the revision `UNFINISHED`, with which no server starts.

Leases are copied, so their replies end as interrupted at the first start. Processes are not.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from chatkeep.errors import TransferError
from chatkeep.i18n import _
from chatkeep.store import identity, leases, migrations, schema
from chatkeep.store.engine import Database, Kind
from chatkeep.store.migrations import HEAD, UNFINISHED
from chatkeep.store.sql import Connection, DriverConnection, Duplicate, Sql

WORK = Kind(concurrency=2, waits=5, seconds=math.inf)
"""Reading and writing whole tables."""
WATCH_S, POLL_S = 3.0, 0.1
"""How long to watch for heartbeats, of which live processes have one a second."""
BATCH_ROWS, BATCH_BYTES = 500, 1_000_000
BYTES_OF_A_VALUE = 8
# The margin below a server's limit for a statement, in which each character may be escaped.
SPARE_BYTES = 64 * 1024
PROCESSES = (schema.workers, schema.duties)
_ALL = "1 = 1"
_CONDITIONS = {"marks": f"name <> '{identity.DATABASE}'"}
_KINDS: tuple[tuple[type[sa.types.TypeEngine[Any]], type], ...] = (
    (sa.String, str),
    (sa.LargeBinary, bytes),
    (sa.Double, float),
    (sa.Integer, int),
)
_BITS = ((sa.SmallInteger, 16), (sa.BigInteger, 64), (sa.Integer, 32))
_SET_REVISION = Sql("UPDATE alembic_version SET version_num = :revision")
# A table is one result, which the server sends as slowly as the target accepts it.
_BE_PATIENT = Sql("", mysql="SET SESSION net_write_timeout = 86400")
_MOST_BYTES = Sql("", mysql="SELECT @@max_allowed_packet")
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class TableSum:
    """The number of a table's rows, and a checksum that does not depend on their order."""

    rows: int
    checksum: str


class Table:
    """The statements that copy a table."""

    def __init__(self, table: sa.Table) -> None:
        self.name = table.name
        self.columns = list(table.columns)
        keys = [self.columns.index(column) for column in table.primary_key]
        self._keys = keys
        names = [_quoted_name(column) for column in self.columns]
        where = f"FROM `{self.name}` WHERE {_CONDITIONS.get(self.name, _ALL)}"
        order = ", ".join(names[key] for key in keys)
        # Databases sort texts differently: a table with a text in its key can't resume.
        self.resumes = len(keys) == 1 and not isinstance(self.columns[keys[0]].type, sa.String)
        after = f"{where} AND {order} > :after" if self.resumes else where
        # SQLite's text columns may hold invalid UTF-8.
        read = ", ".join(
            f"CAST({name} AS BLOB)" if isinstance(column.type, sa.String) else name
            for name, column in zip(names, self.columns, strict=True)
        )
        self.read = _select(read, names, where, order)
        self.read_after = _select(read, names, after, order)
        self.last = Sql(f"SELECT MAX({order}) {where}") if self.resumes else None
        self.count = Sql(f"SELECT COUNT(*) {where}")
        self.empty = Sql(f"DELETE FROM `{self.name}`")  # noqa: S608 - our own names
        places = ", ".join(f":v{number}" for number in range(len(names)))
        self.insert = Sql(f"INSERT INTO `{self.name}` ({', '.join(names)}) VALUES ({places})")  # noqa: S608 - the same

    def rows(self, connection: Connection, after: Any = None) -> Iterator[Row]:
        """Yield all rows, or those after a key. Raises `TransferError` if a text is not valid UTF-8."""
        texts = [number for number, column in enumerate(self.columns) if isinstance(column.type, sa.String)]
        sql, values = (self.read, {}) if after is None else (self.read_after, {"after": after})
        with connection.stream(sql, **values) as found:
            for row in found:
                yield self._decoded(list(row), texts)

    def _decoded(self, row: list[Any], texts: list[int]) -> Row:
        for number in texts:
            if isinstance(row[number], bytes):
                try:
                    row[number] = row[number].decode()
                except UnicodeDecodeError:
                    raise self.refusal(tuple(row), self.columns[number].name, _("it is not valid UTF-8")) from None
        return tuple(row)

    def require_storable(self, row: Row, most_bytes: int) -> None:
        """Raise `TransferError` if a server could not store a row unchanged."""
        for column, value in zip(self.columns, row, strict=True):
            if value is not None and (obstacle := _misfit(column, value)):
                raise self.refusal(row, column.name, obstacle)
        if 2 * size_of(row) + SPARE_BYTES > most_bytes:
            raise TransferError(
                _(
                    "{table}, {row}: the target takes {most} bytes at once. Set its max_allowed_packet to {needed} "
                    "or more, then go on.",
                    table=self.name,
                    row=self._key_of(row),
                    most=f"{most_bytes:,}",
                    needed=f"{2 * size_of(row) + SPARE_BYTES:,}",
                )
            )

    def refusal(self, row: Row, column: str, reason: str) -> TransferError:
        """Return the error that names a value that cannot be copied."""
        return TransferError(
            _(
                "{table}.{column}, {row}: {reason}. Change or delete it, then go on.",
                table=self.name,
                column=column,
                row=self._key_of(row),
                reason=reason,
            )
        )

    def _key_of(self, row: Row) -> str:
        return ", ".join(f"{self.columns[key].name} {_shown(row[key])}" for key in self._keys)

    def add(self, target: DriverConnection, rows: list[Row]) -> None:
        """Insert rows in one transaction. Raises `TransferError` if the target already has a row's key."""
        batch = [{f"v{number}": value for number, value in enumerate(row)} for row in rows]
        target.begin()
        try:
            target.change_each(self.insert, batch)
        except Duplicate:
            target.rollback()
            raise self._duplicate(target, rows) from None
        target.commit()

    def _duplicate(self, target: DriverConnection, rows: list[Row]) -> TransferError:
        """Return the error that names the duplicate row of a batch."""
        target.begin()
        try:
            for row in rows:
                try:
                    target.change(self.insert, **{f"v{number}": value for number, value in enumerate(row)})
                except Duplicate:
                    return TransferError(
                        _(
                            "{table}, {row}: the target has this row, or takes another one for the same, which "
                            "differs in spaces at its end. Change or delete it, then go on.",
                            table=self.name,
                            row=self._key_of(row),
                        )
                    )
        finally:
            target.rollback()
        return TransferError(_("{table}: another copy into the same target is running.", table=self.name))


def _quoted_name(column: sa.Column[Any]) -> str:
    return f"`{column.name}`"


def _select(read: str, names: list[str], where: str, order: str) -> Sql:
    return Sql(f"SELECT {read} {where} ORDER BY {order}", mysql=f"SELECT {', '.join(names)} {where} ORDER BY {order}")


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return str(UUID(bytes=value)) if len(value) == len(bytes(16)) else value.hex()
    return repr(value)


def _misfit(column: sa.Column[Any], value: Any) -> str | None:
    """Return why a server could not store a value, or None. SQLite checks neither lengths nor types."""
    kind = column.type
    wanted = next(python for sql, python in _KINDS if isinstance(kind, sql))
    if type(value) is not wanted:
        return _("it is of the type {type}, not {expected}", type=type(value).__name__, expected=wanted.__name__)
    if isinstance(value, str) and isinstance(kind, sa.String):
        most = kind.length
        return (
            _("it has {count} characters, more than {most}", count=f"{len(value):,}", most=most)
            if most and len(value) > most
            else None
        )
    if isinstance(value, bytes) and isinstance(kind, sa.LargeBinary):
        return (
            None
            if len(value) == kind.length
            else _("it has {count} bytes, not {expected}", count=f"{len(value):,}", expected=kind.length)
        )
    if isinstance(value, float):
        return None if math.isfinite(value) else _("it is {value}", value=value)
    bits = next(bits for sql, bits in _BITS if isinstance(kind, sql))
    return (
        None
        if -(2 ** (bits - 1)) <= value < 2 ** (bits - 1)
        else _("it is {value}, more than {bits} bits", value=value, bits=bits)
    )


def size_of(row: Row) -> int:
    """Estimate the bytes of a row in a statement."""
    return sum(
        len(value.encode()) if isinstance(value, str) else len(value) if isinstance(value, bytes) else BYTES_OF_A_VALUE
        for value in row
    )


def sum_of(rows: Iterable[Row]) -> TableSum:
    """Return the sum of rows, independent of their order: databases sort texts differently."""
    count, total = 0, 0
    for row in rows:
        digest = hashlib.sha256(msgspec.msgpack.encode(row)).digest()
        count, total = count + 1, (total + int.from_bytes(digest)) % 2**256
    return TableSum(count, f"{total:064x}"[:16])


def is_in_use(database: Database) -> bool:
    """Return whether a server or `chatkeep work` uses a database. Takes some seconds if one was killed."""
    before = database.read(leases.heartbeats)
    deadline = time.monotonic() + WATCH_S
    while before and time.monotonic() < deadline:
        time.sleep(POLL_S)
        if any(before.get(worker) != beat for worker, beat in database.read(leases.heartbeats).items()):
            return True
    return False


TABLES = [Table(table) for table in schema.metadata.sorted_tables if table not in PROCESSES]
"""The tables to copy, those with foreign keys after their targets."""


class Copy:
    """A copy between two databases. Methods raise `TransferError` and `StoreUnavailable`."""

    def __init__(self, source: Database, target: Database) -> None:
        self._source, self._target = source, target
        self._beats: dict[UUID, int] = {}

    def prepare(self) -> None:
        """Check both databases, then create the target's tables unless a copy is being resumed."""
        self._require_source()
        self._target.check()
        found = migrations.schema_of(self._target)
        if found.revision == UNFINISHED:
            return
        self._require_empty(known=found.is_begun)
        migrations.migrate(self._target)
        self._set_revision(UNFINISHED)

    def _require_source(self) -> None:
        found = migrations.schema_of(self._source).revision
        if found != HEAD:
            raise TransferError(
                _(
                    "The source has schema {revision}; this version needs {needed}. Run chatkeep migrate first.",
                    revision=found,
                    needed=HEAD,
                )
            )
        if _place(self._source) == _place(self._target):
            raise TransferError(_("The source and the target are the same database."))
        self._beats = self._source.read(leases.heartbeats)
        if is_in_use(self._source):
            raise TransferError(_("A server uses the source. Stop every server and chatkeep work, then copy again."))

    def _require_empty(self, *, known: bool) -> None:
        with self._target.engine_for(WORK).connect() as connection:
            there = set(sa.inspect(connection).get_table_names()) - {"alembic_version"}
        ours = {table.name for table in schema.metadata.sorted_tables}
        if there - ours and not known:
            raise TransferError(_("The target has tables of another program. Copy into a database without any."))
        for name in sorted((there & ours) - {"marks"}):
            if rows := _number(self._target, Sql(f"SELECT COUNT(*) FROM `{name}`")):  # noqa: S608 - our own names
                raise TransferError(
                    _(
                        "The target is not empty: {table} has {rows} rows. Copy into an empty database.",
                        table=name,
                        rows=f"{rows:,}",
                    )
                )

    def count(self, table: Table) -> int:
        """Return how many rows of a table are to be copied."""
        return _number(self._source, table.count)

    def fill(self, table: Table, advance: Callable[[int], object]) -> None:
        """Copy the rows that the target lacks. Call ``advance`` with the number of rows of each step."""
        with self._source.connection(WORK) as source, self._target.connection(WORK) as target:
            most_bytes = self._wait_for_target(source, target)
            after = target.rows(table.last)[0][0] if table.last else None
            if table.last is None:
                target.change(table.empty)
            elif after is not None:
                advance(int(target.rows(table.count)[0][0]))
            for batch in _batches(table.rows(source, after)):
                if most_bytes:
                    for row in batch:
                        table.require_storable(row, most_bytes)
                table.add(target, batch)
                advance(len(batch))

    def _wait_for_target(self, source: Connection, target: DriverConnection) -> int:
        """Let the source wait for the target. Return the most bytes of a statement on the target, 0 for no limit."""
        if not self._source.embedded:
            source.rows(_BE_PATIENT)
        return 0 if self._target.embedded else int(target.rows(_MOST_BYTES)[0][0])

    def compare(self, table: Table, advance: Callable[[int], object]) -> TableSum:
        """Return the sum of a table, which must be equal in both databases. Reads the whole table in both."""
        here, there = (self._sum(database, table, advance) for database in (self._source, self._target))
        if here != there:
            raise TransferError(
                _(
                    "{table} differs: the source has {source_rows} rows with the checksum {source_checksum}, the "
                    "target {target_rows} with {target_checksum}. The source has changed, or is not the one that "
                    "the copy began with. Copy again into a new, empty database.",
                    table=table.name,
                    source_rows=f"{here.rows:,}",
                    source_checksum=here.checksum,
                    target_rows=f"{there.rows:,}",
                    target_checksum=there.checksum,
                )
            )
        return here

    def _sum(self, database: Database, table: Table, advance: Callable[[int], object]) -> TableSum:
        def told(rows: Iterable[Row]) -> Iterator[Row]:
            for row in rows:
                advance(1)
                yield row

        with database.connection(WORK) as connection:
            return sum_of(told(table.rows(connection)))

    def finish(self) -> None:
        """Mark the target as complete, once every table was compared."""
        if self._source.read(leases.heartbeats) != self._beats:
            raise TransferError(_("A server has used the source meanwhile. Copy again into a new, empty database."))
        self._set_revision(HEAD)

    def _set_revision(self, revision: str) -> None:
        with self._target.connection(WORK) as connection:
            connection.change(_SET_REVISION, revision=revision)


def _number(database: Database, sql: Sql) -> int:
    with database.connection(WORK) as connection:
        return int(connection.rows(sql)[0][0])


def _place(database: Database) -> Any:
    if database.embedded:
        return Path(database.url.database or "").resolve()
    return database.url.host, database.url.port, database.url.database


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield rows in lists that fit one transaction; a larger row comes alone."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += size_of(row)
        if len(batch) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
