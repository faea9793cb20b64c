"""A MariaDB server of the benchmark's own, in a temporary folder, reachable from this machine only."""

from __future__ import annotations

import getpass
import shutil
import subprocess
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from bench import fill, servers
from bench.processes import BenchError, free_port, listening, running, wait_until
from chatkeep.store import schema

ACCOUNT = "CREATE USER bench@'127.0.0.1' IDENTIFIED BY 'bench';\nGRANT ALL ON *.* TO bench@'127.0.0.1';\n"
PLACES = "/usr/sbin:/usr/local/sbin:/usr/libexec:/usr/local/libexec"


@dataclass(frozen=True, slots=True)
class Mariadb:
    """A running server."""

    pid: int
    port: int

    def new_database(self, name: str) -> str:
        """Make an empty database and return its URL."""
        self.run(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        return f"mysql+pymysql://bench:bench@127.0.0.1:{self.port}/{name}"

    def copy(self, file: Path, name: str) -> str:
        """Make a database with the conversations and messages of a SQLite store and return its URL."""
        url = self.new_database(name)
        subprocess.run(
            servers.command_line("migrate"), env=servers.command_environ(file.parent, url), check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        for table in (schema.conversations, schema.messages):
            lines = file.with_name(f"{table.name}.lines")
            fill.pour(file, table, lines)
            self._load(name, table, lines)
            lines.unlink()
        return url

    def _load(self, name: str, table: sa.Table, lines: Path) -> None:
        columns = [f"@{column.name}" if fill.is_binary(column) else column.name for column in table.columns]
        binary = [column.name for column in table.columns if fill.is_binary(column)]
        self.run(
            f"USE {name}; SET foreign_key_checks = 0, unique_checks = 0; LOAD DATA INFILE '{lines}'"
            f" INTO TABLE {table.name} CHARACTER SET utf8mb4 ({', '.join(columns)})"
            f" SET {', '.join(f'{column} = unhex(@{column})' for column in binary)}; ANALYZE TABLE {table.name}"
        )

    def client(self, *arguments: str) -> list[str]:
        """Return the command line of the `mariadb` program with some arguments."""
        address = ("-h", "127.0.0.1", "-P", str(self.port), "-u", "bench", "-pbench")
        return [_program("mariadb"), "--no-defaults", *address, *arguments]

    def connections(self) -> int:
        """Return how many connections are open, the asking one left out."""
        return int(self.run("SELECT count(*) - 1 FROM information_schema.processlist WHERE user = 'bench'"))

    def transactions(self) -> int:
        """Return how many transactions are open."""
        return int(self.run("SELECT count(*) FROM information_schema.innodb_trx"))

    def run(self, sql: str) -> str:
        """Return what statements find. Raises `BenchError`."""
        said = subprocess.run(self.client("-N", "-B", "-e", sql), capture_output=True, text=True, check=False)
        if said.returncode:
            raise BenchError(f"MariaDB refused {sql!r}: {said.stderr.strip()}")
        return said.stdout


@contextmanager
def server(place: Path) -> Iterator[Mariadb]:
    """Run a fresh server on a folder in ``place``. Raises `BenchError` where MariaDB is not installed."""
    files = place / "mariadb"
    user = f"--user={getpass.getuser()}"
    subprocess.run(
        [_program("mariadb-install-db"), "--no-defaults", f"--datadir={files}", user, "--skip-test-db"],
        check=True, capture_output=True,
    )  # fmt: skip
    start, port, log = place / "accounts.sql", free_port(), place / "mariadb.log"
    start.write_text(ACCOUNT)
    arguments = [f"--datadir={files}", f"--init-file={start}", f"--socket={place}/mariadb.sock", f"--port={port}", user]
    network = ["--bind-address=127.0.0.1", "--skip-name-resolve", "--skip-log-bin", "--max-connections=500"]
    program = _program("mariadbd")
    with running(program, "--no-defaults", *arguments, *network, env=servers.environ(), log=log) as process:
        wait_until(lambda: listening(port), process, log)
        yield Mariadb(process.pid, port)


@contextmanager
def chosen(name: str, place: Path) -> Iterator[Mariadb | None]:
    """Run a fresh server where the option --database names it; SQLite is part of chatkeep and lends None."""
    if name == "sqlite":
        yield None
        return
    with server(place) as database:
        yield database


def argument(parser: ArgumentParser) -> None:
    """Declare the option that `chosen` takes."""
    parser.add_argument("--database", choices=("sqlite", "mariadb"), default="sqlite", help="where it stores (sqlite)")


def shown(columns: dict[str, str], database: str) -> dict[str, str]:
    """Return the columns of a table, without the database's own where it is part of the server."""
    return {key: title for key, title in columns.items() if database == "mariadb" or key != "database_us"}


def version() -> str | None:
    """Return the version of MariaDB, if it is installed."""
    try:
        said = subprocess.run([_program("mariadbd"), "--version"], capture_output=True, text=True, check=False)
    except BenchError:
        return None
    return said.stdout.partition("Ver ")[2].partition(" ")[0]


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=PLACES)
    if not found:
        raise BenchError(f"There is no {name} here; on Debian and Ubuntu: apt-get install mariadb-server")
    return found
