"""A browser, and the chat page of a running server in it.

The tests run in Chromium. Those marked `every_engine` also run in Firefox. `CHATKEEP_BROWSER=firefox` runs all there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.browser.chat import Chat
from tests.conftest import Standing
from tests.http.api import Api
from tests.servers import Server
from tests.upstream import Upstream

if TYPE_CHECKING:
    from tests.browser.engines import Engine

Visit = Callable[..., Chat]
CHOSEN = os.environ.get("CHATKEEP_BROWSER")
expect.set_options(timeout=15_000)  # CI machines can be slow


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests marked `every_engine` on each engine, unless one is chosen."""
    if CHOSEN is None and metafunc.definition.get_closest_marker("every_engine"):
        metafunc.parametrize("browser", ["chromium", "firefox"], indirect=True, scope="session")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install Firefox if tests need it, because that can take longer than a test may."""
    if os.name != "nt" and any("[firefox" in item.nodeid for item in session.items):
        from tests.services import debian, firefox  # noqa: PLC0415 - they need modules that Windows lacks

        with suppress(debian.Unavailable):  # the tests say so
            firefox.ensure_installed()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that needs Chromium if another engine is chosen."""
    needs_chromium = item.get_closest_marker("chromium")
    if needs_chromium and CHOSEN not in {None, "chromium"}:
        pytest.skip(f"needs Chromium: {needs_chromium.args[0]}")


@pytest.fixture(scope="session")
def browser(request: pytest.FixtureRequest, standing: Standing) -> Engine:
    """A browser of the system; with pytest-xdist one for each worker."""
    if os.name == "nt":
        pytest.skip("browsers: the tests start them on Linux only")
    from tests.browser.engines import ENGINES  # noqa: PLC0415 - it needs modules that Windows lacks
    from tests.services import debian  # noqa: PLC0415

    name = getattr(request, "param", CHOSEN or "chromium")
    playwright = standing.one("playwright", sync_playwright, "browser")
    try:
        engine: Engine = standing.one(("browser", name), lambda: ENGINES[name](playwright), "browser")
    except debian.Unavailable as reason:
        pytest.skip(f"{name}: {reason}")
    return engine


@pytest.fixture(scope="session")
def site(standing: Standing, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """The server of the page: `python app.py`."""
    folder = tmp_path_factory.mktemp("site")
    database = {"DATABASE_URL": f"sqlite:///{folder / 'chatkeep.sqlite3'}"}  # tests also store rows themselves
    provider = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "test-key"}
    env = {**database, **provider, "CHATKEEP_CACHE_SIZE": "1MiB"}
    return standing.one("site", lambda: Server("flask", folder, env), "browser")


@pytest.fixture
def api(site: Server) -> Api:
    """The API of the server of the page."""
    return Api(site)


@pytest.fixture
def visit(browser: Engine, site: Server) -> Iterator[Visit]:
    """Open the page in a fresh profile with these properties. Fail at the end if there are complaints."""
    opened: list[Chat] = []

    def opening(server: Server = site, **profile: Any) -> Chat:
        page = browser.new_context(**({"locale": "en-GB"} | profile)).new_page()
        opened.append(Chat(page, server.url))
        opened[-1].open()
        return opened[-1]

    yield opening
    for chat in opened:
        chat.page.context.close()
    assert [chat.complaints for chat in opened if chat.complaints] == []


@pytest.fixture
def chat(visit: Visit) -> Chat:
    """The page on a desktop, in English."""
    return visit()
