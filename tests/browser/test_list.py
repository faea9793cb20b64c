"""The list of conversations: search, groups and pages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from playwright.sync_api import expect

from tests.browser.chat import Chat
from tests.browser.conftest import Visit
from tests.browser.listing import asked, group, row
from tests.http.api import Api, unique


def test_search_finds_titles_and_highlights_matches(chat: Chat) -> None:
    title, _ = asked(chat, "Poem 秋天的诗")
    other, _ = asked(chat, "Another")
    found = title.removeprefix("Poem ")
    chat.page.keyboard.press("Control+k")
    chat.page.keyboard.insert_text(found.upper())
    expect(row(chat, other)).to_have_count(0)
    expect(row(chat, title).locator("mark")).to_have_text(found)
    chat.page.keyboard.press("Escape")
    expect(row(chat, other)).to_be_visible()
    expect(chat.page.locator("#search")).to_have_value("")


def test_search_shows_an_excerpt_with_the_match(chat: Chat) -> None:
    needle = unique("needle")
    title = unique("A haystack")
    chat.ask(f"{title}\nlong lines of hay, then a {needle} with a [.*] in its eye, and hay again #n=300#")
    chat.page.get_by_label("Search conversations").fill(f"{needle.upper()} with a [.*]")
    expect(row(chat, title).locator(".found mark")).to_have_text(f"{needle} with a [.*]")
    expect(row(chat, title).locator(".found")).to_contain_text("then a")
    expect(chat.page.get_by_role("status")).to_have_text("Found: 1")


def test_search_shows_an_excerpt_with_one_of_its_words(chat: Chat) -> None:
    needle, title = unique("needle").replace(" ", "-"), unique("A haystack")
    chat.ask(f"{title}\nlong lines of hay, then a {needle} in the hay #n=300#")
    chat.page.get_by_label("Search conversations").fill(f"hay {needle.upper()} long")
    expect(row(chat, title).locator(".found mark")).to_have_text(needle)
    expect(row(chat, title).locator(".found")).to_contain_text("then a")


def test_button_clears_the_search(chat: Chat) -> None:
    title, _ = asked(chat, "Found again")
    search, clear = (
        chat.page.get_by_label("Search conversations"),
        chat.page.get_by_role("button", name="Clear the search"),
    )
    expect(clear).to_be_hidden()
    search.fill(unique("nowhere"))
    expect(row(chat, title)).to_have_count(0)
    clear.click()
    expect(row(chat, title)).to_be_visible()
    expect(search).to_have_value("")
    expect(search).to_be_focused()
    expect(clear).to_be_hidden()


def test_search_without_results_says_so(chat: Chat) -> None:
    chat.page.get_by_label("Search conversations").fill(unique("nowhere"))
    expect(chat.page.get_by_text("Nothing found.")).to_be_visible()
    expect(chat.page.locator("#conversations li")).to_have_count(0)


def test_conversations_are_grouped_by_day(chat: Chat) -> None:
    """Loads the page six times."""
    title, _ = asked(chat, "Of that day")
    for days, name in ((0, "Today"), (1, "Yesterday"), (2, "Last 7 days"), (7, "Last 7 days"), (8, "Older")):
        chat.page.clock.set_fixed_time(datetime.now(UTC) + timedelta(days=days))
        chat.page.reload()
        expect(group(chat, name, title)).to_be_visible()


def test_list_loads_more_when_scrolled(visit: Visit, api: Api) -> None:
    """Takes seventy turns."""
    oldest = unique("Far down")
    for number in range(70):
        api.chat(unique(f"Number {number}") if number else oldest)
    chat = visit()
    expect(chat.entries.first).to_be_visible()
    assert 0 < chat.entries.count() < 70
    while not row(chat, oldest).count():
        seen = chat.entries.count()
        chat.entries.last.scroll_into_view_if_needed()
        expect(chat.entries.nth(seen)).to_be_attached()
    addresses = [link.get_attribute("href") for link in chat.entries.all()]
    assert len(set(addresses)) == len(addresses)


def test_title_is_the_first_line_before_the_answer(chat: Chat) -> None:
    chat.page.route("**/api/chat", lambda _: None)
    chat.send("The first line\nand a second")
    expect(chat.page.get_by_role("heading", level=1)).to_have_text("The first line")
    assert chat.page.title().startswith("The first line")
