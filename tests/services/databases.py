"""The database servers that there are, by the names of options and of fixtures' parameters."""

from __future__ import annotations

from tests.services.database_server import DatabaseServer
from tests.services.mariadb import MariaDB
from tests.services.mysql import MySQL

SERVERS: dict[str, type[DatabaseServer]] = {"mariadb": MariaDB, "mysql": MySQL}
