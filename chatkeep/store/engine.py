"""The database: its pool of connections, what it must be able to do, and reading from it."""

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
from chatkeep.runtime import files as private
from chatkeep.runtime.concurrency import Lane, background
from chatkeep.store import apsw_dbapi, mysql, places, sqlite
from chatkeep.store.sql import Connection, Contention, Sql

T = TypeVar("T")
RECLAIM_S, RECLAIM_AGAIN_S = 15.0, 0.1  # no reading takes longer
KEPT = 8  # connections of a kind that stay open while they are idle
_TOUCH = Sql("UPDATE alembic_version SET version_num = version_num WHERE 1 = 0")
_NOW = Sql("SELECT unixepoch('subsec')", mysql="SELECT UNIX_TIMESTAMP()")


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A kind of work on the database: connections of its own, so that it neither waits for another kind nor stops it.

    ``concurrency`` connections at most, for each of which a caller waits ``waits`` seconds; the database ends work that
    takes longer than ``seconds``.
    """

    concurrency: int
    waits: float
    seconds: float
    busy: type[StoreUnavailable] = StoreUnavailable
    lane: Lane = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lane", Lane(self.concurrency))


SHORT = Kind(concurrency=32, waits=5, seconds=4.5)
"""Statements that find a few rows by an index; on the embedded database they run in the event loop."""
PAGES = Kind(concurrency=1, waits=60, seconds=10)
"""Pages of what may be large as a whole: a request waits for its turn, and amid an export for each page."""
SCANS = Kind(concurrency=2, waits=3, seconds=10, busy=DatabaseBusy)
"""Reads that may look through all that there is: they are refused while others run."""
UPKEEP = Kind(concurrency=2, waits=60, seconds=60)
"""What no request waits for."""
CHANGES_OF_SCHEMA = Kind(concurrency=2, waits=5, seconds=math.inf)
"""Migrations, which take as long as they take."""


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
        """Return this database for work that no request waits for: its long reads wait for each other alone."""
        beside = copy(self)
        beside.pages = UPKEEP
        return beside

    def read(self, work: Callable[[Connection], T], *, long: bool = False) -> T:
        """Return ``work(connection)``; ``long`` work reads a page that may be large, beside the event loop.

        Raises `StoreUnavailable`; of long work `DatabaseTimeout` where it takes too long.
        """
        if long:
            return self.read_as(self.pages, work)
        with self.connection() as connection, _without_contention():
            return work(connection)

    def scan(self, work: Callable[[Connection], T]) -> T:
        """Return ``work(connection)``, which may look through all that there is, beside the event loop.

        Raises `StoreUnavailable`, `DatabaseTimeout`, and `DatabaseBusy` where others do so already.
        """
        return self.read_as(SCANS, work)

    def read_as(self, kind: Kind, work: Callable[[Connection], T]) -> T:
        """Return ``work(connection)``, read beside the event loop within the limits of a kind."""
        with self.connection(kind) as connection, _without_contention():
            if isinstance(connection, sqlite.SqliteConnection):
                return kind.lane.run_within(kind.seconds, connection.interrupt, work, connection)
            return work(connection)

    @contextmanager
    def connection(self, kind: Kind = SHORT) -> Iterator[Connection]:
        """Lend a connection of the pool; one that failed is not lent again."""
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
        except BaseException:  # a greenlet is killed, maybe amid an answer
            lent.invalidate()
            raise
        finally:
            lent.close()
            self.end_unanswered(connection)

    def dedicated(self) -> Connection:
        """Return a connection of the caller's own, outside the pool's limits. Raises `StoreUnavailable`.

        A server ends it if it says nothing for `mysql.IDLE_S`.
        """
        lent = self._checkout(SHORT)
        connection = self._wrap(lent)
        lent.detach()
        if isinstance(connection, mysql.MysqlConnection):
            connection.end_when_idle()
        return connection

    def end_unanswered(self, connection: Connection) -> None:
        """See to it that a server does not go on with a statement whose end nobody hears any more."""
        if isinstance(connection, mysql.MysqlConnection) and connection.unanswered is not None:
            background(self._kill, connection.unanswered, name="kill")

    def _kill(self, number: int) -> None:
        with self._killing, contextlib.suppress(Problem), self.connection() as connection:
            if isinstance(connection, mysql.MysqlConnection):
                connection.kill(number)

    @property
    def files(self) -> list[Path]:
        """The files of the embedded database; none on a server."""
        return [Path(f"{self.url.database}{end}") for end in ("", "-wal", "-shm")] if self.embedded else []

    def log_of(self, connection: Connection) -> sqlite.WriteAheadLog | None:
        """Return the embedded database's log, to which its only writer now has to see; None on a server."""
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

    def require_writable(self) -> None:
        """Raise `StoreUnavailable` if nothing can be stored: on a replica, or while another process has the file."""
        with self.connection() as connection:
            connection.begin()
            connection.change(_TOUCH)
            connection.rollback()

    def now_s(self) -> float:
        """Return the seconds since 1970 by the database's clock. Raises `StoreUnavailable`."""
        return float(self.read(lambda connection: connection.rows(_NOW)[0][0]))

    def reclaim(self, stopped: threading.Event | None = None) -> None:
        """Let nothing of what was deleted stay in the embedded database's write-ahead log, once nobody reads it.

        Give up after `RECLAIM_S`, or when ``stopped`` is set.
        """
        stopped = stopped or threading.Event()
        deadline = time.monotonic() + RECLAIM_S
        while self.embedded and not self.read(_emptied_log, long=True) and time.monotonic() < deadline:
            if stopped.wait(RECLAIM_AGAIN_S):
                return

    def close(self) -> None:
        """Close the connections that are idle."""
        with self._engines_lock, contextlib.suppress(Exception):
            for engine in self._engines.values():
                engine.dispose()


