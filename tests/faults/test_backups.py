"""Backups and copies of a large database are complete, also during writes and after kills."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from chatkeep.errors import SettingsError, StoreProblem
from chatkeep.store import migrations
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.sql import Connection, Sql
from tests.cli.line import environment
from tests.conftest import blank_database, empty_database
from tests.faults.conftest import ON_SQLITE, Record
from tests.faults.scale import Scale
from tests.store import whole

pytestmark = pytest.mark.promise(1)
_WRITE = Sql(
    "INSERT INTO messages (message_id, conversation_id, position, on_branch, role, content, reasoning, written,"
    " timestamp, status, cached)"
    " SELECT :id, id, 0, 1, 'user', :text, '', 0, :number, 'completed', 0 FROM conversations LIMIT 1"
)
_MARK = Sql("UPDATE marks SET value = :number WHERE name = 'epoch'")


class Writer:
    """Writes a message and its number in one transaction, 50 times a second."""

    def __init__(self, database: Database) -> None:
        self.acknowledged = 0
        self.longest = 0.0
        self._journal = Journal(database)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def writing(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()
            self._journal.close()

    def _run(self) -> None:
        begun = time.monotonic()
        while not self._over.wait(max(0.0, begun + self.acknowledged / 50 - time.monotonic())):
            sent = time.monotonic()
            self._journal.write(self._write)
            self.longest = max(self.longest, time.monotonic() - sent)
            self.acknowledged += 1

    def _write(self, connection: Connection) -> None:
        number = self.acknowledged + 1
        connection.change(_WRITE, id=number.to_bytes(16), text="y" * 2000, number=-number)
        connection.change(_MARK, number=number)


@contextmanager
def opened(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.close()


def command(folder: Path, *arguments: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "chatkeep", *arguments],
        cwd=folder, env=environment(env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@ON_SQLITE
def test_backup_during_writes_ends_and_is_complete(
    database_url: str, scale: Scale, figures: Record, tmp_path: Path
) -> None:
    """Writes, backs up, restores and compares: some seconds; minutes in the long form, whose database has 1 GB."""
    with opened(database_url) as source, opened(f"sqlite:///{tmp_path}/restored.sqlite3") as restored:
        (tmp_path / "restored.sqlite3").unlink()
        whole.fill(source)
        whole.grow(source, scale.of(10_000_000, 1_000_000_000))
        writer = Writer(source)
        with writer.writing():
            time.sleep(scale.of(0.2, 5))
            before, begun = writer.acknowledged, time.monotonic()
            done = command(tmp_path, "backup", "backup.sqlite3", DATABASE_URL=database_url)
            said, _ = done.communicate()
            seconds, meanwhile = time.monotonic() - begun, writer.acknowledged - before
        assert done.returncode == 0, said
        begun = time.monotonic()
        done = command(tmp_path, "restore", "backup.sqlite3", DATABASE_URL=str(restored.url))
        said, _ = done.communicate()
        restoring = time.monotonic() - begun
        assert done.returncode == 0, said
        with restored.connection() as connection:
            [(there, last)] = connection.rows(Sql("SELECT COUNT(*), -MIN(timestamp) FROM messages WHERE timestamp < 0"))
            lost = before - there if there < before else 0
            assert last == there  # a prefix of what was written, without a gap
        here, found = whole.digests(source, f"timestamp >= {-there}"), whole.digests(restored)
        del here["marks"], found["marks"]
        differ = sum(here[name] != found[name] for name in here)
        figures(
            "backup under 50 writes a second",
            **{
                "MB": (tmp_path / "backup.sqlite3").stat().st_size / 1e6,
                "s": seconds,
                "writes meanwhile": meanwhile,
                "longest write, s": writer.longest,
                "s to restore": restoring,
                "tables compared": len(here),
                "that differ": differ,
                "acknowledged writes lost": lost,
            },
        )
        assert (differ, lost) == (0, 0)
        assert there <= writer.acknowledged


def test_killed_copy_resumes(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    scale: Scale,
    figures: Record,
) -> None:
    """Kills the command at random moments, from its start on: some seconds; in the long form minutes."""
    kind = request.node.callspec.params["database_url"]
    source = Database(empty_database(request, "sqlite", tmp_path_factory))
    whole.fill(source)
    whole.grow(source, scale.of(5_000_000, 50_000_000))
    wanted, dice, kills, half = whole.digests(source), scale.random(kind), 0, 0
    url = blank_database(request, kind, tmp_path_factory)
    while kills < scale.of(2, 50):
        copying = copy(tmp_path, source, url)
        if kills % 2:  # while it starts, makes the tables, or whatever it does then
            with suppress(subprocess.TimeoutExpired):
                copying.wait(dice.uniform(0.3, scale.of(2.0, 8.0)))
        else:
            wait_for_rows(copying, url, dice.randrange(1, wanted["messages"][0]))
        copying.kill()
        said, _ = copying.communicate()
        assert copying.returncode in {0, -signal.SIGKILL}, said
        if copying.returncode == 0 or is_whole(url):  # it came too late: from the beginning
            url = blank_database(request, kind, tmp_path_factory)
        else:
            kills += 1
            half += is_half(url)
    begun = time.monotonic()
    copying = copy(tmp_path, source, url)
    said, _ = copying.communicate()
    assert copying.returncode == 0, said
    seconds = time.monotonic() - begun
    with opened(url) as target:
        found = whole.digests(target)
        migrations.ensure(target)
    source.close()
    differ = sum(found[name] != wanted[name] for name in wanted)
    figures(
        "kill -9 of chatkeep copy",
        **{"kills": kills, "of them amid the rows": half, "tables that differ": differ, "s of the last run": seconds},
    )
    assert differ == 0


def copy(folder: Path, source: Database, url: str) -> subprocess.Popen[str]:
    return command(folder, "copy", "DATABASE_URL", "NEW", DATABASE_URL=str(source.url), NEW=url)


def wait_for_rows(copying: subprocess.Popen[str], url: str, count: int) -> None:
    """Wait until a target has so many messages, or its copy has ended."""
    found = 0
    with opened(url) as target:
        while found < count and copying.poll() is None:
            time.sleep(0.01)
            with suppress(StoreProblem):  # there is no such table yet
                found = target.read(_messages)


def _messages(connection: Connection) -> int:
    return int(connection.rows(Sql("SELECT COUNT(*) FROM messages"))[0][0])


def is_whole(url: str) -> bool:
    with opened(url) as target:
        return migrations.schema_of(target).revision == migrations.HEAD and target.read(_messages) > 0


def is_half(url: str) -> bool:
    """Return whether a target has some of the rows; no server serves it then."""
    with opened(url) as target:
        if migrations.schema_of(target).revision != migrations.UNFINISHED:
            return False
        with pytest.raises(SettingsError, match="has not copied everything"):
            migrations.ensure(target)
        return True


@ON_SQLITE
def test_large_copy_through_all_databases_is_identical(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    scale: Scale,
    figures: Record,
) -> None:
    """Copies thrice with the command: seconds; in the long form a database of 1 GB, minutes."""
    first = Database(empty_database(request, "sqlite", tmp_path_factory))
    whole.fill(first)
    whole.grow(first, scale.of(2_000_000, 1_000_000_000))
    wanted, source, values = whole.digests(first), first, dict[str, object]()
    for kind, name in (("mysql", "MySQL"), ("mariadb", "MariaDB"), ("sqlite", "SQLite")):
        target = Database(blank_database(request, kind, tmp_path_factory))
        begun = time.monotonic()
        copying = command(
            tmp_path, "copy", "DATABASE_URL", "NEW",
            DATABASE_URL=source.url.render_as_string(hide_password=False),
            NEW=target.url.render_as_string(hide_password=False),
        )  # fmt: skip
        said, _ = copying.communicate()
        assert copying.returncode == 0, said
        values[f"s to {name}"] = time.monotonic() - begun
        source = target
    found = whole.digests(source)
    differ = sum(found[name] != wanted[name] for name in wanted)
    figures(
        "SQLite to MySQL to MariaDB to SQLite",
        MB=scale.of(2, 1000),
        **values,
        **{"tables that differ": differ},
    )
    assert differ == 0
