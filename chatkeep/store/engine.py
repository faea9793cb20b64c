"""The database: its pool of connections, what it must be able to do, and reading from it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import PoolProxiedConnection

from chatkeep.concurrency import off_loop
from chatkeep.errors import Problem, SettingsError, StoreUnavailable
from chatkeep.store import apsw_dbapi, mysql, sqlite
from chatkeep.store.sql import Connection, Contention, Sql

T = TypeVar("T")
_NOW = Sql("SELECT unixepoch('subsec')", mysql="SELECT UNIX_TIMESTAMP()")
# Nothing is rolled back that nobody began: on a server's database that is a round trip for every reading.
_POOL: dict[str, Any] = {"pool_size": 8, "max_overflow": 24, "pool_timeout": 5, "pool_reset_on_return": None}


class Database:
    """The database of one process."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.embedded = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite_engine(self.url) if self.embedded else _mysql_engine(self.url)

    def read(self, work: Callable[[Connection], T], *, long: bool = False) -> T:
        """Return ``work(connection)``; ``long`` work on the embedded database leaves the event loop free.

        Raises `StoreUnavailable`.
        """
        with self.connection() as connection:
            try:
                return off_loop(work, connection) if long and self.embedded else work(connection)
            except Contention as error:
                raise StoreUnavailable(retry_after=1) from error

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a connection of the pool; one that failed is not lent again."""
        lent = self._checkout()
        connection = self._wrap(lent)
        try:
            yield connection
        except StoreUnavailable:
            lent.invalidate()
            raise
        except BaseException:
            connection.rollback()
            raise
        finally:
            lent.close()

    def dedicated(self) -> Connection:
        """Return a connection of the caller's own, outside the pool's limits. Raises `StoreUnavailable`."""
        lent = self._checkout()
        connection = self._wrap(lent)
        lent.detach()
        return connection

    def log_of(self, connection: Connection) -> sqlite.WriteAheadLog | None:
        """Return the embedded database's log, to which its only writer now has to see; None on a server."""
        return connection.own_log() if isinstance(connection, sqlite.SqliteConnection) else None

    def _checkout(self) -> PoolProxiedConnection:
        try:
            return self.engine.raw_connection()
        except Problem:
            raise
        except Exception as error:
            raise StoreUnavailable(retry_after=2) from error

    def _wrap(self, lent: PoolProxiedConnection) -> Connection:
        raw: Any = lent.driver_connection
        return sqlite.SqliteConnection(raw.raw) if self.embedded else mysql.MysqlConnection(raw)

    def check(self) -> None:
        """Raise `SettingsError` where the database could not keep every character of every language."""
        if self.embedded:
            return
        name = self.read(lambda connection: connection.rows(Sql("SELECT @@character_set_database"))[0][0])
        if name != "utf8mb4":
            raise SettingsError(
                [
                    (
                        f"DATABASE_URL: the database {self.url.database} uses the character set {name},"
                        " which cannot store emoji"
                        f" and some Chinese characters; run: ALTER DATABASE `{self.url.database}` CHARACTER SET utf8mb4"
                    )
                ]
            )

    def now_s(self) -> float:
        """Return the seconds since 1970 by the database's clock. Raises `StoreUnavailable`."""
        return float(self.read(lambda connection: connection.rows(_NOW)[0][0]))

    def reclaim(self) -> None:
        """Let nothing of what was deleted stay in the embedded database's write-ahead log."""
        if self.embedded:
            self.read(lambda connection: connection.rows(Sql("PRAGMA wal_checkpoint(TRUNCATE)")), long=True)

    def close(self) -> None:
        """Close the connections that are idle."""
        with contextlib.suppress(Exception):
            self.engine.dispose()


def _sqlite_engine(url: URL) -> sa.Engine:
    """Return an engine on a file, whose folder is made where it is missing."""
    if not url.database or url.database == ":memory:":
        raise SettingsError(["DATABASE_URL: an in-memory SQLite would lose everything; write sqlite:///path/to/file"])
    Path(url.database).absolute().parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, module=apsw_dbapi, **_POOL)
    sa.event.listen(engine, "connect", lambda connection, _record: sqlite.prepare(connection.raw))
    # Schema changes hold the write lock from their beginning, so that two processes cannot migrate at once.
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _mysql_engine(url: URL) -> sa.Engine:
    """Return an engine on a server, with TLS where the URL has options for it.

    Without them none is tried: PyMySQL would build a TLS context for every connection, which stops the event loop for
    30 ms and more.
    """
    arguments = dict(mysql.CONNECT_ARGS)
    if not any(name.startswith("ssl") for name in url.query):
        arguments["ssl_disabled"] = True
    plain = url.difference_update_query(["charset"])
    engine = sa.create_engine(plain, connect_args=arguments, pool_pre_ping=True, pool_recycle=1800, **_POOL)
    sa.event.listen(engine, "connect", lambda connection, _record: mysql.prepare(connection))
    return engine
