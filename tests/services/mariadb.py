"""A throwaway MariaDB of the tests' own: a folder, a socket and a port of its own, gone when the tests end.

The system's instance, its configuration and its data are never touched: the program is started by itself, without
option files. Where the program is missing it is installed, if that takes no question: on Debian and Ubuntu as root or
with a sudo that asks for nothing. The packages are those without a service.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pymysql
from sqlalchemy.engine import make_url

from tests.ports import free_port
from tests.services import debian

PACKAGES = ("mariadb-server-core", "mariadb-client-core")
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
USER = "chatkeep"
SMALL = ("--innodb-log-file-size=32M",)


class Unavailable(Exception):
    """There is no MariaDB here and no way to install it unasked; the message says which way was tried."""


class MariaDB:
    """A server process; use it as a context, or `start` and `stop` it. Databases live until the context ends.

    Its durability is the default (every commit reaches the disk), as in production; memory is kept small.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._password = secrets.token_hex(8)
        self._owner = _owner()
        self._folder = Path(tempfile.mkdtemp(prefix="chatkeep-mariadb-"))
        self._log = self._folder / "log"

    def __enter__(self) -> Self:
        try:
            self._prepare()
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._remove()

    def create_database(self, character_set: str = "utf8mb4") -> str:
        """Return the URL of a new and empty database."""
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name} CHARACTER SET {character_set}")
        return f"mysql+pymysql://{USER}:{self._password}@127.0.0.1:{self.port}/{name}?charset=utf8mb4"

    def copy_database(self, url: str) -> str:
        """Return the URL of a new database with the tables and rows of another one of this server."""
        copied = self.create_database()
        old, new = (make_url(each).database for each in (url, copied))
        with contextlib.closing(self._connect()) as connection, connection.cursor() as cursor:
            cursor.execute(f"SHOW TABLES FROM {old}")
            tables = [row[0] for row in cursor.fetchall()]
            cursor.execute(f"USE {new}")
            cursor.execute("SET FOREIGN_KEY_CHECKS = 0")  # they come by their names
            for table in tables:
                cursor.execute(f"SHOW CREATE TABLE {old}.`{table}`")
                _, made = cursor.fetchone() or ("", "")
                cursor.execute(made)
                cursor.execute(f"INSERT INTO `{table}` SELECT * FROM {old}.`{table}`")  # noqa: S608 - our own names
            connection.commit()
        return copied

    def execute(self, sql: str) -> tuple[tuple[Any, ...], ...]:
        """Run a statement outside any database and return its rows."""
        with contextlib.closing(self._connect()) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return tuple(cursor.fetchall())

    def start(self) -> None:
        """Start the server on its folder and port, and wait until it answers."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [_program("mariadbd"), *self._options()], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 30
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"MariaDB did not start:\n{self.log()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server in order, or by force after 20 seconds."""
        if not self.process:
            return
        self.resume()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the server as a power cut does."""
        self._signal(signal.SIGKILL)
        if self.process:
            self.process.wait()

    def pause(self) -> None:
        """Make the server hang: connections stay, nothing is answered; return once every thread has stopped."""
        self._signal(signal.SIGSTOP)
        deadline = time.monotonic() + 5
        while self.process and not _is_stopped(self.process.pid) and time.monotonic() < deadline:
            time.sleep(0.005)

    def resume(self) -> None:
        """End the hanging."""
        self._signal(signal.SIGCONT)

    def log(self) -> str:
        """Return what the server wrote."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _signal(self, number: signal.Signals) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)

    def _prepare(self) -> None:
        """Make the files of a server that knows one user with a password."""
        if self._owner:
            shutil.chown(self._folder, self._owner)
        (self._folder / "init.sql").write_text(
            f"CREATE USER IF NOT EXISTS '{USER}'@'127.0.0.1' IDENTIFIED BY '{self._password}';\n"
            f"GRANT ALL ON *.* TO '{USER}'@'127.0.0.1';\n"
        )
        shutil.copytree(_pristine(), self._folder / "files")
        if self._owner:
            for path in (self._folder / "files", *(self._folder / "files").rglob("*")):
                shutil.chown(path, self._owner)

    def _options(self) -> list[str]:
        owner = [f"--user={self._owner}"] if self._owner else []
        return [
            "--no-defaults",
            *owner,
            f"--datadir={self._folder}/files",
            f"--init-file={self._folder}/init.sql",
            f"--tmpdir={self._folder}",
            f"--pid-file={self._folder}/pid",
            f"--socket={self._folder}/socket",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--max-connections=1000",
            "--innodb-buffer-pool-size=64M",
            *SMALL,
        ]

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except pymysql.err.OperationalError:
            return False
        return True

    def _connect(self) -> pymysql.Connection[Any]:
        return pymysql.Connection(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=self._password,
            connect_timeout=5,
            ssl_disabled=True,
        )

    def _remove(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


@cache
def _pristine() -> Path:
    """Return the files of a server that has not run yet, made once in each process: that takes two seconds."""
    folder = Path(tempfile.mkdtemp(prefix="chatkeep-mariadb-new-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    command = [_program("mariadb-install-db"), "--no-defaults", *SMALL, "--skip-test-db", f"--datadir={folder}/files"]
    command.append(f"--tmpdir={folder}")
    if owner := _owner():
        shutil.chown(folder, owner)
        command.append(f"--user={owner}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"mariadb-install-db failed:\n{done.stdout}{done.stderr}")
    return folder / "files"


def _is_stopped(pid: int) -> bool:
    states = [stat.read_text().rpartition(")")[2].split()[0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    return set(states) <= {"T"}


def ensure_installed() -> None:
    """Install MariaDB where it is missing; raises `Unavailable` where that is not possible."""
    with debian.lock():
        if _found():
            return
        tried = debian.install(*PACKAGES)
        if not _found():
            raise Unavailable(f"mariadbd is not installed, and {tried}")


def _found() -> bool:
    return all(shutil.which(name, path=PATH) for name in ("mariadbd", "mariadb-install-db"))


def _program(name: str) -> str:
    found = shutil.which(name, path=PATH)
    assert found, name
    return found


def _owner() -> str | None:
    """Return who shall run the server where root starts it: MariaDB does not like to be root."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("mysql").pw_name
    return "nobody"