def _emptied_log(connection: Connection) -> bool:
    return isinstance(connection, sqlite.SqliteConnection) and connection.empty_log()


@contextmanager
def _without_contention() -> Iterator[None]:
    """Let reading that waited in vain for others be as if the database was away."""
    try:
        yield
    except Contention as error:
        raise StoreUnavailable(retry_after=1) from error


def _pool(kind: Kind) -> dict[str, Any]:
    """Return the options of a pool.

    Nothing is rolled back that nobody began: on a server's database that is a round trip for every reading.
    """
    kept = min(kind.concurrency, KEPT)
    return {
        "pool_size": kept,
        "max_overflow": kind.concurrency - kept,
        "pool_timeout": kind.waits,
        "pool_reset_on_return": None,
    }


def _sqlite_engine(url: URL, kind: Kind) -> sa.Engine:
    """Return an engine on a file, which is made where it is missing, and so is its folder."""
    if not url.database or url.database == ":memory:":
        raise SettingsError(["DATABASE_URL: an in-memory SQLite would lose everything; write sqlite:///path/to/file"])
    file = Path(url.database).absolute()
    private.make_folder(file.parent)
    # SQLite makes its log and its index with the mode of the file.
    private.ensure_file(file)
    engine = sa.create_engine(url, module=apsw_dbapi, **_pool(kind))
    sa.event.listen(engine, "connect", lambda connection, _record: sqlite.prepare(connection.raw))
    # Schema changes hold the write lock from their beginning, so that two processes cannot migrate at once.
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _mysql_engine(url: URL, kind: Kind, place: dict[str, Any]) -> sa.Engine:
    """Return an engine on a server, which is found by the arguments in ``place``."""
    arguments = mysql.connect_args(kind.seconds) | place
    plain = url.set(query={})
    engine = sa.create_engine(plain, connect_args=arguments, pool_pre_ping=True, pool_recycle=1800, **_pool(kind))
    sa.event.listen(engine, "do_connect", lambda _dialect, _record, _options, arguments: mysql.connect(arguments))
    sa.event.listen(engine, "connect", lambda connection, _record: mysql.prepare(connection, kind.seconds))
    return engine
