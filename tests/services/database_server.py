"""A throwaway database server of the tests' own: a folder and a port of its own, gone when the tests end.

The system's instance, its configuration and its data are never touched: the program is started by itself, without
option files.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import pymysql
from sqlalchemy.engine import make_url

from tests.ports import free_port
from tests.services.users import ORDINARY_USER, USER

if sys.platform != "win32":
    import fcntl
    import pwd

_NEW_SERVERS = "TESTS_NEW_SERVERS"  # the variable that names the folder of the shared files
WITHOUT_FLUSHES = ("--innodb-flush-log-at-trx-commit=0", "--sync-binlog=0")


class Unavailable(Exception):
    """The server is missing and cannot be installed without a password. The message says what was tried."""


class DatabaseServer(ABC):
    """A server process. Use it as a context manager, or `start` and `stop` it. Databases live until the context ends.

    Its durability is the default (every commit reaches the disk), as in production; memory is kept small. A server that
    no test kills may do without: give its `more` the options in `WITHOUT_FLUSHES`.
    """

    name: ClassVar[str]
    options: ClassVar[tuple[str, ...]]
    """Options of the start, which `more` may override."""

    def __init__(self) -> None:
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.more: list[str] = []
        """More options, for the next start."""
        self._password = secrets.token_hex(8)
        self._owner = owner()
        self._folder = Path(tempfile.mkdtemp(prefix=f"chatkeep-{self.name.lower()}-"))
        self._log = self._folder / "log"

    @classmethod
    @abstractmethod
    def is_installed(cls) -> bool:
        """Return whether the server can be started."""

    @classmethod
    @abstractmethod
    def ensure_installed(cls) -> None:
        """Install the server if it is missing. Raises `Unavailable` if that is not possible."""

    @classmethod
    @abstractmethod
    def initialize(cls, folder: Path) -> list[str]:
        """Return the command that makes the files of a server in ``folder/files``."""

    @classmethod
    @abstractmethod
    def program(cls, *arguments: str) -> list[str]:
        """Return the command line of the server."""

    @classmethod
    @abstractmethod
    def client(cls, name: str, *arguments: str) -> list[str]:
        """Return the command line of one of its clients, such as ``dump``."""

    @classmethod
    def version(cls) -> str:
        """Return the number of the version, such as ``9.7.4``."""
        said = subprocess.run(cls.program("--version"), capture_output=True, text=True, check=True).stdout
        return said.partition(" Ver ")[2].split()[0].partition("-")[0]

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
            cursor.execute("SET SESSION sql_log_bin = 0")  # no replica needs a copy, which takes twice as long with it
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

    def execute(self, *statements: str) -> tuple[tuple[Any, ...], ...]:
        """Run statements that commit themselves, the first outside any database; return the last one's rows."""
        with contextlib.closing(self._connect()) as connection, connection.cursor() as cursor:
            connection.autocommit(True)  # noqa: FBT003 - PyMySQL's own
            for statement in statements:
                cursor.execute(statement)
            return tuple(cursor.fetchall())

    def start(self) -> None:
        """Start the server on its folder and port, and wait until it answers."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self.program(*self._options(), *self.more), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 30
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self.name} did not start:\n{self.log()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server, or kill it after 20 seconds."""
        if not self.process:
            return
        self.resume()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill the server."""
        self._signal(signal.SIGKILL)
        if self.process:
            self.process.wait()

    def pause(self) -> None:
        """Pause the server: connections stay open without answers. Returns when every thread has stopped."""
        self._signal(signal.SIGSTOP)
        deadline = time.monotonic() + 5
        while self.process and not _is_stopped(self.process.pid) and time.monotonic() < deadline:
            time.sleep(0.005)

    def resume(self) -> None:
        """End the pause."""
        self._signal(signal.SIGCONT)

    def log(self) -> str:
        """Return what the server wrote."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _signal(self, number: signal.Signals) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)

    def _prepare(self) -> None:
        """Make the files of a server with two users with a password."""
        if self._owner:
            shutil.chown(self._folder, self._owner)
        (self._folder / "init.sql").write_text(
            f"CREATE USER IF NOT EXISTS '{USER}'@'127.0.0.1' IDENTIFIED BY '{self._password}';\n"
            f"GRANT ALL ON *.* TO '{USER}'@'127.0.0.1' WITH GRANT OPTION;\n"
            f"CREATE USER IF NOT EXISTS '{ORDINARY_USER}'@'127.0.0.1' IDENTIFIED BY '{self._password}';\n"
            f"GRANT ALL ON `test\\_%`.* TO '{ORDINARY_USER}'@'127.0.0.1';\n"
        )
        shutil.copytree(_pristine(type(self)), self._folder / "files")
        if self._owner:
            for path in (self._folder / "files", *(self._folder / "files").rglob("*")):
                shutil.chown(path, self._owner)

    def _options(self) -> list[str]:
        return [
            "--no-defaults",
            *owned(),
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
            *self.options,
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


def share_new_servers() -> Path:
    """Let this process and those that it starts make the files of new servers once; return their folder."""
    folder = Path(tempfile.mkdtemp(prefix="chatkeep-new-servers-"))
    folder.chmod(0o755)  # the servers have another user
    os.environ[_NEW_SERVERS] = str(folder)
    return folder


def _pristine(kind: type[DatabaseServer]) -> Path:
    """Return the files of a server that has not run yet. The first process makes them, which takes seconds."""
    if _NEW_SERVERS not in os.environ:
        atexit.register(shutil.rmtree, share_new_servers(), ignore_errors=True)
    folder = Path(os.environ[_NEW_SERVERS]) / kind.name
    with folder.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            _initialize(kind, part)
            part.rename(folder)
    return folder / "files"


def _initialize(kind: type[DatabaseServer], folder: Path) -> None:
    """Make the files of a server in a new folder."""
    folder.mkdir()
    if user := owner():
        shutil.chown(folder, user)
    done = subprocess.run(kind.initialize(folder), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"Could not make the files of a {kind.name}:\n{done.stdout}{done.stderr}")


def _is_stopped(pid: int) -> bool:
    states = [stat.read_text().rpartition(")")[2].split()[0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    return set(states) <= {"T"}


def owner() -> str | None:
    """Return the user of a server that root starts, because these refuse to run as root."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("mysql").pw_name
    return "nobody"


def owned() -> list[str]:
    """Return the option that runs a server, started by root, as another user."""
    return [f"--user={user}"] if (user := owner()) else []
