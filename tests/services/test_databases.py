"""The throwaway databases answer, keep commits after a kill, and can be paused."""

from __future__ import annotations

import pymysql
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from tests.conftest import DATABASES, Standing, database_server
from tests.services.database_server import DatabaseServer


@pytest.fixture(params=DATABASES[1:])
def shared(request: pytest.FixtureRequest, standing: Standing) -> DatabaseServer:
    running: DatabaseServer = database_server(standing, request.param)
    return running


def test_new_database_is_empty_and_utf8mb4(shared: DatabaseServer) -> None:
    url = shared.create_database()
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT '🦊'")) == "🦊"
        assert connection.execute(text("SHOW TABLES")).all() == []
    engine.dispose()
    assert shared.create_database() != url


def test_commits_survive_a_kill_and_connections_do_not(own_server: DatabaseServer) -> None:
    """Starts a server twice: some seconds."""
    engine = create_engine(own_server.create_database())
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE kept (id INT) ENGINE=InnoDB"))
        connection.execute(text("INSERT INTO kept VALUES (1)"))
    own_server.kill()
    with pytest.raises(OperationalError), engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    own_server.start()
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT COUNT(*) FROM kept")) == 1
    engine.dispose()


def test_paused_server_answers_only_after_it_resumes(shared: DatabaseServer) -> None:
    """Waits a second to prove the silence."""
    engine = create_engine(shared.create_database(), connect_args={"read_timeout": 1})
    with engine.connect() as connection:
        shared.pause()
        try:
            with pytest.raises(OperationalError) as caught:
                connection.execute(text("SELECT 1"))
        finally:
            shared.resume()
        assert isinstance(caught.value.orig, pymysql.err.OperationalError)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    engine.dispose()
