"""The page is light: small, cached, and responsive with any length of text.

`./dev bench page` prints the figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.chat import Chat
from tests.browser.conftest import Visit
from tests.browser.weight import MANY, calm, loaded, read_up, store_many, tasks
from tests.http.api import soon
from tests.servers import Server
from tests.upstream import Upstream

TRACED = pytest.mark.chromium("it tells the processor time of each task")


@pytest.fixture
def crowded(upstream: Upstream, tmp_path: Path) -> Iterator[Server]:
    """A separate server, because the test stores rows in its database."""
    url = f"sqlite:///{tmp_path / 'chatkeep.sqlite3'}"
    env = {"DATABASE_URL": url, "OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "test-key"}
    with Server("waitress", tmp_path, env) as site:
        yield site


@pytest.mark.chromium("it tells how many bytes came over the wire")
def test_first_load_is_small_and_the_second_is_cached(chat: Chat) -> None:
    chat.page.context.new_cdp_session(chat.page).send("Network.clearBrowserCache")
    first, second = loaded(chat.page, chat.page.reload), loaded(chat.page, chat.page.reload)
    assert first.keys() >= {"marked.js", "purify.js", "base.css", "chat.css", "chat.js"}
    assert sum(first.values()) <= 150_000
    assert sum(second.values()) <= 10_000


def test_page_is_usable_within_a_second(chat: Chat) -> None:
    """May take two seconds on a busy machine."""

    def use() -> None:
        chat.page.reload(wait_until="commit")
        chat.box.fill("x")
        expect(chat.action).to_be_enabled()

    soon(2, use)


@TRACED
def test_very_long_reply_does_not_block_the_page(chat: Chat) -> None:
    """Streams 160 KB without pauses: some seconds."""

    def stream() -> None:
        chat.open()
        chat.send("Long #n=36000,seed=1#")
        chat.expect_status("completed", 60)

    # 60 and 1000 on an idle machine; more than 2000 if each piece parses the whole text.
    calm(lambda: tasks(chat.page, stream), longest=250, in_all=2000)
    assert chat.reply.locator(".body").evaluate("node => node.textContent.length") > 150_000


@TRACED
def test_key_press_in_a_very_long_text_does_not_block_the_page(chat: Chat) -> None:
    """Chromium takes two seconds for a key in this text if the box has the direction "auto"."""
    chat.box.fill("lorem ipsum dolor sit amet " * 12_000)

    def write() -> None:
        chat.box.press("a")
        chat.page.wait_for_timeout(200)

    calm(lambda: tasks(chat.page, write), longest=500)
    expect(chat.box).to_have_attribute("dir", "ltr")
    chat.box.fill("שלום " * 5_000)
    expect(chat.box).to_have_attribute("dir", "rtl")
    chat.box.fill("short")
    expect(chat.box).to_have_attribute("dir", "auto")


@TRACED
def test_conversation_of_many_messages_opens_quickly_and_scrolls_smoothly(visit: Visit, crowded: Server) -> None:
    """Stores five thousand messages, then reads a thousand: some seconds."""
    many, chat = store_many(crowded.env["DATABASE_URL"]), visit(crowded)

    def read() -> None:
        chat.open(many)
        expect(chat.messages).to_have_count(50)
        read_up(chat.page, 1000)

    def open_it() -> None:
        chat.open()
        chat.open(many)
        expect(chat.reply).to_contain_text(f"Message {MANY}.")

    soon(3, open_it)
    calm(lambda: tasks(chat.page, read), longest=250)
    calm(lambda: tasks(chat.page, lambda: chat.ask("Hello #n=200#")), longest=250)
