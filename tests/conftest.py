"""Fixtures of all tests: databases and running servers. CI on Linux fails on any skipped test."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Callable, Container, Generator, Hashable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import hypothesis
import pytest

from chatkeep.runtime.garbage import THRESHOLD
from chatkeep.store import migrations
from chatkeep.store.engine import Database
from tests.folders import SHARING
from tests.servers import PAIRS, Server, thrown_away
from tests.upstream import Upstream

if TYPE_CHECKING:
    from tests.services.database_server import DatabaseServer
    from tests.services.mariadb import MariaDB
    from tests.services.oidc_provider import OidcProvider
    from tests.services.redis import Redis

hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")  # the time of an example depends on the machine
gc.set_threshold(*THRESHOLD)  # as in the processes under test
CI = os.environ.get("CI") == "true" and sys.platform == "linux"  # elsewhere the databases are missing
DATABASES = ("sqlite", "mariadb", "mysql")
# For behaviour that does not depend on the database; the pairs of servers also run on MariaDB.
EMBEDDED_AND_SERVER = ("sqlite", "mysql")
R = TypeVar("R", pytest.TestReport, pytest.CollectReport)
T = TypeVar("T")
# Each takes most of a minute or more. Folders with shared fixtures come before them.
LONGEST = (
    "windows/test_walk.py", "faults/test_deploys.py", "faults/test_jobs.py", "faults/test_database.py",
    "faults/test_canaries.py", "faults/test_sweeps.py", "faults/test_replies.py", "faults/test_floods.py",
    "faults/test_provider.py", "store/test_migrations.py", "faults/test_stops.py", "faults/test_searches.py",
    "faults/test_clients.py", "faults/test_hold.py", "faults/test_kills.py", "store/test_outages.py",
)  # fmt: skip
# Each start command and each database. For most requests their combination does not matter. For turns it does, because
# gunicorn calls SQLite in its event loop, and yields the loop while it waits for MariaDB.
EACH = [pair for pair in PAIRS if pair != ("gunicorn", "sqlite")]
ON_EVERY_PAIR = pytest.mark.parametrize("server", PAIRS, indirect=True, ids="-".join)
# For tests of commands and files, which do not depend on the server.
ON_EACH_DATABASE = pytest.mark.parametrize(
    "server", [pair for pair in PAIRS if pair[0] != "gunicorn"], indirect=True, ids="-".join
)


class Standing:
    """Resources that are started for the first test that needs them, and kept for later ones.

    pytest ends a fixture with parameters as soon as a test has another one: of four kinds of servers each file of tests
    would start all four anew.
    """

    def __init__(self) -> None:
        self._found: dict[Hashable, Any] = {}
        self._folders: dict[Hashable, frozenset[str]] = {}
        self._ends: dict[Hashable, ExitStack] = {}

    def one(self, name: Hashable, start: Callable[[], AbstractContextManager[T]], *folders: str) -> T:
        """Return a resource by its name, or start it. It ends after the last test in ``folders``, if given."""
        if name not in self._found:
            self._ends[name] = ExitStack()
            self._found[name] = self._ends[name].enter_context(start())
            self._folders[name] = frozenset(folders)
        found: T = self._found[name]
        return found

    def end_all_but(self, ahead: Container[str]) -> None:
        """End resources that no later folder needs, because idle servers also take CPU time."""
        for name, folders in reversed(self._folders.copy().items()):
            if folders and not any(folder in ahead for folder in folders):
                self._end(name)

    def close(self) -> None:
        """End everything."""
        for name in reversed(list(self._found)):
            self._end(name)

    def _end(self, name: Hashable) -> None:
        del self._found[name], self._folders[name]
        self._ends.pop(name).close()


STANDING = pytest.StashKey[Standing]()


@pytest.fixture(scope="session")
def standing(pytestconfig: pytest.Config) -> Iterator[Standing]:
    """Resources that live as long as tests need them; each worker of pytest-xdist has its own."""
    with closing(Standing()) as everything:
        pytestconfig.stash[STANDING] = everything
        yield everything


@pytest.fixture(scope="session")
def mariadb(standing: Standing) -> MariaDB:
    """A throwaway MariaDB for the whole run, one for each worker of pytest-xdist."""
    running: MariaDB = database_server(standing, "mariadb")
    return running


@pytest.fixture
def own_mariadb() -> Iterator[DatabaseServer]:
    """A throwaway MariaDB for one test, to kill it or to make it hang."""
    with throwaway("mariadb") as service:
        yield service


@pytest.fixture(params=DATABASES[1:])
def own_server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """A throwaway MariaDB, and then a MySQL, for one test, to kill it or to make it hang."""
    with throwaway(request.param) as service:
        yield service


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    """A throwaway Redis for the whole run."""
    if os.name == "nt":
        pytest.skip("Redis: the tests start it on Linux only")
    from tests.services import redis as service  # noqa: PLC0415 - needs modules that Windows lacks

    try:
        service.ensure_installed()
    except service.Unavailable as reason:
        pytest.skip(f"Redis: {reason}")
    with service.Redis() as running:
        yield running


@pytest.fixture(scope="session")
def oidc_provider() -> Iterator[OidcProvider]:
    """A certified OpenID provider for the whole run."""
    if os.name == "nt":
        pytest.skip("oidc-provider: the tests start it on Linux only")
    from tests.services import npm  # noqa: PLC0415 - needs modules that Windows lacks
    from tests.services import oidc_provider as service  # noqa: PLC0415

    try:
        service.ensure_installed()
    except npm.Unavailable as reason:
        pytest.skip(f"oidc-provider: {reason}")
    with service.OidcProvider() as running:
        yield running


def throwaway(kind: str) -> DatabaseServer:
    """Return a new database server of a kind, not started yet. Skip the test if it can't be installed."""
    if os.name == "nt":
        pytest.skip(f"{kind}: the tests start it on Linux only")
    from tests.services.databases import SERVERS  # noqa: PLC0415 - needs modules that Windows lacks

    if reason := missing(kind):
        pytest.skip(reason)
    return SERVERS[kind]()


