"""`chatkeep backup`, `restore` and `copy` overwrite nothing, leave nothing incomplete and show no password."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chatkeep.errors import InvalidFields, SettingsError, TransferError
from chatkeep.exports import cursor_epoch
from chatkeep.store import backups, epochs, identity, migrations
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.sql import Sql
from tests.cli.line import environment, run
from tests.conftest import EMBEDDED_AND_SERVER, empty_database, file_of
from tests.http.api import Api, eventually
from tests.servers import Server
from tests.store import whole
from tests.store.test_copying import beating

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def filled(database_url: str) -> Iterator[Database]:
    """A database with rows in every table."""
    database = Database(database_url)
    whole.fill(database)
    yield database
    database.close()


@pytest.fixture
def backup(filled: Database, tmp_path: Path) -> Path:
    """A backup of it."""
    backups.back_up(path_of(filled), tmp_path / "backup.sqlite3")
    return tmp_path / "backup.sqlite3"


def path_of(database: Database) -> Path:
    return Path(str(database.url.database))


@contextmanager
def opened(path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{path}")
    yield database
    database.close()


@ON_SQLITE
def test_backup_is_restored_completely(filled: Database, tmp_path: Path) -> None:
    """Starts two processes: a second."""
    env = {"DATABASE_URL": str(filled.url)}
    done = run(tmp_path, "backup", "made.sqlite3", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert stat.S_IMODE((tmp_path / "made.sqlite3").stat().st_mode) == 0o600
    env["DATABASE_URL"] = "sqlite:///new/folder/chatkeep.sqlite3"
    done = run(tmp_path, "restore", "made.sqlite3", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    restored = tmp_path / "new" / "folder" / "chatkeep.sqlite3"
    assert stat.S_IMODE(restored.stat().st_mode) == 0o600
    assert sorted(tmp_path.rglob("*")) == sorted(
        [tmp_path / "made.sqlite3", tmp_path / "new", restored.parent, restored]
    )
    with opened(restored) as database:
        wanted, found = whole.dump(filled), whole.dump(database)
        del wanted["marks"], found["marks"]  # those change: see below
        assert found == wanted
        migrations.ensure(database)


@ON_SQLITE
def test_restored_database_refuses_older_cursors(filled: Database, tmp_path: Path) -> None:
    """After the backup the first one gave out cursors for what the second one does not have."""
    source, number = path_of(filled), 0
    with filled.connection() as connection:
        connection.change(Sql("DELETE FROM marks WHERE name IN ('database', 'tombstones_forgotten')"))
        connection.change(Sql("UPDATE marks SET value = 5 WHERE name = 'epoch'"))
    journal = Journal(filled)
    number = journal.write(identity.number)
    journal.close()
    backups.back_up(source, tmp_path / "backup")
    given = [str(epochs.close(filled)) for _ in range(3)]
    assert [cursor_epoch(filled, cursor) for cursor in given] == [5, 6, 7]
    backups.restore(tmp_path / "backup", tmp_path / "restored")
    with opened(tmp_path / "restored") as database:
        new = [epochs.close(database) for _ in range(9)][-1]
        assert cursor_epoch(database, str(new)) == new
        for cursor in given:
            with pytest.raises(InvalidFields):
                cursor_epoch(database, cursor)
        journal = Journal(database)
        assert journal.write(identity.number) not in {0, number}
        journal.close()


@ON_SQLITE
def test_backup_overwrites_no_file(filled: Database, backup: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    for there in (backup, path_of(filled), link, tmp_path):
        before = there.lstat()
        with pytest.raises(TransferError, match=r"There is a file .* already"):
            backups.back_up(path_of(filled), there)
        assert there.lstat() == before
    assert not link.exists()


@ON_SQLITE
def test_concurrent_backups_to_one_file_keep_one(filled: Database, tmp_path: Path) -> None:
    ready, told = threading.Barrier(2), list[TransferError]()

    def back_up() -> None:
        ready.wait()
        try:
            backups.back_up(path_of(filled), tmp_path / "backup")
        except TransferError as error:
            told.append(error)

    threads = [threading.Thread(target=back_up) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in tmp_path.iterdir()] == ["backup"]
    assert ["There is a file" in str(error) for error in told] == [True]


@ON_SQLITE
@pytest.mark.parametrize("end", ["", "-wal", "-shm", "-journal"])
def test_restore_overwrites_no_database(backup: Path, tmp_path: Path, end: str) -> None:
    """A log that is left of another database would be taken for this one's."""
    there = tmp_path / f"chatkeep.sqlite3{end}"
    there.write_bytes(b"something")
    with pytest.raises(TransferError, match=f"There is a file .*chatkeep.sqlite3{end} already"):
        backups.restore(backup, tmp_path / "chatkeep.sqlite3")
    assert there.read_bytes() == b"something"


