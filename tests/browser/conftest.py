"""A browser, and the chat page of a running server in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.chat import Chat
from tests.http.api import Api
from tests.servers import Server
from tests.upstream import Upstream

Visit = Callable[..., Chat]
expect.set_options(timeout=15_000)  # machines of CI are slow at times


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium; with pytest-xdist one for each worker."""
    if os.name == "nt":
        pytest.skip("Chromium: the tests start it on Linux only")
    from tests.services import chromium  # noqa: PLC0415 - it needs modules that Windows lacks

    try:
        program = chromium.ensure_installed()
    except chromium.Unavailable as reason:
        pytest.skip(f"Chromium: {reason}")
    with sync_playwright() as playwright, chromium.launch(playwright, program) as running:
        yield running


@pytest.fixture(scope="session")
def site(
    browser: Browser,  # noqa: ARG001 - without a browser no server is needed
    upstream: Upstream,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    """The server whose page is visited: `python app.py`."""
    env = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "test-key", "CHATKEEP_CACHE_SIZE": "1MiB"}
    with Server("flask", tmp_path_factory.mktemp("site"), env) as running:
        yield running


@pytest.fixture
def api(site: Server) -> Api:
    """The API of the server whose page is visited."""
    return Api(site)


@pytest.fixture
def visit(browser: Browser, site: Server) -> Iterator[Visit]:
    """Open the page, each time in a fresh profile of these properties. Whatever a test does, nothing may be amiss."""
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
