"""The throwaway database is one: it speaks, keeps what it committed through a kill, and hangs when told."""

from __future__ import annotations

import pymysql
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from tests.services.mariadb import MariaDB


def test_each_database_is_empty_and_in_utf8mb4(mariadb: MariaDB, mariadb_url: str) -> None:
    engine = create_engine(mariadb_url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT '🦊'")) == "🦊"
        assert connection.execute(text("SHOW TABLES")).all() == []
    engine.dispose()
    assert mariadb.create_database() != mariadb_url


def test_commits_survive_a_kill_and_connections_do_not(own_mariadb: MariaDB) -> None:
    """Starts a server of its own, twice: some seconds."""
    engine = create_engine(own_mariadb.create_database())
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE kept (id INT) ENGINE=InnoDB"))
        connection.execute(text("INSERT INTO kept VALUES (1)"))
    own_mariadb.kill()
    with pytest.raises(OperationalError), engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    own_mariadb.start()
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT COUNT(*) FROM kept")) == 1
    engine.dispose()


def test_a_paused_server_answers_nothing_until_it_is_resumed(mariadb: MariaDB, mariadb_url: str) -> None:
    """Waits a second for the silence to be one."""
    engine = create_engine(mariadb_url, connect_args={"read_timeout": 1})
    with engine.connect() as connection:
        mariadb.pause()
        try:
            with pytest.raises(OperationalError) as caught:
                connection.execute(text("SELECT 1"))
        finally:
            mariadb.resume()
        assert isinstance(caught.value.orig, pymysql.err.OperationalError)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    engine.dispose()