@cache
def missing(kind: str) -> str | None:
    """Return why a database server of a kind is not available, or "". Tries to install it once."""
    from tests.services import database_server, databases  # noqa: PLC0415 - needs modules that Windows lacks

    server = databases.SERVERS[kind]
    try:
        server.ensure_installed()
    except database_server.Unavailable as reason:
        return f"{server.name}: {reason}"
    return None


def database_server(standing: Standing, kind: str) -> Any:
    """Return the shared database server of a kind."""
    return standing.one(("database server", kind), lambda: shared_server(kind))


def shared_server(kind: str) -> DatabaseServer:
    """Return a new server, not started yet. No test kills it, so commits need not wait for the disk."""
    from tests.services.database_server import WITHOUT_FLUSHES  # noqa: PLC0415 - as in `throwaway`

    server = throwaway(kind)
    server.more.extend(WITHOUT_FLUSHES)
    return server


@pytest.fixture
def mariadb_url(mariadb: MariaDB) -> str:
    """The URL of a blank database, without a schema, on the throwaway MariaDB."""
    return mariadb.create_database()


@pytest.fixture(params=DATABASES)
def blank_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a blank database, without a schema, once on each kind."""
    return blank_database(request, request.param, tmp_path_factory)


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a database with the schema and no rows, once on each kind."""
    return empty_database(request, request.param, tmp_path_factory)


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    """The scripted provider of `server`."""
    with Upstream() as provider:
        yield provider


