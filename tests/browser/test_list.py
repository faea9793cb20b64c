"""The list of conversations: found, grouped, renamed, kept, deleted with a way back, exported, expiring."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Route, expect

from tests.browser.chat import Chat
from tests.browser.conftest import Visit
from tests.http.api import Api, eventually, unique
from tests.servers import Server

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


def row(chat: Chat, title: str) -> Locator:
    return chat.page.get_by_role("listitem").filter(has_text=title)


def choose(chat: Chat, title: str, choice: str) -> None:
    """Choose from the menu of a conversation in the list."""
    row(chat, title).hover()
    row(chat, title).get_by_role("button", name="Actions of").click()
    chat.page.get_by_role("menuitem", name=choice).click()


def group(chat: Chat, name: str, title: str) -> Locator:
    return chat.page.get_by_role("list", name=name, exact=True).get_by_role("link", name=title)


def is_gone(api: Api, conversation: str) -> bool:
    return bool(api.request("GET", f"/api/conversations/{conversation}").status == 404)


def asked(chat: Chat, title: str) -> tuple[str, str]:
    """Take a turn in a new conversation and return its title and id."""
    title = unique(title)
    chat.page.get_by_role("link", name="New conversation").click()
    expect(chat.messages).to_have_count(0)
    chat.ask(title)
    expect(chat.page.get_by_role("heading", level=1)).to_have_text(title)
    expect(row(chat, title)).to_be_visible()
    return title, chat.conversation_id


# Finding


def test_search_finds_titles_and_shows_what_was_found(chat: Chat) -> None:
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


def test_search_shows_the_part_of_a_text_that_was_found(chat: Chat) -> None:
    needle = unique("needle")
    title = unique("A haystack")
    chat.ask(f"{title}\nlong lines of hay, then a {needle} with a [.*] in its eye, and hay again #n=300#")
    chat.page.get_by_label("Search conversations").fill(f"{needle.upper()} with a [.*]")
    expect(row(chat, title).locator(".found mark")).to_have_text(f"{needle} with a [.*]")
    expect(row(chat, title).locator(".found")).to_contain_text("then a")
    expect(chat.page.get_by_role("status")).to_have_text("Found: 1")


def test_search_shows_where_one_of_its_words_is_found(chat: Chat) -> None:
    needle, title = unique("needle").replace(" ", "-"), unique("A haystack")
    chat.ask(f"{title}\nlong lines of hay, then a {needle} in the hay #n=300#")
    chat.page.get_by_label("Search conversations").fill(f"hay {needle.upper()} long")
    expect(row(chat, title).locator(".found mark")).to_have_text(needle)
    expect(row(chat, title).locator(".found")).to_contain_text("then a")


def test_search_that_finds_nothing_says_so(chat: Chat) -> None:
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


def test_the_list_goes_on_where_it_is_scrolled_to(visit: Visit, api: Api) -> None:
    """Takes seventy turns first."""
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


def test_the_title_is_the_first_line_before_any_answer(chat: Chat) -> None:
    chat.page.route("**/api/chat", lambda _: None)
    chat.send("The first line\nand a second")
    expect(chat.page.get_by_role("heading", level=1)).to_have_text("The first line")
    assert chat.page.title().startswith("The first line")


# Changing


def test_a_conversation_is_renamed_in_place(chat: Chat, api: Api) -> None:
    title, conversation = asked(chat, "Old name")
    new = unique("New name 新名字")
    choose(chat, title, "Rename")
    chat.page.keyboard.type(new)
    chat.page.keyboard.press("Enter")
    expect(chat.page.get_by_role("link", name=new)).to_be_focused()
    expect(chat.page.get_by_role("heading", level=1)).to_have_text(new)
    assert eventually(lambda: api.read(conversation)["title"] == new)


@pytest.mark.parametrize("typed", ["", "   ", "Never mind"])
def test_renaming_can_be_left(chat: Chat, api: Api, typed: str) -> None:
    title, conversation = asked(chat, "Kept name")
    choose(chat, title, "Rename")
    chat.page.get_by_role("textbox", name="New title").fill(typed)
    chat.page.keyboard.press("Escape" if typed.strip() else "Enter")
    expect(chat.page.get_by_role("link", name=title)).to_be_focused()
    assert api.read(conversation)["title"] == title


def test_renaming_is_not_disturbed_by_a_running_reply(chat: Chat) -> None:
    """The reply takes a second and ends while the title is written; then its conversation becomes the first."""
    title, conversation = asked(chat, "Old")
    above, _ = asked(chat, "Above")
    chat.open(conversation)
    expect(chat.reply).to_contain_text(title)
    new = unique("New")
    chat.send("More #n=30,r=30#")
    choose(chat, title, "Rename")
    chat.page.keyboard.type("Half")
    with chat.page.expect_response("**/api/conversations?*"):
        chat.expect_status("completed")
    chat.page.keyboard.press("Control+a")
    chat.page.keyboard.type(new)
    chat.page.keyboard.press("Enter")
    expect(row(chat, new)).to_be_visible()
    shown = "\n".join(chat.entries.all_inner_texts())
    assert shown.index(new) < shown.index(above)


def test_a_title_that_could_not_be_changed_is_as_it_was_until_there_is_a_network(chat: Chat, api: Api) -> None:
    title, conversation = asked(chat, "Stays")
    chat.page.context.set_offline(offline=True)
    choose(chat, title, "Rename")
    chat.page.keyboard.type("Offline name\n")
    expect(chat.page.locator("#toast")).to_contain_text("cannot be reached")
    expect(row(chat, title)).to_be_visible()
    chat.page.context.set_offline(offline=False)
    assert eventually(lambda: api.read(conversation)["title"] == "Offline name")
    expect(chat.page.locator("#toast")).to_be_empty()


def test_a_change_that_failed_is_not_tried_again_over_a_later_one(chat: Chat, api: Api) -> None:
    title, conversation = asked(chat, "First name")
    later = unique("Later name")
    chat.page.route(f"**/api/conversations/{conversation}", lambda route: route.abort())
    choose(chat, title, "Rename")
    chat.page.keyboard.type("Name that failed\n")
    expect(chat.page.locator("#toast")).to_contain_text("cannot be reached")
    chat.page.unroute_all()
    choose(chat, title, "Rename")
    chat.page.keyboard.type(f"{later}\n")
    assert eventually(lambda: api.read(conversation)["title"] == later)
    with chat.page.expect_response("**/api/conversations?*"):
        chat.page.evaluate("dispatchEvent(new Event('focus'))")
    chat.ask("A turn takes longer than a change")
    expect(row(chat, later)).to_be_visible()
    assert api.read(conversation)["title"] == later


def test_kept_conversations_come_first_and_do_not_expire(chat: Chat, api: Api) -> None:
    title, conversation = asked(chat, "Dear to me")
    expect(chat.page.locator("#expiry")).to_have_text("expires in 24h")
    asked(chat, "Newer")
    choose(chat, title, "Keep")
    expect(group(chat, "Kept", title)).to_be_visible()
    chat.open(conversation)
    expect(chat.page.locator("#expiry")).to_be_empty()
    assert api.read(conversation)["pinned"]
    choose(chat, title, "Stop keeping")
    expect(group(chat, "Today", title)).to_be_visible()
    expect(chat.page.locator("#expiry")).to_have_text("expires in 24h")


def test_what_is_pinned_is_on_top_however_much_has_come_since(visit: Visit, api: Api) -> None:
    """Takes forty turns first: more than the list loads at its start."""
    title, fellow = unique("Dear to me"), unique("Pinned later")
    api.change(api.chat(title)["conversation_id"], pinned=True)
    later = api.chat(fellow)["conversation_id"]
    for number in range(40):
        api.chat(unique(f"Number {number}"))
    chat = visit()
    expect(group(chat, "Kept", title)).to_be_visible()
    expect(row(chat, fellow)).to_have_count(0)
    api.change(later, pinned=True)
    chat.ask("The list is refreshed by a turn")
    expect(group(chat, "Kept", fellow)).to_be_visible()
    choose(chat, title, "Stop keeping")
    expect(group(chat, "Today", title)).to_be_attached()
    chat.page.get_by_label("Search conversations").fill(fellow)
    expect(group(chat, "Kept", fellow)).to_be_visible()
    expect(chat.page.locator("#conversations li")).to_have_count(1)


@pytest.mark.parametrize(
    ("locale", "words", "keep"),
    [("en-GB", "deleted 24 hours after its last message", "Keep"), ("zh-CN", "24小时后", "保留")],
)
def test_the_time_left_is_explained_where_it_first_shows(visit: Visit, locale: str, words: str, keep: str) -> None:
    chat = visit(locale=locale)
    hint = chat.page.get_by_role("note")
    expect(chat.page.locator("#welcome")).to_be_visible()
    expect(hint).to_have_count(0)
    chat.ask(unique("For how long?"))
    expect(hint).to_contain_text(words)
    hint.get_by_role("button", name=keep).click()
    expect(chat.page.locator("#expiry")).to_be_empty()
    expect(chat.page.get_by_role("list").first).to_have_attribute("aria-labelledby", "group-pinned")
    chat.page.reload()
    chat.page.locator("#new").click()
    chat.ask(unique("And this one?"))
    expect(chat.page.locator("#expiry")).not_to_be_empty()
    expect(hint).to_have_count(0)


@pytest.mark.parametrize(
    ("ttl", "words"), [(90, "90 seconds"), (5400, "90 minutes"), (36 * 3600, "36 hours"), (30 * 86_400, "30 days")]
)
def test_the_time_that_a_conversation_is_kept_is_told_exactly(visit: Visit, api: Api, ttl: int, words: str) -> None:
    conversation = api.chat(unique("For how long?"), ttl=ttl)["conversation_id"]
    chat = visit()
    chat.open(conversation)
    expect(chat.page.get_by_role("note")).to_contain_text(f"deleted {words} after")


# Deleting


def test_a_deleted_conversation_is_gone_everywhere(chat: Chat, api: Api) -> None:
    title, conversation = asked(chat, "Delete me")
    chat.page.clock.install()
    choose(chat, title, "Delete")
    expect(row(chat, title)).to_have_count(0)
    expect(chat.messages).to_have_count(0)
    expect(chat.page.get_by_role("button", name="Undo")).to_be_visible()
    assert not is_gone(api, conversation)
    chat.page.clock.fast_forward(6_000)
    expect(chat.page.locator("#toast")).to_be_empty()
    assert eventually(lambda: is_gone(api, conversation))
    chat.open(conversation)
    expect(chat.notice).to_contain_text("no longer exists")


def test_whoever_leaves_the_page_has_deleted(chat: Chat, api: Api) -> None:
    title, conversation = asked(chat, "Delete me")
    choose(chat, title, "Delete")
    expect(row(chat, title)).to_have_count(0)
    chat.page.goto("about:blank")
    assert eventually(lambda: is_gone(api, conversation))


def click_undo(chat: Chat) -> None:
    chat.page.get_by_role("button", name="Undo").click()


def press_undo(chat: Chat) -> None:
    chat.page.keyboard.press("Control+z")


def go_back(chat: Chat) -> None:
    chat.page.go_back()


@pytest.mark.parametrize("take_back", [click_undo, press_undo, go_back])
def test_undo_loses_nothing(chat: Chat, api: Api, take_back: Callable[[Chat], None]) -> None:
    chat.page.clock.install()
    title, conversation = asked(chat, "Keep me")
    chat.box.fill("A draft")
    choose(chat, title, "Delete")
    expect(chat.box).to_have_value("")
    take_back(chat)
    expect(row(chat, title)).to_be_visible()
    expect(chat.reply).to_contain_text(title)
    expect(chat.box).to_have_value("A draft")
    chat.page.clock.fast_forward(60_000)
    expect(chat.page.locator("#toast")).to_be_empty()
    assert api.read(conversation)["message_count"] == 2


def test_what_could_not_be_deleted_comes_back(chat: Chat, api: Api) -> None:
    chat.page.clock.install()
    title, conversation = asked(chat, "Delete me offline")
    chat.box.fill("A draft")
    choose(chat, title, "Delete")
    chat.page.context.set_offline(offline=True)
    chat.page.clock.fast_forward(6_000)
    expect(row(chat, title)).to_be_visible()
    expect(chat.page.locator("#toast")).to_contain_text("cannot be reached")
    chat.open(conversation)
    chat.page.context.set_offline(offline=False)
    expect(chat.reply).to_contain_text(title)
    expect(chat.box).to_have_value("A draft")
    chat.page.locator("#toast").get_by_role("button", name="Try again").click()
    chat.page.clock.fast_forward(6_000)
    assert eventually(lambda: is_gone(api, conversation))


def test_what_could_not_be_deleted_is_when_there_is_a_network(chat: Chat, api: Api) -> None:
    chat.page.clock.install()
    title, conversation = asked(chat, "Delete me later")
    choose(chat, title, "Delete")
    chat.page.context.set_offline(offline=True)
    chat.page.clock.fast_forward(6_000)
    expect(chat.page.locator("#toast")).to_contain_text("cannot be reached")
    chat.page.context.set_offline(offline=False)
    expect(chat.page.get_by_role("button", name="Undo")).to_be_visible()
    chat.page.clock.fast_forward(6_000)
    assert eventually(lambda: is_gone(api, conversation))


def test_what_could_not_be_deleted_stays_when_more_has_been_said_in_it(chat: Chat, api: Api) -> None:
    chat.page.clock.install()
    title, conversation = asked(chat, "Delete me not")
    chat.page.route(f"**/api/conversations/{conversation}", lambda route: route.abort())
    choose(chat, title, "Delete")
    chat.page.clock.fast_forward(6_000)
    expect(chat.page.locator("#toast")).to_contain_text("cannot be reached")
    chat.page.unroute_all()
    chat.open(conversation)
    chat.ask("One more thing")
    chat.page.locator("#new").click()
    expect(chat.messages).to_have_count(0)
    with chat.page.expect_response("**/api/conversations?*"):
        chat.page.evaluate("dispatchEvent(new Event('focus'))")
    chat.ask("A turn takes longer than the list")
    chat.page.clock.fast_forward(6_000)
    expect(chat.page.locator("#toast")).to_contain_text("cannot be reached")
    assert api.read(conversation)["message_count"] == 4


def test_a_second_deletion_settles_the_first(chat: Chat, api: Api) -> None:
    first, gone = asked(chat, "First")
    second, kept = asked(chat, "Second")
    choose(chat, first, "Delete")
    choose(chat, second, "Delete")
    assert eventually(lambda: is_gone(api, gone))
    click_undo(chat)
    expect(row(chat, second)).to_be_visible()
    expect(row(chat, first)).to_have_count(0)
    assert not is_gone(api, kept)


# Keeping and exporting


def test_the_time_left_goes_by_and_ends(chat: Chat, api: Api) -> None:
    """In the end the conversation is kept for eight seconds after its turn: two pages are loaded meanwhile."""
    title, conversation = asked(chat, "Passing")
    chat.page.clock.install()
    chat.page.reload()
    left = chat.page.locator("#expiry")
    expect(left).to_have_text("expires in 24h")
    chat.page.clock.fast_forward("20:00:00")
    expect(left).to_have_text("expires in 4h")
    api.request("PATCH", f"/api/conversations/{conversation}", json={"ttl": 8})
    chat.page.clock.set_system_time(datetime.now(UTC))
    chat.page.reload()
    expect(left).to_have_text("expires within a minute")
    expect(chat.notice).to_contain_text("no longer exists")
    expect(row(chat, title)).to_have_count(0)


@pytest.mark.parametrize(
    ("choice", "suffix", "begins"), [("Markdown", "md", b"# "), ("JSON", "json", b"{"), ("CSV", "csv", b"\xef\xbb\xbf")]
)
def test_a_conversation_is_exported(chat: Chat, choice: str, suffix: str, begins: bytes) -> None:
    title, _ = asked(chat, "Export me 导出")
    with chat.page.expect_download() as download:
        choose(chat, title, choice)
    assert download.value.suggested_filename == f"{title}.{suffix}"
    exported = Path(download.value.path()).read_bytes()
    assert exported.startswith(begins)
    assert title.encode() in exported


def test_everything_is_exported(chat: Chat) -> None:
    titles = {asked(chat, name)[0] for name in ("One", "Two")}
    chat.page.get_by_role("button", name="Settings").click()
    with chat.page.expect_download() as download:
        chat.page.get_by_role("group", name="Export everything").get_by_role("menuitem", name="JSON").click()
    assert re.fullmatch(r"chatkeep-[\d-]+\.json", download.value.suggested_filename)
    exported = json.loads(Path(download.value.path()).read_bytes())
    assert titles <= {conversation["title"] for conversation in exported["conversations"]}


# Errors, and what else the page says


def test_a_list_that_cannot_be_loaded_says_so_and_offers_a_retry(visit: Visit, api: Api) -> None:
    title = unique("In the list")
    api.chat(title)
    chat = visit()
    chat.page.route("**/api/conversations?*", lambda route: route.abort())
    chat.page.reload()
    expect(chat.page.locator("#list-note")).to_contain_text("could not be loaded")
    chat.page.unroute("**/api/conversations?*")
    chat.page.locator("#list-note").get_by_role("button", name="Try again").click()
    expect(row(chat, title)).to_be_visible()


def test_a_conversation_that_could_not_be_opened_is_opened_when_the_server_is_reached_again(
    chat: Chat, api: Api
) -> None:
    title = unique("Opened later")
    conversation = api.chat(title)["conversation_id"]
    chat.page.context.set_offline(offline=True)
    chat.open(conversation)
    expect(chat.notice).to_contain_text("cannot be reached")
    chat.page.context.set_offline(offline=False)
    expect(chat.reply).to_contain_text(title)
    expect(chat.notice).to_have_count(0)


def test_a_conversation_made_elsewhere_is_listed(chat: Chat, api: Api) -> None:
    """The page looks every 15 seconds; its clock is moved."""
    asked(chat, "There already")
    chat.page.clock.install()
    chat.page.reload()
    chat.expect_status("completed")
    requests: list[str] = []
    chat.page.on("request", lambda request: requests.append(request.url))
    for wake in ("clock", "focus", "online"):
        title = unique(f"Made elsewhere, {wake}")
        api.chat(title)
        requests.clear()
        if wake == "clock":
            chat.page.clock.run_for(15_000)
        else:
            chat.page.evaluate(f"dispatchEvent(new Event('{wake}'))")
        expect(row(chat, title)).to_be_visible()
        assert len(requests) == 2, "the list, and what is pinned"


def test_what_is_renamed_or_deleted_elsewhere_is_brought_up_to_date(visit: Visit, api: Api) -> None:
    """Imports seventy conversations first: two pages of the list are loaded, and there is a third one."""
    titles = [unique(f"Number {number}") for number in range(70)]
    stored = import_conversations(api, titles)
    first, second, renamed = titles[-3], titles[-35], titles[-36]
    chat = visit()
    expect(row(chat, first)).to_be_visible()
    chat.entries.last.scroll_into_view_if_needed()
    expect(row(chat, second)).to_be_attached()
    api.request("DELETE", f"/api/conversations/{stored[first]}")
    api.request("DELETE", f"/api/conversations/{stored[second]}")
    api.change(stored[renamed], title=(new := unique("New name")))
    chat.page.evaluate("dispatchEvent(new Event('focus'))")
    expect(row(chat, first)).to_have_count(0)
    expect(row(chat, second)).to_have_count(0)
    expect(row(chat, new)).to_be_attached()


def test_the_list_goes_on_while_its_conversations_move(visit: Visit, api: Api) -> None:
    """Imports forty conversations first: more than a page of the list holds."""
    titles = [unique(f"Number {number}") for number in range(40)]
    stored = import_conversations(api, titles)
    chat = visit()
    expect(chat.entries.first).to_be_visible()
    *_, last = chat.page.locator("#conversations section:not(:has(#group-pinned)) a").all()
    moved = str(last.get_attribute("href")).removeprefix("#")
    api.chat("It moves to the top", conversation_id=moved)
    with chat.page.expect_response("**/api/conversations?*after=*") as next_page:
        last.scroll_into_view_if_needed()
    found = [conversation["id"] for conversation in next_page.value.json()["data"]]
    shown = list(stored.values()).index(moved)  # of the newest ones, newest first
    assert found[: len(titles) - shown - 1] == list(stored.values())[shown + 1 : len(titles)]


def import_conversations(api: Api, titles: list[str]) -> dict[str, str]:
    """Store conversations, the first one the oldest, and return the ids of the newest ones by their titles."""
    now = time.time() - 0.05
    chats = [imported(title, now + at / 1000) for at, title in enumerate(titles)]
    assert api.request("POST", "/api/conversations/import", json=chats).status == 200
    found = api.request("GET", "/api/conversations?limit=100").json["data"]
    return {conversation["title"]: conversation["id"] for conversation in found}


def imported(title: str, at: float) -> dict[str, Any]:
    """Return a conversation as Open WebUI exports it."""
    message = {"id": "a", "parentId": None, "role": "user", "content": title, "timestamp": at}
    history = {"currentId": "a", "messages": {"a": message}}
    return {"id": title, "title": title, "updated_at": at, "created_at": at, "chat": {"history": history}}


def test_what_one_tab_changes_shows_in_the_others(chat: Chat) -> None:
    """The second tab does not look by itself: it has no intervals."""
    title, _ = asked(chat, "There already")
    other = Chat(chat.page.context.new_page(), chat.url)
    other.page.add_init_script("window.setInterval = () => 0")
    other.open()
    expect(row(other, title)).to_be_visible()
    chat.page.bring_to_front()  # or else it is drawn slowly
    second, _ = asked(chat, "From the first tab")
    expect(row(other, second)).to_be_visible()
    choose(chat, title, "Keep")
    expect(group(other, "Kept", title)).to_be_visible()
    choose(chat, second, "Delete")
    choose(chat, title, "Delete")  # which settles the first deletion
    expect(row(other, second)).to_have_count(0)


def test_a_request_without_end_does_not_stop_the_list(chat: Chat, api: Api) -> None:
    """As of a network that is gone: what was asked over it may never be answered."""
    chat.page.route("**/api/conversations?*", lambda _: None, times=2)
    chat.page.evaluate("dispatchEvent(new Event('focus'))")
    title = unique("Behind it")
    api.chat(title)
    chat.page.evaluate("dispatchEvent(new Event('online'))")
    expect(row(chat, title)).to_be_visible()


def answer_with_markup(route: Route) -> None:
    route.fulfill(status=502, content_type="text/html", body="<h1>Bad Gateway</h1>")


def test_an_answer_from_something_in_between_becomes_words(chat: Chat) -> None:
    chat.page.route("**/api/chat", answer_with_markup)
    chat.send("Through a broken proxy")
    expect(chat.notice).to_contain_text("The server answered with an error (HTTP 502).")
    expect(chat.notice.get_by_role("button", name="Try again")).to_be_visible()
    expect(chat.box).to_have_value("Through a broken proxy")


@pytest.mark.parametrize(
    ("fault", "words"),
    [("status=401", "refused the request"), ("status=429,retry_after=60", "is busy"), ("status=500", "failed")],
)
def test_errors_are_told_in_words_with_a_retry(chat: Chat, fault: str, words: str) -> None:
    chat.send(unique(f"What is wrong? #{fault}#"))
    chat.expect_status("failed")
    expect(chat.reply).to_contain_text(words)
    assert not re.search(r'[{}]|"code"', chat.reply.locator("footer").inner_text())
    expect(chat.reply.get_by_role("button", name="Try again")).to_be_visible()


def test_the_demo_model_says_how_to_get_a_real_one_until_it_is_dismissed(visit: Visit, tmp_path: Path) -> None:
    """Starts a server without a provider."""
    with Server("flask", tmp_path, {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""}) as server:
        chat = visit(server)
        banner = chat.page.get_by_role("complementary")
        expect(banner).to_contain_text("OPENAI_API_KEY")
        banner.get_by_role("button", name="Close").click()
        expect(banner).to_have_count(0)
        chat.page.reload()
        expect(chat.page.get_by_role("heading", level=2)).to_be_visible()
        expect(banner).to_have_count(0)
