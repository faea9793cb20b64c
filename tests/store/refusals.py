"""Databases with which a server can't start, of each kind that operators meet."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL, make_url

from chatkeep.store import migrations
from chatkeep.store.engine import Database
from tests.ports import free_port
from tests.services.database_server import DatabaseServer

MOUNT, UMOUNT = "/usr/bin/mount", "/usr/bin/umount"


@dataclass(frozen=True, slots=True)
class Host:
    """A database server, and a database with this version's schema."""

    server: DatabaseServer
    migrated: URL

    def url(self, **changes: Any) -> str:
        """Return the URL of the database, with another user, host or name."""
        return self.migrated.set(query={}, **changes).render_as_string(hide_password=False)

    @contextmanager
    def user(self, rights: str = "ALL", options: str = "") -> Iterator[str]:
        """Yield the database's URL for a user with rights only on it."""
        name = f"user_{secrets.token_hex(4)}"
        account = f"'{name}'@'127.0.0.1'"
        self.server.execute(f"CREATE USER {account} IDENTIFIED BY 'password-of-theirs'")
        if rights:
            self.server.execute(f"GRANT {rights} ON {self.migrated.database}.* TO {account}")
        if options:
            self.server.execute(f"ALTER USER {account} {options}")
        try:
            yield self.url(username=name, password="password-of-theirs")
        finally:
            self.server.execute(f"DROP USER {account}")

    @contextmanager
    def having(self, name: str, value: str) -> Iterator[None]:
        """Set a server variable temporarily."""
        ((before,),) = self.server.execute(f"SELECT @@GLOBAL.{name}")
        self.server.execute(f"SET GLOBAL {name} = {value}")
        try:
            yield
        finally:
            self.server.execute(
                f"SET GLOBAL {name} = '{before}'" if isinstance(before, str) else f"SET GLOBAL {name} = {before}"
            )


Refusing = Callable[[Host], AbstractContextManager[str]]


@contextmanager
def saying(said: bytes, host: Host) -> Iterator[str]:
    """A listener other than MySQL, which sends some bytes and closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                while True:
                    client, _ = listener.accept()
                    client.sendall(said)
                    client.close()
            os._exit(0)
        try:
            yield host.url(port=listener.getsockname()[1])
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


@contextmanager
def read_only(host: Host) -> Iterator[str]:
    with host.user() as url, host.having("read_only", "1"):
        yield url


@contextmanager
def blank_and_read_only(host: Host) -> Iterator[str]:
    name = make_url(host.server.create_database()).database or ""
    with host.user() as url, host.having("read_only", "1"):
        user = make_url(url).username
        host.server.execute(f"GRANT ALL ON {name}.* TO '{user}'@'127.0.0.1'")
        yield make_url(url).set(database=name).render_as_string(hide_password=False)


@contextmanager
def statement_log(host: Host) -> Iterator[str]:
    with host.having("binlog_format", "'STATEMENT'"):
        yield host.url()


@contextmanager
def blank_and_statement_log(host: Host) -> Iterator[str]:
    with host.having("binlog_format", "'STATEMENT'"):
        yield host.server.create_database()


@contextmanager
def no_connection_left(host: Host) -> Iterator[str]:
    with host.user(options="WITH MAX_CONNECTIONS_PER_HOUR 1") as url:
        Database(url).dedicated().close()
        yield url


@contextmanager
def foreign_tables(host: Host) -> Iterator[str]:
    url = make_url(host.server.create_database())
    host.server.execute(f"CREATE TABLE {url.database}.their_orders (id INT PRIMARY KEY)")
    yield url.render_as_string(hide_password=False)


def with_(**changes: str | int) -> Refusing:
    """Return a case that differs only in its URL."""
    return lambda host: nullcontext(host.url(**changes))


OF_SERVERS: dict[str, tuple[Refusing, str]] = {
    "away": (with_(port=free_port()), "no database listens on {place}; start it, or correct the host and the port"),
    "unknown host": (
        with_(host="no-such-host.invalid"),
        "the host no-such-host.invalid is unknown; correct it, or the",
    ),
    "nothing": (partial(saying, b""), "what listens on {place} hangs up, or is not MySQL; correct the host and the"),
    "not MySQL": (
        partial(saying, b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        "what listens on {place} hangs up, or is not MySQL; correct the host and the port",
    ),
    "wrong password": (with_(password="wrong"), "{place} refuses the user {user}: error 1045; correct the user and"),
    "no user": (
        with_(username="nobody"),
        "{place} refuses the user nobody: error 1045; correct the user and the pass",
    ),
    "no database": (
        with_(database="none"),
        "{place} has no database none: error 1049; correct the name, or run there:",
    ),
    "no right on it": (
        lambda host: host.user(rights=""),
        "the user {user} at {place} lacks rights on the database {name}: error 1044; grant it ALL on that database",
    ),
    "no right to write": (
        lambda host: host.user(rights="SELECT"),
        "the user {user} at {place} lacks rights on the database {name}: error 1142; grant it ALL on that database",
    ),
    "read-only": (read_only, "{place} is read-only: error 1290; name the primary, or turn read_only off there"),
    "blank and read-only": (blank_and_read_only, "{place} is read-only: error 1290; name the primary, or turn read"),
    "STATEMENT": (
        statement_log,
        "{place} has binlog_format=STATEMENT, which cannot log transactions at READ COMMITTED",
    ),
    "blank and STATEMENT": (blank_and_statement_log, "{place} has binlog_format=STATEMENT, which cannot log"),
    "no connection": (no_connection_left, "{place} has no connection left: error 1226; raise max_connections there"),
    "locked account": (
        lambda host: host.user(options="ACCOUNT LOCK"),
        "the password of the user {user} at {place} has expired, or its account is locked: error ",
    ),
    "expired password": (
        lambda host: host.user(options="PASSWORD EXPIRE"),
        "the password of the user {user} at {place} has expired, or its account is locked: error ",
    ),
    "foreign tables": (foreign_tables, "the database {name} holds tables of another program, such as their_orders;"),
}


@contextmanager
def a_file_for_a_folder(folder: Path) -> Iterator[Path]:
    (folder / "data").write_text("a note")
    yield folder / "data" / "x.sqlite3"


@contextmanager
def a_folder_for_a_file(folder: Path) -> Iterator[Path]:
    (folder / "x.sqlite3").mkdir()
    yield folder / "x.sqlite3"


@contextmanager
def garbage(folder: Path) -> Iterator[Path]:
    (folder / "x.sqlite3").write_bytes(os.urandom(20_000))
    yield folder / "x.sqlite3"


@contextmanager
def encrypted(folder: Path) -> Iterator[Path]:
    """Everything except the page size is unreadable, like with SQLCipher and SQLite's own extension."""
    file = made(folder)
    whole = file.read_bytes()
    file.write_bytes(os.urandom(16) + whole[16:24] + os.urandom(len(whole) - 24))
    yield file