@pytest.fixture(scope="session", params=EACH, ids="-".join)
def server(
    request: pytest.FixtureRequest, standing: Standing, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Server:
    """A running server, for every start command and every database. Each test makes its own conversations."""
    start = partial(serving, request, upstream, tmp_path_factory)
    return standing.one(("open", request.param), start, "http", "cli")


@contextmanager
def serving(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory, **more: str
) -> Iterator[Server]:
    """Run the server of one of `PAIRS`, with ``more`` variables."""
    command, database = request.param
    env = {
        "DATABASE_URL": empty_database(request, database, tmp_path_factory),
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": "test-key",
        **more,
    }
    with thrown_away(Server(command, tmp_path_factory.mktemp(command), env)) as running:
        yield running


def empty_database(request: pytest.FixtureRequest, kind: str, folders: pytest.TempPathFactory) -> str:
    """Return the URL of a database of one kind with this version's schema and no rows.

    It is a copy of one that was migrated: to migrate takes each server, and each test, half a second and more.
    """
    standing: Standing = request.getfixturevalue("standing")
    model = standing.one(("model", kind), lambda: nullcontext(migrated(blank_database(request, kind, folders))))
    if kind != "sqlite":
        return str(database_server(standing, kind).copy_database(model))
    url = blank_database(request, kind, folders)
    shutil.copyfile(file_of(model), file_of(url))
    return url


def blank_database(request: pytest.FixtureRequest, kind: str, folders: pytest.TempPathFactory) -> str:
    """Return the URL of a blank database of one kind, without a schema."""
    if kind != "sqlite":
        return str(database_server(request.getfixturevalue("standing"), kind).create_database())
    return f"sqlite:///{(folders.mktemp('sqlite') / 'chatkeep.sqlite3').as_posix()}"


def migrated(url: str) -> str:
    database = Database(url)
    migrations.migrate(database)
    database.close()
    return url


def file_of(url: str) -> str:
    return url.removeprefix("sqlite:///")


def pytest_configure(config: pytest.Config) -> None:
    """Let all workers of pytest-xdist share the files of new database servers."""
    if os.name == "nt" or hasattr(config, "workerinput"):
        return
    from tests.services.database_server import share_new_servers  # noqa: PLC0415 - as in `throwaway`

    config.add_cleanup(partial(shutil.rmtree, share_new_servers(), ignore_errors=True))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the slowest files first if tests run in parallel, so that none of them runs alone at the end.

    The others mix the folders: some wait, some take all of a processor.
    """
    if not hasattr(config, "workerinput"):
        return
    folders: dict[Path, list[Path]] = {}
    for path in sorted({item.path for item in items}):
        folders.setdefault(path.parent, []).append(path)
    place = {path: index / len(paths) for paths in folders.values() for index, path in enumerate(paths)}
    root = Path(__file__).parent
    place |= {root / name: index - len(LONGEST) for index, name in enumerate(LONGEST)}
    for index, name in enumerate(reversed(SHARING), 1):
        place |= dict.fromkeys(folders.get(root / name, ()), -len(LONGEST) - index)
    items.sort(key=lambda item: (place[item.path], item.path))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep the garbage collector off the tests. Install MySQL if needed, which takes longer than a test may."""
    gc.freeze()
    if os.name != "nt" and any("mysql" in item.nodeid for item in session.items):
        missing("mysql")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests for POSIX systems on Windows, before any fixture."""
    marker = item.get_closest_marker("posix")
    if marker and os.name == "nt":
        pytest.skip(*marker.args)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End servers that no later test needs. A worker of pytest-xdist also gets files in their order."""
    standing = item.config.stash.get(STANDING, None)
    if standing and nextitem and nextitem.path != item.path:
        items = item.session.items
        standing.end_all_but({other.path.parent.name for other in items[items.index(nextitem) :]})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of a failed test's servers, and turn skips into failures in CI."""
    report = _no_skips((yield))
    if report.failed:
        used: dict[str, Any] = getattr(item, "funcargs", {})
        report.sections += [(f"log of {s!r}", s.log()[-20_000:]) for s in used.values() if isinstance(s, Server)]
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn skipped modules into failures in CI."""
    return _no_skips((yield))


def _no_skips(report: R) -> R:
    if CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None]:
    """Report skipped tests, and in the last lines each failed test."""
    yield
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.section("NOT TESTED", sep="!", red=True, bold=True)
    for reason in sorted({_reason(report) for report in skipped}):
        count = sum(_reason(report) == reason for report in skipped)
        terminalreporter.write_line(f"{count} skipped: {reason}")
    for outcome in ("failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            terminalreporter.write_line(f"{outcome.upper()} {report.nodeid} - {_first_line(report)}")


def _first_line(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return the beginning of a failure's reason, on one line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longrepr).partition("\n")[0][:120]


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return why a test was skipped, without its location."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")
