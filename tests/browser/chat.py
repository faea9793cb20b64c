"""The chat page in a browser, as users see it."""

from __future__ import annotations

import re
import time
from urllib.parse import urldefrag, urlsplit

from playwright.sync_api import ConsoleMessage, Error, Locator, Page, Request, expect


def bare(text: str) -> str:
    """Return text without white space and Markdown syntax, which rendering may change."""
    return re.sub(r"[\s*`-]+", "", text)


def tap(locator: Locator) -> None:
    """Tap an element. In Firefox click it, because Playwright cannot tap over WebDriver BiDi."""
    browser = locator.page.context.browser
    if browser and browser.browser_type.name == "firefox":
        locator.click()
    else:
        locator.tap()


class Chat:
    """The page of one tab. ``complaints`` has errors, policy violations and foreign requests; it must stay empty."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        page.on("console", self._note_console)
        page.on("pageerror", self._note_error)
        page.on("request", self._note_request)
        self.box = page.locator("#message")
        self.action = page.locator("#action")
        self.notice = page.get_by_role("alert")
        self.entries = page.locator("#conversations a")
        self.messages = page.locator("#messages article")
        self.replies = page.locator("#messages article.assistant")
        self.reply = self.replies.last

    def open(self, conversation_id: str = "") -> None:
        """Open a conversation, or the start page."""
        self.page.goto(f"{self.url}/#{conversation_id}")

    def send(self, text: str) -> None:
        """Write a message and send it."""
        self.box.fill(text)
        self.box.press("Enter")

    def ask(self, text: str) -> None:
        """Send a message and wait for the end of the reply."""
        self.send(text)
        self.expect_status("completed")

    @property
    def conversation_id(self) -> str:
        """The conversation in the address."""
        return urldefrag(self.page.url).fragment

    @property
    def text(self) -> str:
        """The shown text of the last reply, bare."""
        return bare("".join(self.reply.locator(".body > *").all_text_contents()))

    def expect_status(self, status: str, seconds: float = 15) -> None:
        """Wait until the last reply has this status."""
        expect(self.reply).to_have_attribute("data-status", status, timeout=seconds * 1000)

    def wait_for(self, text: str, seconds: float = 15) -> None:
        """Wait until the last reply begins with this text."""
        deadline = time.monotonic() + seconds
        while not self.text.startswith(bare(text)):
            assert time.monotonic() < deadline, self.text[:500]
            self.page.wait_for_timeout(20)

    def wait_for_text(self) -> str:
        """Wait until the last reply shows text, and return it."""
        expect(self.reply.locator(".body")).not_to_be_empty()
        return self.text

    def wait_for_more(self, text: str) -> None:
        """Wait until the last reply shows this text and more."""
        while not (self.text.startswith(text) and len(self.text) > len(text)):
            self.page.wait_for_timeout(20)

    def _note_console(self, message: ConsoleMessage) -> None:
        # Error statuses come from the server. Tests check how the page handles them.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.complaints.append(f"console: {message.text}")

    def _note_error(self, error: Error) -> None:
        if "establish a connection to the server" not in error.message:  # the end of an EventSource in Firefox
            self.complaints.append(f"thrown: {error}")

    def _note_request(self, request: Request) -> None:
        if not request.url.startswith("data:") and urlsplit(request.url).netloc != urlsplit(self.url).netloc:
            self.complaints.append(f"request: {request.url}")
