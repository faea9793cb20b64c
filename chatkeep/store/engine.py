"""The database: its connection pools, its requirements, and reads."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import apsw
import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.pool import PoolProxiedConnection

from chatkeep.errors import DatabaseBusy, Problem, SettingsError, StoreProblem, StoreUnavailable
from chatkeep.i18n import _
from chatkeep.runtime import files as private
from chatkeep.runtime.concurrency import Lane, background
from chatkeep.store import apsw_dbapi, mysql, places, sqlite
from chatkeep.store.sql import Connection, Contention, DriverConnection, Sql

T = TypeVar("T")
RECLAIM_S, RECLAIM_AGAIN_S = 15.0, 0.1  # no read takes longer
KEPT = 8  # idle connections of a kind that stay open
_TOUCH = Sql("UPDATE alembic_version SET version_num = version_num WHERE 1 = 0")
_NOW = Sql("SELECT unixepoch('subsec')", mysql="SELECT UNIX_TIMESTAMP()")


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A kind of database work. It has a pool of its own, so that no kind blocks another.

    The pool has ``concurrency`` connections, for which a caller waits up to ``waits`` seconds. The database interrupts
    a statement that takes longer than ``seconds``.
    """

    concurrency: int
    waits: float
    seconds: float
    busy: type[StoreUnavailable] = StoreUnavailable
    lane: Lane = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lane", Lane(self.concurrency))


SHORT = Kind(concurrency=32, waits=5, seconds=4.5)
"""Statements that find a few rows by an index; on SQLite they run in the event loop."""
PAGES = Kind(concurrency=1, waits=60, seconds=10)
"""Pages of large results: a request waits for the one connection, and an export does for each page."""
SCANS = Kind(concurrency=2, waits=3, seconds=10, busy=DatabaseBusy)
"""Reads that may scan everything of an owner: refused with `DatabaseBusy` while others run."""
UPKEEP = Kind(concurrency=2, waits=60, seconds=60)
"""Background work, for which no request waits."""
CHANGES_OF_SCHEMA = Kind(concurrency=2, waits=5, seconds=math.inf)
"""Migrations, without a time limit."""


class Database:
    """The database of one process."""

    def __init__(self, url: str) -> None:
        self.url = places.parsed(url)
        self.embedded = self.url.get_backend_name() == "sqlite"
        self._place = {} if self.embedded else places.arguments(self.url)
        self._engines = {SHORT: self._new_engine(SHORT)}
        self._engines_lock = threading.Lock()
        self._killing = threading.Lock()
        self.pages = PAGES

    @property
    def engine(self) -> sa.Engine:
        """SQLAlchemy's engine for short statements."""
        return self._engines[SHORT]

    def engine_for(self, kind: Kind) -> sa.Engine:
        """Return SQLAlchemy's engine for a kind of work."""
        found = self._engines.get(kind)
        if found is None:
            with self._engines_lock:
                found = self._engines.setdefault(kind, self._new_engine(kind))
        return found

    def _new_engine(self, kind: Kind) -> sa.Engine:
        return _sqlite_engine(self.url, kind) if self.embedded else _mysql_engine(self.url, kind, self._place)

    def for_upkeep(self) -> Database:
        """Return this database for background work, whose long reads wait only for each other."""
        beside = copy(self)
        beside.pages = UPKEEP
        return beside

    def read(self, work: Callable[[Connection], T], *, long: bool = False) -> T:
        """Return ``work(connection)``; ``long`` work reads a page of a large result in a thread.

        Raises `StoreUnavailable`, and `DatabaseTimeout` if long work takes too long.
        """
        if long:
            return self.read_as(self.pages, work)
        with self.connection() as connection, _without_contention():
            return work(connection)

    def scan(self, work: Callable[[Connection], T]) -> T:
        """Return ``work(connection)``, which may scan everything of an owner, in a thread.

        Raises `StoreUnavailable`, `DatabaseTimeout`, and `DatabaseBusy` while others scan.
        """
        return self.read_as(SCANS, work)

    def read_as(self, kind: Kind, work: Callable[[Connection], T]) -> T:
        """Return ``work(connection)``, run in a thread within the limits of a kind."""
        with self.connection(kind) as connection, _without_contention():
            if isinstance(connection, sqlite.SqliteConnection):
                return kind.lane.run_within(kind.seconds, connection.interrupt, work, connection)
            return work(connection)

    @contextmanager
    def connection(self, kind: Kind = SHORT) -> Iterator[DriverConnection]:
        """Lend a connection of the pool; discard it if it fails."""
        lent = self._checkout(kind)
        connection = self._wrap(lent)
        try:
            yield connection
        except Exception as error:
            if isinstance(error, StoreProblem):
                lent.invalidate()
            else:
                connection.rollback()
            raise
        except BaseException:  # a greenlet is killed, perhaps during an answer
            lent.invalidate()
            raise
        finally:
            lent.close()
            self.end_unanswered(connection)

    def dedicated(self) -> DriverConnection:
        """Return a connection that the caller owns, outside the pool's limits. Raises `StoreUnavailable`.

        A server closes it if it is idle for `mysql.IDLE_S`.
        """
        lent = self._checkout(SHORT)
        connection = self._wrap(lent)
        lent.detach()
        if isinstance(connection, mysql.MysqlConnection):
            connection.end_when_idle()
        return connection

    def end_unanswered(self, connection: DriverConnection) -> None:
        """Kill the server's running statement if nothing waits for its result any more."""
        if isinstance(connection, mysql.MysqlConnection) and connection.unanswered is not None:
            background(self._kill, connection.unanswered, name="kill")

    def _kill(self, number: int) -> None:
        with self._killing, contextlib.suppress(Problem), self.connection() as connection:
            if isinstance(connection, mysql.MysqlConnection):
                connection.kill(number)

    @property
    def files(self) -> list[Path]:
        """SQLite's files; none on a server."""
        return [Path(f"{self.url.database}{end}") for end in ("", "-wal", "-shm")] if self.embedded else []

    def log_of(self, connection: DriverConnection) -> sqlite.WriteAheadLog | None:
        """Return SQLite's write-ahead log, which the caller must checkpoint from now on; None on a server."""
        return connection.own_log() if isinstance(connection, sqlite.SqliteConnection) else None

    def _checkout(self, kind: Kind) -> PoolProxiedConnection:
        try:
            return self.engine_for(kind).raw_connection()
        except Problem:
            raise
        except sa.exc.TimeoutError as error:
            raise kind.busy(retry_after=2) from error
        except apsw.Error as error:
            raise sqlite.translated(error) from error
        except mysql.FAILURES as error:
            raise mysql.translated(error, "connect") from error
        except Exception as error:
            raise StoreUnavailable(retry_after=2) from error

    def _wrap(self, lent: PoolProxiedConnection) -> DriverConnection:
        raw: Any = lent.driver_connection
        return sqlite.SqliteConnection(raw.raw) if self.embedded else mysql.MysqlConnection(raw)

    def check(self) -> None:
        """Raise `SettingsError` if the database cannot store every Unicode character."""
        if self.embedded:
            return
        name = self.read(lambda connection: connection.rows(Sql("SELECT @@character_set_database"))[0][0])
        if name != "utf8mb4":
            raise SettingsError(
                [
                    _(
                        "DATABASE_URL: the database {database} uses the character set {charset}, which cannot store"
                        " emoji and some Chinese characters; run: ALTER DATABASE `{database}` CHARACTER SET utf8mb4",
                        database=self.url.database,
                        charset=name,
                    )
                ]
            )

    def require_writable(self) -> None:
        """Raise `StoreUnavailable` if nothing can be written: on a replica, or while another process locks the file."""
        with self.connection() as connection:
            connection.begin()
            connection.change(_TOUCH)
            connection.rollback()

    def now_s(self) -> float:
        """Return the database's time in seconds since 1970. Raises `StoreUnavailable`."""
        return float(self.read(lambda connection: connection.rows(_NOW)[0][0]))

    def reclaim(self, stopped: threading.Event | None = None) -> None:
        """Truncate SQLite's write-ahead log, so that no deleted content remains there, once nothing reads it.

        Give up after `RECLAIM_S`, or when ``stopped`` is set.
        """
        stopped = stopped or threading.Event()
        deadline = time.monotonic() + RECLAIM_S
        while self.embedded and not self.read(_emptied_log, long=True) and time.monotonic() < deadline:
            if stopped.wait(RECLAIM_AGAIN_S):
                return

    def close(self) -> None:
        """Close the idle connections."""
        with self._engines_lock, contextlib.suppress(Exception):
            for engine in self._engines.values():
                engine.dispose()


