"""The page is light: little to load, nothing to load twice, and nothing holds it up, however long the text is.

Tasks of the page are measured by the processor time that they take, so that other work on the machine does not count.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from chatkeep import model
from chatkeep.model import OPEN_OWNER, Role
from chatkeep.store import conversations, messages
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.sql import Connection
from tests.browser.chat import Chat
from tests.browser.conftest import Visit
from tests.servers import Server
from tests.upstream import Upstream

MANY = 5000
PROSE = "Some **bold** text with `code` and a [link](https://example.org), then more of it.\n\n- one\n- two\n"


@pytest.fixture
def crowded(browser: Browser, upstream: Upstream, tmp_path: Path) -> Iterator[Server]:  # noqa: ARG001 - it may be missing
    """A server of its own, for what is stored past it."""
    url = f"sqlite:///{tmp_path / 'chatkeep.sqlite3'}"
    env = {"DATABASE_URL": url, "OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "test-key"}
    with Server("waitress", tmp_path, env) as site:
        yield site


def store_many(server: Server) -> str:
    """Store a conversation of many messages and return its id."""
    identity, now = model.new_id(), model.now_us()
    database = Database(server.env["DATABASE_URL"])
    journal = Journal(database)
    conversation = model.Conversation(identity, OPEN_OWNER, "Many", now, now, MANY)

    def store(connection: Connection) -> None:
        conversations.insert(connection, conversation)
        for position in range(1, MANY + 1):
            role = Role.USER if position % 2 else Role.ASSISTANT
            messages.insert(connection, model.Message(
                id=model.new_id(), conversation_id=identity, parent_id=None, position=position, role=role,
                content=f"Message {position}. {PROSE * 3}", timestamp=now - MANY + position,
            ))  # fmt: skip

    journal.write(store)
    journal.close()
    database.close()
    return str(identity)


def loaded(page: Page, load: Callable[[], Any]) -> dict[str, int]:
    """Return how many bytes each file took on its way when the page was loaded; what the API answers does not count."""
    cdp = page.context.new_cdp_session(page)
    names: dict[str, str] = {}
    sizes: dict[str, int] = {}
    cdp.on("Network.requestWillBeSent", lambda event: names.update({event["requestId"]: event["request"]["url"]}))
    cdp.on("Network.loadingFinished", lambda event: sizes.update({event["requestId"]: event["encodedDataLength"]}))
    cdp.send("Network.enable")
    load()
    page.wait_for_load_state("networkidle")
    cdp.detach()
    files = {names[request].rsplit("/", 1)[-1]: int(size) for request, size in sizes.items() if request in names}
    return {name: size for name, size in files.items() if "?" not in name}


def tasks(page: Page, act: Callable[[], Any]) -> list[float]:
    """Return the processor time in ms of each task of the page while something is done."""
    browser = page.context.browser
    assert browser
    browser.start_tracing(page=page, categories=["toplevel"])
    act()
    events = json.loads(browser.stop_tracing())["traceEvents"]
    mains = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    return [
        event.get("tdur", 0) / 1000
        for event in events
        if (event["pid"], event["tid"]) in mains and event["name"] == "ThreadControllerImpl::RunTask"
    ]


def test_the_first_load_is_small_and_the_second_loads_next_to_nothing(chat: Chat) -> None:
    chat.page.context.new_cdp_session(chat.page).send("Network.clearBrowserCache")
    first, second = loaded(chat.page, chat.page.reload), loaded(chat.page, chat.page.reload)
    assert first.keys() >= {"marked.js", "purify.js", "chat.css", "chat.js"}
    assert sum(first.values()) <= 150_000
    assert sum(second.values()) <= 10_000


def test_the_page_can_be_used_within_a_second(chat: Chat) -> None:
    """On a machine that does other things at the same time it may take two."""
    began = time.monotonic()
    chat.page.reload(wait_until="commit")
    chat.box.fill("x")
    expect(chat.action).to_be_enabled()
    assert time.monotonic() - began < 2


def test_a_very_long_reply_does_not_hold_the_page_up(chat: Chat) -> None:
    """Streams 160 KB as fast as it goes: some seconds."""

    def stream() -> None:
        chat.send("Long #n=36000,seed=1#")
        chat.expect_status("completed", 60)

    taken = tasks(chat.page, stream)
    assert chat.reply.locator(".body").evaluate("node => node.textContent.length") > 150_000
    assert max(taken) < 100
    assert sum(taken) < 1500  # where the whole text is parsed for each piece it is more than 2000


def test_a_conversation_of_many_messages_opens_at_once_and_stays_smooth(visit: Visit, crowded: Server) -> None:
    """Stores five thousand messages first, then reads 500 of them: some seconds."""
    many, chat = store_many(crowded), visit(crowded)

    def read() -> None:
        chat.open(many)
        for page in range(1, 11):
            expect(chat.messages).to_have_count(50 * page)
            chat.page.locator("#scroller").evaluate("node => node.scrollTo(0, 0)")

    began = time.monotonic()
    chat.open(many)
    expect(chat.reply).to_contain_text(f"Message {MANY}.")
    assert time.monotonic() - began < 3
    assert max(tasks(chat.page, read)) < 150
    assert max(tasks(chat.page, lambda: chat.ask("Hello #n=200#"))) < 150
