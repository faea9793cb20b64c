"""Helpers for the list of conversations."""

from __future__ import annotations

from playwright.sync_api import Locator, expect

from tests.browser.chat import Chat
from tests.http.api import unique


def row(chat: Chat, title: str) -> Locator:
    """Return the row of a conversation."""
    return chat.page.get_by_role("listitem").filter(has_text=title)


def choose(chat: Chat, title: str, choice: str) -> None:
    """Choose from the menu of a conversation in the list."""
    row(chat, title).hover()
    row(chat, title).get_by_role("button", name="Actions for").click()
    chat.page.get_by_role("menuitem", name=choice).click()


def group(chat: Chat, name: str, title: str) -> Locator:
    """Return a conversation's link in a group of the list."""
    return chat.page.get_by_role("list", name=name, exact=True).get_by_role("link", name=title)


def asked(chat: Chat, title: str) -> tuple[str, str]:
    """Take a turn in a new conversation and return its title and id."""
    title = unique(title)
    chat.page.get_by_role("link", name="New conversation").click()
    expect(chat.messages).to_have_count(0)
    chat.ask(title)
    expect(chat.page.get_by_role("heading", level=1)).to_have_text(title)
    expect(row(chat, title)).to_be_visible()
    return title, chat.conversation_id