def _emptied_log(connection: Connection) -> bool:
    return isinstance(connection, sqlite.SqliteConnection) and connection.empty_log()


@contextmanager
def _without_contention() -> Iterator[None]:
    """Raise `StoreUnavailable` for a read that waited in vain for a lock."""
    try:
        yield
    except Contention as error:
        raise StoreUnavailable(retry_after=1) from error


def _pool(kind: Kind) -> dict[str, Any]:
    """Return the options of a pool.

    A returned connection is not rolled back: reads begin no transaction, and a rollback is a round trip to the server.
    """
    kept = min(kind.concurrency, KEPT)
    return {
        "pool_size": kept,
        "max_overflow": kind.concurrency - kept,
        "pool_timeout": kind.waits,
        "pool_reset_on_return": None,
    }


def _sqlite_engine(url: URL, kind: Kind) -> sa.Engine:
    """Return an engine on a file; create the file and its folder if they are missing."""
    if not url.database or url.database == ":memory:":
        raise SettingsError(
            [_("DATABASE_URL: an in-memory SQLite would lose everything; write sqlite:///path/to/file")]
        )
    file = Path(url.database).absolute()
    private.make_folder(file.parent)
    # SQLite creates the log and its index with the mode of the file.
    private.ensure_file(file)
    engine = sa.create_engine(url, module=apsw_dbapi, **_pool(kind))
    sa.event.listen(engine, "connect", lambda connection, _record: sqlite.prepare(connection.raw))
    # Schema changes take the write lock at their beginning, so that two processes cannot migrate concurrently.
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _mysql_engine(url: URL, kind: Kind, place: dict[str, Any]) -> sa.Engine:
    """Return an engine on a server with the connection arguments ``place``."""
    arguments = mysql.connect_args(kind.seconds) | place
    plain = url.set(query={})
    engine = sa.create_engine(plain, connect_args=arguments, pool_pre_ping=True, pool_recycle=1800, **_pool(kind))
    sa.event.listen(engine, "do_connect", lambda _dialect, _record, _options, arguments: mysql.connect(arguments))
    sa.event.listen(engine, "connect", lambda connection, _record: mysql.prepare(connection, kind.seconds))
    return engine
