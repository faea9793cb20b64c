"""Clients of the servers under test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest

from tests.conftest import Standing, empty_database
from tests.http.api import Api
from tests.servers import COMMANDS, FOR_PRODUCTION, Server, thrown_away
from tests.upstream import Upstream


@pytest.fixture
def api(server: Server) -> Api:
    """The API of each server and each database."""
    return Api(server)


@pytest.fixture(scope="session")
def beside(server: Server, standing: Standing, tmp_path_factory: pytest.TempPathFactory) -> Api:
    """The API of another process with the same database and provider."""

    def start() -> AbstractContextManager[Server]:
        env = {name: server.env[name] for name in ("DATABASE_URL", "OPENAI_BASE_URL", "OPENAI_API_KEY")}
        return thrown_away(Server("waitress", tmp_path_factory.mktemp("beside"), env))

    return Api(standing.one(("beside", server.url), start, "http"))


@pytest.fixture(scope="session", params=COMMANDS)
def impatient(
    request: pytest.FixtureRequest, standing: Standing, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Api:
    """The API of one process with short deadlines: a second for the provider, three for a whole reply."""

    def start() -> AbstractContextManager[Server]:
        env = {
            "DATABASE_URL": empty_database(request, "sqlite", tmp_path_factory),
            "OPENAI_BASE_URL": upstream.url,
            "OPENAI_API_KEY": "test-key",
            "WEB_CONCURRENCY": "1",
            "CHATKEEP_FIRST_TOKEN_TIMEOUT": "1s",
            "CHATKEEP_GAP_TIMEOUT": "1s",
            "CHATKEEP_REPLY_TIMEOUT": "3s",
            "CHATKEEP_MAX_REPLY": "2KiB",
            "CHATKEEP_BODY_TIMEOUT": "1s",
            "CHATKEEP_MAX_BODY": "4KiB",
            "CHATKEEP_CORS_ORIGINS": "https://App.example.com:443/, http://[::1]:3000",
        }
        return thrown_away(Server(request.param, tmp_path_factory.mktemp(request.param), env))

    return Api(standing.one(("impatient", request.param), start, "http"))


@pytest.fixture(scope="session", params=FOR_PRODUCTION, ids="-".join)
def own(
    request: pytest.FixtureRequest, standing: Standing, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Api:
    """The API of a server with one process, a cache and a sweep every second."""

    def start() -> AbstractContextManager[Server]:
        command, kind = request.param
        return sweeping(command, empty_database(request, kind, tmp_path_factory), upstream, tmp_path_factory)

    return Api(standing.one(("own", request.param), start, "http"))


@pytest.fixture(scope="session")
def embedded(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """The same with its own SQLite file."""
    url = empty_database(request, "sqlite", tmp_path_factory)
    with sweeping(COMMANDS[0], url, upstream, tmp_path_factory) as running:
        yield Api(running)


def sweeping(
    command: str, url: str, upstream: Upstream, folders: pytest.TempPathFactory
) -> AbstractContextManager[Server]:
    env = {
        "DATABASE_URL": url,
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": "test-key",
        "CHATKEEP_CACHE_SIZE": "1MiB",
        "CHATKEEP_SWEEP_INTERVAL": "1s",
        "WEB_CONCURRENCY": "1",
    }
    return thrown_away(Server(command, folders.mktemp("own"), env))
