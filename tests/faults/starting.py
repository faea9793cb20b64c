"""Processes that start concurrently and can be killed, and large databases."""

from __future__ import annotations

import multiprocessing
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import apsw
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.engine import make_url

from chatkeep.store import migrations
from chatkeep.store.engine import CHANGES_OF_SCHEMA, Database
from chatkeep.store.migrations import running
from chatkeep.store.schema import metadata
from chatkeep.store.sql import Sql
from tests.services.database_server import DatabaseServer

if sys.platform != "win32":
    from multiprocessing.context import ForkServerProcess

    # Processes are forked from one that has imported this module, so hundreds of them take seconds.
    PROCESSES = multiprocessing.get_context("forkserver")
    PROCESSES.set_forkserver_preload(["tests.faults.starting"])
ENOUGH_S = 180.0
WORDS = "word " * 40
_COUNT = Sql("SELECT (SELECT COUNT(*) FROM conversations), COUNT(*), SUM(timestamp) FROM messages")
_CONVERSATIONS = (
    "INSERT INTO conversations (id, owner, title, metadata, created_at, last_active, pinned, message_count, forks)"
    " SELECT {id}, 'local', 'A title', '{{}}', created_at + :more, created_at + :more, 0, 0, 0 FROM {all}"
)
_MESSAGES = (
    "INSERT INTO messages (id, message_id, conversation_id, position, on_branch, role, content, reasoning, written,"
    " timestamp, status, cached)"
    " SELECT created_at + :more, {id}, id, :position, 1, 'user', :text, '', 200, :position, 'completed', 0"
    " FROM conversations"
)


class Place(ABC):
    """Creates databases for tests."""

    @abstractmethod
    def new(self) -> str:
        """Return the URL of a blank database."""

    @abstractmethod
    def copy(self, url: str) -> str:
        """Return the URL of a copy of an unused database."""

    @abstractmethod
    def drop(self, url: str) -> None:
        """Delete a database."""

    @abstractmethod
    @contextmanager
    def held(self, url: str) -> Iterator[None]:
        """Block writes in the context; on a server also reads."""


class Files(Place):
    """SQLite files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count()

    def new(self) -> str:
        """Return the URL of a new file."""
        return f"sqlite:///{self._folder}/{next(self._numbers)}"

    def copy(self, url: str) -> str:
        """Return the URL of a copy."""
        copied = self.new()
        shutil.copyfile(_file(url), _file(copied))
        return copied

    def drop(self, url: str) -> None:
        """Remove the file."""
        for end in ("", "-wal", "-shm"):
            Path(f"{_file(url)}{end}").unlink(missing_ok=True)

    @contextmanager
    def held(self, url: str) -> Iterator[None]:
        """Hold the write lock."""
        with closing(apsw.Connection(_file(url))) as connection:
            connection.set_busy_timeout(int(ENOUGH_S * 1000))
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("COMMIT")


class Databases(Place):
    """Databases on a server."""

    def __init__(self, server: DatabaseServer) -> None:
        self._server = server

    def new(self) -> str:
        """Return the URL of an empty database."""
        return self._server.create_database()

    def copy(self, url: str) -> str:
        """Return the URL of a copy."""
        return self._server.copy_database(url)

    def drop(self, url: str) -> None:
        """Remove the database."""
        self._server.execute(f"DROP DATABASE {make_url(url).database}")

    @contextmanager
    def held(self, url: str) -> Iterator[None]:  # noqa: ARG002 - all of them
        """Pause the server."""
        self._server.pause()
        try:
            yield
        finally:
            self._server.resume()


def _file(url: str) -> str:
    return url.removeprefix("sqlite:///")


def start(url: str, together: Barrier) -> None:
    """Start on a database as a worker does, when all processes are ready."""
    together.wait()
    migrations.opened(url).close()


def upgrade(url: str, together: Barrier) -> None:
    """Migrate a database as ``chatkeep migrate`` does."""
    together.wait()
    with closing(Database(url)) as database:
        migrations.migrate(database)


def begin(work: Callable[[str, Barrier], None], url: str, *, processes: int = 1) -> list[ForkServerProcess]:
    """Begin work in several processes at once, and return when all have begun."""
    together = PROCESSES.Barrier(processes + 1)
    begun = [PROCESSES.Process(target=work, args=(url, together), daemon=True) for _ in range(processes)]
    for process in begun:
        process.start()
    together.wait(ENOUGH_S)
    return begun


def succeeded(process: ForkServerProcess) -> bool:
    """Wait for a process. Return whether it succeeded."""
    process.join(ENOUGH_S)
    return process.exitcode == 0


def killed(process: ForkServerProcess) -> bool:
    """Kill a process. Return whether it was still running."""
    process.kill()
    process.join()
    return process.exitcode != 0


def is_sound(url: str) -> bool:
    """Return whether a database has this version's schema and its number."""
    with closing(Database(url)) as database:
        with database.engine_for(CHANGES_OF_SCHEMA).connect() as connection:
            differences: list[Any] = compare_metadata(MigrationContext.configure(connection), metadata)
            marks = set(connection.execute(sa.text("SELECT name FROM marks")).scalars())
        expected = {"audit", "epoch", "erasures", "keys", migrations.COMPATIBLE_FROM_MARK}
        return not differences and marks == expected and migrations.schema_of(database).revision == migrations.HEAD


def bring_to(url: str, revision: str) -> None:
    """Run the migrations up to an earlier version."""
    with closing(Database(url)) as database:
        found = migrations.schema_of(database).revision
        if found != revision:
            running.run(database, found, lambda _line: None, to=revision)


def fill(url: str, conversations: int, messages: int) -> None:
    """Fill an empty database of the first schema with at least this many conversations and messages.

    Their number doubles each time: the database makes them, which is quick.
    """
    with closing(Database(url)) as database, database.engine_for(CHANGES_OF_SCHEMA).connect() as connection:
        of = "randomblob(16)" if database.embedded else "UNHEX(LEFT(SHA2(CONCAT('{}', created_at + :more), 256), 32))"
        first = _CONVERSATIONS.format(id=of.format("c"), all="(SELECT 0 AS created_at) AS nobody")
        connection.execute(sa.text(first), {"more": 1})
        made = 1
        while made < conversations:
            doubled = sa.text(_CONVERSATIONS.format(id=of.format("c"), all="conversations"))
            connection.execute(doubled, {"more": made})
            made *= 2
        for position in range(1, -(-messages // made) + 1):
            more = {"more": position * made, "position": position, "text": WORDS}
            connection.execute(sa.text(_MESSAGES.format(id=of.format("m"))), more)
            connection.commit()


def contents(url: str) -> tuple[Any, ...]:
    """Return numbers that change if a row is lost or duplicated."""
    with closing(Database(url)) as database:
        return database.scan(lambda connection: connection.rows(_COUNT))[0]
