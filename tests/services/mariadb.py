"""A throwaway MariaDB.

Where it is missing it is installed, if that takes no question: on Debian and Ubuntu as root or with a sudo that asks
for nothing. The packages are those without a service.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.services import debian
from tests.services.database_server import DatabaseServer, Unavailable, owned

PACKAGES = ("mariadb-server-core", "mariadb-client")
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


class MariaDB(DatabaseServer):
    """A MariaDB of the system's version."""

    name = "MariaDB"
    options = ("--innodb-log-file-size=32M",)

    @classmethod
    def is_installed(cls) -> bool:
        """Return whether the server can be started, and dumped."""
        return all(shutil.which(name, path=PATH) for name in ("mariadbd", "mariadb-install-db", "mariadb-dump"))

    @classmethod
    def ensure_installed(cls) -> None:
        """Install MariaDB if it is missing. Raises `Unavailable` if that is not possible."""
        with debian.lock():
            if cls.is_installed():
                return
            tried = debian.install(*PACKAGES)
            if not cls.is_installed():
                raise Unavailable(f"mariadbd is not installed, and {tried}")

    @classmethod
    def initialize(cls, folder: Path) -> list[str]:
        """Return the command that makes the files of a server."""
        places = [f"--datadir={folder}/files", f"--tmpdir={folder}"]
        return [_program("mariadb-install-db"), "--no-defaults", *cls.options, "--skip-test-db", *places, *owned()]

    @classmethod
    def program(cls, *arguments: str) -> list[str]:
        """Return the command line of the server."""
        return [_program("mariadbd"), *arguments]

    @classmethod
    def client(cls, name: str, *arguments: str) -> list[str]:
        """Return the command line of one of its clients, such as ``dump``."""
        return [_program(f"mariadb-{name}" if name else "mariadb"), *arguments]


def _program(name: str) -> str:
    found = shutil.which(name, path=PATH)
    assert found, name
    return found