@ON_SQLITE
def test_restore_refuses_a_file_that_is_no_backup(filled: Database, backup: Path, tmp_path: Path) -> None:
    whole_file = backup.read_bytes()
    cut, other, newer = (tmp_path / name for name in ("cut", "other", "newer"))
    cut.write_bytes(whole_file[: len(whole_file) // 2])
    other.write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    with filled.connection() as connection:
        connection.change(Sql("UPDATE alembic_version SET version_num = '9999'"))
    newer.write_bytes(path_of(filled).read_bytes())
    filled.close()
    for wrong in (cut, other, tmp_path / "missing"):
        with pytest.raises(TransferError, match=r"cannot be copied|corrupt|no database of|There is no file"):
            backups.restore(wrong, tmp_path / "restored")
    with pytest.raises(TransferError, match="has schema 9999; this version knows"):
        backups.restore(path_of(filled), tmp_path / "restored")
    assert [path.name for path in tmp_path.glob("restored*")] == []


@ON_SQLITE
def test_backup_of_a_corrupt_database_fails(filled: Database, tmp_path: Path) -> None:
    filled.read(lambda connection: connection.rows(Sql("PRAGMA wal_checkpoint(TRUNCATE)")))
    path = path_of(filled)
    content = bytearray(path.read_bytes())
    content[5 * 4096 : 30 * 4096] = b"x" * (25 * 4096)
    copy = tmp_path / "corrupt"
    copy.write_bytes(content)
    with pytest.raises(TransferError, match=r"cannot be copied to .*: database disk image is malformed"):
        backups.back_up(copy, tmp_path / "backup")
    assert [path.name for path in tmp_path.iterdir()] == ["corrupt"]


@ON_SQLITE
@pytest.mark.skipif(os.geteuid() != 0 if os.name == "posix" else True, reason="a small disk takes root to mount")
def test_backup_on_a_full_disk_fails_and_leaves_nothing(filled: Database, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        with pytest.raises(TransferError, match=r"has room for 0 MB; .* MB are needed"):
            backups.back_up(path_of(filled), folder / "backup")
        assert list(folder.iterdir()) == []
    finally:
        subprocess.run(["/bin/umount", "-l", str(folder)], check=True)


@ON_SQLITE
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_backup_leaves_nothing(filled: Database, tmp_path: Path, number: signal.Signals) -> None:
    """Fills a database with 200 MB, of which a backup takes a moment: two seconds."""
    with filled.connection() as connection:
        connection.change(
            Sql("CREATE TABLE much AS SELECT zeroblob(3000) AS it FROM messages a, messages b, messages c")
        )
    folder = tmp_path / "made"
    folder.mkdir()
    command = [sys.executable, "-m", "chatkeep", "backup", str(folder / "backup")]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment({"DATABASE_URL": str(filled.url)}), stderr=subprocess.PIPE, text=True
    )
    assert eventually(lambda: any(part.stat().st_size > 1_000_000 for part in folder.iterdir()), 10)
    process.send_signal(number)
    _, said = process.communicate(timeout=10)
    assert (process.returncode, "Traceback" in said) == (1, False)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("server", [("waitress", "sqlite")], indirect=True, ids="-".join)
def test_backup_of_a_running_server_has_committed_data(server: Server, tmp_path: Path) -> None:
    said = Api(server).chat("Hello before the backup")
    done = run(tmp_path, "backup", "b", env={"DATABASE_URL": server.env["DATABASE_URL"]})
    assert done.returncode == 0
    with opened(tmp_path / "b") as database:
        found = database.read(lambda connection: connection.rows(Sql("SELECT content FROM messages")))
    assert (said["reply"],) in found


def test_backup_of_mysql_names_its_own_programs(mariadb_url: str, tmp_path: Path) -> None:
    """Starts two processes: a second."""
    for arguments in (["backup", "x"], ["restore", "x"]):
        done = run(tmp_path, *arguments, env={"DATABASE_URL": mariadb_url})
        assert (done.returncode, list(tmp_path.iterdir())) == (1, [])
        assert "For MySQL and MariaDB, use their own tools: see docs/deployment.md, Backup" in done.stderr


def test_copy_shows_no_password(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Starts four processes: three seconds."""
    source, target = (Database(empty_database(request, kind, tmp_path_factory)) for kind in EMBEDDED_AND_SERVER)
    whole.fill(source, rows=5)
    url = target.url.render_as_string(hide_password=False)
    env = {"DATABASE_URL": str(source.url), "OTHER": url, "LANG": "zh_CN.UTF-8"}
    done = run(tmp_path, "copy", "DATABASE_URL", "OTHER", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "messages: 5 行" in done.stdout
    assert whole.dump(target) == whole.dump(source)
    again = run(tmp_path, "copy", "DATABASE_URL", url, env={**env, "LANG": "C"})
    assert again.returncode == 1
    assert "The target is not empty" in again.stderr
    assert "Other users of this machine can read this password" in again.stderr
    wrong = url.replace(f":{target.url.port}/", ":1/")
    away = run(tmp_path, "copy", "DATABASE_URL", "OTHER", env={**env, "OTHER": wrong})
    unset = run(tmp_path, "copy", "DATABASE_URL", "ANOTHER", env=env)
    assert [away.returncode, unset.returncode] == [1, 2]
    shown = "".join(each.stdout + each.stderr for each in (done, again, away, unset))
    assert str(target.url.password) not in shown
    assert "Traceback" not in shown
    source.close()
    target.close()


def test_restore_marks_a_loaded_dump(filled: Database, tmp_path: Path) -> None:
    """Starts a process: half a second."""
    before = whole.dump(filled)
    done = run(tmp_path, "restore", env={"DATABASE_URL": filled.url.render_as_string(hide_password=False)})
    assert done.returncode == 0, done.stderr
    marks = dict(whole.dump(filled)["marks"])
    assert marks["epoch"] == dict(before["marks"])["epoch"] + identity.LEAP == marks["tombstones_forgotten"]
    assert not filled.read(lambda c: c.rows(Sql("SELECT 1 FROM marks WHERE name = 'database'")))


@ON_SQLITE
def test_restore_refuses_to_mark_a_database_in_use(database_url: str, tmp_path: Path) -> None:
    """Starts a process: half a second."""
    with opened(Path(file_of(database_url))) as database, beating(database):
        done = run(tmp_path, "restore", env={"DATABASE_URL": database_url})
    assert (done.returncode, "A server is using this database" in done.stderr) == (1, True)


@ON_SQLITE
def test_unfinished_copy_is_not_served(database_url: str, tmp_path: Path) -> None:
    """Starts a process, and a server that does not start: two seconds."""
    with opened(Path(file_of(database_url))) as database, database.connection() as connection:
        connection.change(Sql("UPDATE alembic_version SET version_num = :revision"), revision=migrations.UNFINISHED)
    found = run(tmp_path, "doctor", env={"DATABASE_URL": database_url}).stdout
    assert "chatkeep copy has not finished copying into this database" in found
    with pytest.raises(RuntimeError, match="chatkeep copy has not copied everything"):
        Server("waitress", tmp_path, {"DATABASE_URL": database_url}).start()
    with pytest.raises(SettingsError):
        migrations.existing(database_url)
