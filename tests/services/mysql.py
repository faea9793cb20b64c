"""A throwaway MySQL, with the defaults that it ships.

Debian's stable suite has none, so it comes from the unstable one, in a folder of its own beside which the system stays
as it is. Making the folder takes root and a minute, and is done once for all checkouts.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.services import debian
from tests.services.database_server import DatabaseServer, Unavailable, owned

ROOT = Path("/var/cache/chatkeep-tests/mysql")
PACKAGES = ("mysql-server-core", "mysql-client-core")


class MySQL(DatabaseServer):
    """A MySQL of the unstable suite."""

    name = "MySQL"
    options = ("--innodb-redo-log-capacity=64M", "--mysqlx=OFF", "--secure-file-priv=")

    @classmethod
    def is_installed(cls) -> bool:
        """Return whether the server can be started."""
        return (ROOT / "usr/sbin/mysqld").exists()

    @classmethod
    def ensure_installed(cls) -> None:
        """Install MySQL if it is missing. Raises `Unavailable` if that is not possible."""
        with debian.lock():
            if cls.is_installed():
                return
            if os.geteuid() != 0:
                raise Unavailable("mysqld is not installed, and installing it takes root")
            made = ROOT.with_name("mysql.part")
            shutil.rmtree(made, ignore_errors=True)
            tried = debian.bootstrap("unstable", made, *PACKAGES)
            if not (made / "usr/sbin/mysqld").exists():
                raise Unavailable(f"mysqld is not installed, and {tried}")
            shutil.rmtree(ROOT, ignore_errors=True)
            made.rename(ROOT)

    @classmethod
    def initialize(cls, folder: Path) -> list[str]:
        """Return the command that makes the files of a server."""
        places = [f"--datadir={folder}/files", f"--tmpdir={folder}"]
        return cls.program("--no-defaults", *owned(), *places, *cls.options, "--initialize-insecure")

    @classmethod
    def program(cls, *arguments: str) -> list[str]:
        """Return the command line of the server."""
        return [*_run("usr/sbin/mysqld"), *arguments, f"--basedir={ROOT}/usr"]

    @classmethod
    def client(cls, name: str, *arguments: str) -> list[str]:
        """Return the command line of one of its clients, such as ``dump``."""
        return [*_run(f"usr/bin/mysql{name}"), *arguments]

    @property
    def authority(self) -> Path:
        """The file of the authority that signed the certificate that the server made for itself."""
        return self._folder / "files" / "ca.pem"


def _run(program: str) -> list[str]:
    """Return how to run a program of the folder, with the libraries of the folder."""
    [loader] = (ROOT / "lib64").glob("ld-linux-*")
    libraries = sorted({str(path.parent) for path in (ROOT / "usr/lib").rglob("*.so.*")})
    return [str(loader), "--library-path", os.pathsep.join(libraries), str(ROOT / program)]
