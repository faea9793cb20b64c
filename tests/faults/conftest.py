"""Fixtures of the fault suite: its scale, servers for one test, and published figures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import DATABASES, throwaway
from tests.faults import rows
from tests.faults.figures import PROPERTY, Figures, figure
from tests.faults.scale import SEED, Scale
from tests.faults.starting import Databases, Files, Place
from tests.servers import Server, thrown_away
from tests.upstream import Upstream

SCALE = Scale.from_env()
os.environ[SEED] = str(SCALE.seed)  # the same one in every process of pytest-xdist
FIGURES = Figures()
Serve = Callable[..., Server]
Record = Callable[..., None]
# For tests that do not depend on the database, or only on the embedded one.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def pytest_report_header() -> str:
    """Print the seed, so that a failed run can be repeated."""
    return f"faults: {'long' if SCALE.is_long else 'short'} form, CHATKEEP_FAULTS_SEED={SCALE.seed}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Extend the timeouts of the long form."""
    for item in items:
        if SCALE.is_long and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(3600))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect the figures of a test, also from workers of pytest-xdist."""
    if report.when == "call":
        FIGURES.take(report.user_properties, passed=report.passed)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures, and store those of the long form."""
    for line in FIGURES.lines():
        terminalreporter.write_line(line)
    if SCALE.is_long:
        FIGURES.keep()


@pytest.fixture
def scale() -> Scale:
    """The form of this run."""
    return SCALE


@pytest.fixture
def figures(request: pytest.FixtureRequest, database_url: str) -> Record:
    """Record the figures of a test: ``figures("the fault", name=value, …)``."""
    marker = request.node.get_closest_marker("promise")
    promises = marker.args if marker else ()
    database = rows.product(database_url)  # the test may stop it

    def record(fault: str, **values: object) -> None:
        request.node.user_properties.append((PROPERTY, figure(promises, fault, database, values)))

    return record


@pytest.fixture(scope="module", params=DATABASES)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Creates databases for a module's tests, in a folder or on a separate server."""
    if request.param == "sqlite":
        yield Files(tmp_path_factory.mktemp("files"))
        return
    with throwaway(request.param) as server:
        yield Databases(server)


@pytest.fixture
def provider() -> Iterator[Upstream]:
    """A scripted provider of one test, so that its counts are of that test only."""
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def serve(database_url: str, provider: Upstream, tmp_path: Path) -> Iterator[Serve]:
    """Start servers on the test's database and provider: ``serve("gunicorn", WEB_CONCURRENCY="3")``."""
    with ExitStack() as running:

        def start(command: str = "gunicorn", **env: str) -> Server:
            own = {"DATABASE_URL": database_url, "OPENAI_BASE_URL": provider.url, "WEB_CONCURRENCY": "2"}
            return running.enter_context(thrown_away(Server(command, tmp_path / command, own | env)))

        yield start
