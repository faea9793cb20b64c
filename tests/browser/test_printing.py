"""Printing includes all messages of a conversation, also those that are not loaded yet."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.chat import Chat
from tests.browser.conftest import Visit
from tests.browser.weight import store_many
from tests.http.api import Api, unique
from tests.servers import Server

# The chat page loads 50 at once, the page of a shared conversation 100.
MANY = 222
HEARD = """addEventListener('beforeprint', () => {
    document.body.dataset.printed = document.querySelectorAll('article').length; })"""
LEFT = """addEventListener('keydown', ({ key, defaultPrevented }) => {
    document.body.dataset.left = key === 'p' && !defaultPrevented; })"""


@pytest.fixture
def many(site: Server) -> str:
    """The id of a conversation of many messages."""
    return store_many(site.env["DATABASE_URL"], MANY)


@pytest.fixture
def part(chat: Chat, many: str) -> Chat:
    """The page with a part of the conversation."""
    chat.open(many)
    expect(chat.messages).to_have_count(50)
    chat.page.evaluate(HEARD)
    return chat


def by_keys(page: Page) -> None:
    page.keyboard.press("Control+p")


def by_menu(page: Page) -> None:
    page.get_by_role("main").get_by_role("button", name="Actions").click()
    page.get_by_role("menuitem", name="Print").click()


def expect_printed(page: Page, count: int) -> None:
    """Wait long, because Firefox prepares its print preview first."""
    expect(page.locator("body")).to_have_attribute("data-printed", str(count), timeout=60_000)


@pytest.mark.parametrize("ask", [by_keys, by_menu])
def test_all_messages_are_loaded_and_then_printed(part: Chat, ask: Callable[[Page], None]) -> None:
    ask(part.page)
    expect_printed(part.page, MANY)
    expect(part.messages.first).to_contain_text("Message 1.")
    expect(part.notice).to_be_hidden()


def test_shared_conversation_is_printed_completely(visit: Visit, api: Api, many: str) -> None:
    path = api.request("POST", f"/api/conversations/{many}/share").json["path"]
    page = visit().page
    page.goto(f"{api.server.url}{path}")
    expect(page.locator("article")).to_have_count(100)
    page.evaluate(HEARD)
    by_keys(page)
    expect_printed(page, MANY)


def test_browser_print_loads_all_messages(chat: Chat) -> None:
    chat.ask(unique("On one page"))
    chat.page.evaluate(LEFT)
    by_keys(chat.page)
    expect(chat.page.locator("body")).to_have_attribute("data-left", "true")


def test_print_is_cancelled_if_messages_cannot_be_loaded(part: Chat) -> None:
    part.page.route("**/api/conversations/*", lambda route: route.abort())
    by_keys(part.page)
    part.page.get_by_role("button", name="Try again").wait_for()
    assert part.page.locator("body").get_attribute("data-printed") is None
    part.page.unroute_all()
    part.page.get_by_role("button", name="Try again").click()
    expect_printed(part.page, MANY)


def test_print_is_cancelled_after_leaving_the_conversation(part: Chat) -> None:
    """The user leaves while a message is being sent, so the page completes all requests."""

    def leave(route: Route) -> None:
        part.page.get_by_role("link", name="New conversation").click()
        expect(part.messages).to_have_count(0)
        route.continue_()

    part.page.route("**/api/chat", lambda _: None, times=1)
    with part.page.expect_request("**/api/chat"):
        part.send(unique("On its way"))
    part.page.route("**/api/conversations/*after=*", leave)
    with part.page.expect_request_finished(lambda request: "after=" in request.url):
        by_keys(part.page)
    part.ask(unique("Elsewhere"))
    assert part.page.locator("body").get_attribute("data-printed") is None


@pytest.mark.chromium("it emulates paper")
def test_incomplete_print_says_so(part: Chat, api: Api, many: str) -> None:
    path = api.request("POST", f"/api/conversations/{many}/share").json["path"]
    for address, count in ((part.page.url, 50), (f"{api.server.url}{path}", 100)):
        part.page.goto(address)
        expect(part.page.locator("article")).to_have_count(count)
        said = part.page.get_by_text("Not all messages are printed here")
        expect(said).to_be_hidden()
        part.page.emulate_media(media="print")
        expect(said).to_be_visible()
        by_keys(part.page)
        expect(part.page.locator("article")).to_have_count(MANY)
        expect(said).to_be_hidden()
        part.page.emulate_media(media="screen")
