"""The pages under a path prefix, behind nginx with the documented configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.auth.keys import make_key
from tests.browser.chat import Chat
from tests.http.api import unique
from tests.ports import free_port
from tests.servers import Server
from tests.upstream import Upstream

if TYPE_CHECKING:
    from tests.browser.engines import Engine

if os.name == "nt":
    pytest.skip("nginx is not tested on Windows", allow_module_level=True)

from tests.packaging.test_prefix import CONFIGURATION, block
from tests.services.nginx import Nginx


@pytest.fixture
def prefixed(browser: Engine, upstream: Upstream, tmp_path: Path) -> Iterator[Chat]:
    """The chat page under /chat/, signed in."""
    env = {
        "CHATKEEP_PREFIX": "/chat",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'chatkeep.sqlite3'}",
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": "test-key",
    }
    with Server("waitress", tmp_path, env) as server:
        port = free_port()
        values = {"folder": tmp_path, "server": server.port, "port": port, "block": block("deployment.md")}
        text = CONFIGURATION.format(user="user root;\n" if os.geteuid() == 0 else "", **values)
        (tmp_path / "nginx.conf").write_text(text, encoding="utf-8")
        with Nginx(tmp_path / "nginx.conf", port) as proxy:
            page = browser.new_context(locale="en-GB").new_page()
            chat = Chat(page, f"{proxy.url}/chat")
            chat.open()
            page.get_by_label("Key", exact=True).fill(make_key(server.env["DATABASE_URL"]).text)
            page.get_by_role("button", name="Sign in").click()
            yield chat
            page.context.close()
            assert chat.complaints == []


def test_every_page_works_under_a_path_prefix(prefixed: Chat) -> None:
    """Starts a server and nginx, and opens three pages: some seconds."""
    page, title, paths = prefixed.page, unique("Under a path"), set[str]()
    page.on("request", lambda request: paths.add(urlsplit(request.url).path))
    prefixed.ask(title)
    page.reload()
    expect(prefixed.reply).to_contain_text(title)
    page.locator("#conversation-menu").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="Markdown").click()
    assert title in Path(download.value.path()).read_text(encoding="utf-8")
    page.locator("#conversation-menu").click()
    page.get_by_role("menuitem", name="Share…").click()
    page.get_by_role("button", name="Create a link").click()
    link = page.get_by_label("Link", exact=True).input_value()
    assert link.startswith(f"{prefixed.url}/shared/")
    page.goto(link)
    expect(page.get_by_role("heading", level=1)).to_have_text(title)
    expect(page.locator("article")).to_have_count(2)
    page.goto(f"{prefixed.url}/admin")
    expect(page.locator("[data-tile=turns] dd")).to_contain_text("1")
    expect(page.get_by_role("alert")).to_be_hidden()
    page.get_by_title("Back to the conversations").click()
    expect(page.get_by_role("link", name=title)).to_be_visible()
    assert [path for path in paths if not path.startswith("/chat/")] == []
