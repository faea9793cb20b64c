"""A database server for benchmarks in a temporary folder, reachable only from this machine."""

from __future__ import annotations

import subprocess
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from bench import fill, servers
from bench.processes import BenchError
from chatkeep.store import schema
from tests.services.database_server import DatabaseServer, Unavailable
from tests.services.databases import SERVERS
from tests.services.users import USER

NAMES = ("sqlite", *SERVERS)
# The defaults of a release. Tests use smaller values.
OPTIONS = (
    "--innodb-buffer-pool-size=128M",
    "--loose-innodb-log-file-size=96M",  # MariaDB's
    "--loose-innodb-redo-log-capacity=100M",  # MySQL's
    "--local-infile=ON",
)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    service: DatabaseServer

    @property
    def pid(self) -> int:
        """The process of the server."""
        if self.service.process is None:
            raise BenchError(f"{self.service.name} does not run")
        return self.service.process.pid

    def new_database(self) -> str:
        """Make an empty database and return its URL."""
        return self.service.create_database()

    def copy(self, file: Path) -> str:
        """Make a database with the conversations and messages of a SQLite store and return its URL."""
        url = self.new_database()
        subprocess.run(
            servers.command_line("migrate"), env=servers.command_environ(file.parent, url), check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        for table in (schema.conversations, schema.messages):
            lines = file.with_name(f"{table.name}.lines")
            fill.pour(file, table, lines)
            self._load(url, table, lines)
            lines.unlink()
        return url

    def _load(self, url: str, table: sa.Table, lines: Path) -> None:
        columns = [f"@{column.name}" if fill.is_binary(column) else f"`{column.name}`" for column in table.columns]
        binary = [column.name for column in table.columns if fill.is_binary(column)]
        load = (
            f"LOAD DATA LOCAL INFILE '{lines}' INTO TABLE {table.name} CHARACTER SET utf8mb4 ({', '.join(columns)})"
            f" SET {', '.join(f'{column} = UNHEX(@{column})' for column in binary)}"
        )
        loading = sa.create_engine(url, connect_args={"local_infile": True, "ssl_disabled": True})
        with loading.connect() as connection:
            for statement in ("SET foreign_key_checks = 0, unique_checks = 0", load, f"ANALYZE TABLE {table.name}"):
                connection.exec_driver_sql(statement)
            connection.commit()
        loading.dispose()

    def client(self, url: str, *arguments: str) -> list[str]:
        """Return the command line of the server's client for a database."""
        place = make_url(url)
        address = ("-h", "127.0.0.1", "-P", str(place.port), "-u", USER, f"-p{place.password}")
        return self.service.client("", "--no-defaults", *address, *arguments, str(place.database))

    def number(self, sql: str) -> int:
        """Return the number that a statement selects."""
        return int(self.service.execute(sql)[0][0])

    def connections(self) -> int:
        """Return the number of open connections, except this one."""
        return self.number(f"SELECT COUNT(*) - 1 FROM information_schema.processlist WHERE user = '{USER}'")  # noqa: S608 - a constant

    def transactions(self) -> int:
        """Return the number of open transactions."""
        return self.number("SELECT COUNT(*) FROM information_schema.innodb_trx")


@contextmanager
def chosen(name: str) -> Iterator[Server | None]:
    """Run a fresh server of the kind that --database names. Lends None for SQLite, which is part of chatkeep.

    Raises `BenchError` if the server can't be installed.
    """
    if name == "sqlite":
        yield None
        return
    try:
        SERVERS[name].ensure_installed()
    except Unavailable as reason:
        raise BenchError(str(reason)) from reason
    service = SERVERS[name]()
    service.more = [*OPTIONS]
    with service:
        yield Server(service)


def argument(parser: ArgumentParser) -> None:
    """Declare the option that `chosen` takes."""
    parser.add_argument("--database", choices=NAMES, default="sqlite", help="the database (sqlite)")


def shown(columns: dict[str, str], database: str) -> dict[str, str]:
    """Return the columns of a table, without those of the database server if there is none."""
    return {key: title for key, title in columns.items() if database != "sqlite" or key != "database_us"}


def versions() -> dict[str, str | None]:
    """Return the version of each server, if it is installed."""
    return {kind.name: kind.version() if kind.is_installed() else None for kind in SERVERS.values()}