@contextmanager
def truncated(folder: Path) -> Iterator[Path]:
    file = made(folder)
    os.truncate(file, file.stat().st_size // 2)
    yield file


@contextmanager
def header_alone(folder: Path) -> Iterator[Path]:
    file = made(folder)
    os.truncate(file, 60)
    yield file


@contextmanager
def of_another_program(folder: Path) -> Iterator[Path]:
    file = folder / "x.sqlite3"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE moz_places (id INTEGER PRIMARY KEY)")
    yield file


@contextmanager
def full_disk(folder: Path) -> Iterator[Path]:
    with file_system(folder / "full", "size=64k") as disk, (disk / "filler").open("wb", buffering=0) as filler:
        with contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))
        yield disk / "x.sqlite3"


@contextmanager
def read_only_disk(folder: Path) -> Iterator[Path]:
    with file_system(folder / "read-only", "size=8m") as disk:
        file = made(disk)
        subprocess.run([MOUNT, "-o", "remount,ro", str(disk)], check=True)
        yield file


@contextmanager
def read_only_and_blank_disk(folder: Path) -> Iterator[Path]:
    with file_system(folder / "read-only", "size=8m,ro") as disk:
        yield disk / "new" / "x.sqlite3"


@contextmanager
def file_system(folder: Path, options: str) -> Iterator[Path]:
    """Mount a tmpfs temporarily, which needs root."""
    folder.mkdir()
    subprocess.run([MOUNT, "-t", "tmpfs", "-o", f"{options},mode=700", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run([UMOUNT, "-l", str(folder)], check=True)


def made(folder: Path) -> Path:
    """Return a file with this version's schema."""
    file = folder / "x.sqlite3"
    database = Database(f"sqlite:///{file}")
    migrations.migrate(database)
    database.reclaim()
    database.close()
    return file


OF_FILES: dict[str, tuple[Callable[[Path], AbstractContextManager[Path]], str]] = {
    "a file for a folder": (
        a_file_for_a_folder,
        "{file} cannot be opened; its folder has to be one that this user may",
    ),
    "a folder for a file": (
        a_folder_for_a_file,
        "{file} cannot be opened; its folder has to be one that this user may",
    ),
    "garbage": (
        garbage,
        "{file} is not a SQLite database, or it is encrypted; move it away, or choose another place by",
    ),
    "encrypted": (
        encrypted,
        "{file} is not a SQLite database, or it is encrypted; move it away, or choose another place",
    ),
    "truncated": (truncated, "{file} is damaged; restore a backup of it, or move it away"),
    "header alone": (header_alone, "{file} is damaged; restore a backup of it, or move it away"),
    "of another program": (
        of_another_program,
        "the database {file} holds tables of another program, such as moz_places",
    ),
}
OF_DISKS: dict[str, tuple[Callable[[Path], AbstractContextManager[Path]], str]] = {
    "full disk": (full_disk, "the disk of {file} is full; make room, or choose another place by DATABASE_URL or"),
    "read-only": (read_only_disk, "{file} cannot be opened; its folder has to be one that this user may write; choose"),
    "read-only and blank": (
        read_only_and_blank_disk,
        "this user may not write {file} and its folder; allow it, or choose",
    ),
}
CAN_MOUNT = os.name == "posix" and os.geteuid() == 0 and bool(shutil.which(MOUNT))
