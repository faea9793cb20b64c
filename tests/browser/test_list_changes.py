"""The list of conversations: rename, pin, delete with undo, export, expiry."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.chat import Chat
from tests.browser.conftest import Visit
from tests.browser.listing import asked, choose, group, row
from tests.http.api import Api, eventually, unique


def is_gone(api: Api, conversation: str) -> bool:
    return bool(api.request("GET", f"/api/conversations/{conversation}").status == 404)


def test_conversation_is_renamed_in_place(chat: Chat, api: Api) -> None:
    title, conversation = asked(chat, "Old name")
    new = unique("New name 新名字")
    choose(chat, title, "Rename")
    chat.page.keyboard.type(new)
    chat.page.keyboard.press("Enter")
    expect(chat.page.get_by_role("link", name=new)).to_be_focused()
    expect(chat.page.get_by_role("heading", level=1)).to_have_text(new)
    assert eventually(lambda: api.read(conversation)["title"] == new)


@pytest.mark.parametrize("typed", ["", "   ", "Never mind"])
def test_renaming_can_be_cancelled(chat: Chat, api: Api, typed: str) -> None:
    title, conversation = asked(chat, "Kept name")
    choose(chat, title, "Rename")
    chat.page.get_by_role("textbox", name="New title").fill(typed)
    chat.page.keyboard.press("Escape" if typed.strip() else "Enter")
    expect(chat.page.get_by_role("link", name=title)).to_be_focused()
    assert api.read(conversation)["title"] == title


def test_running_reply_does_not_interrupt_renaming(chat: Chat) -> None:
    """The reply takes a second and ends during the renaming. Then its conversation becomes the first."""
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


def test_failed_rename_restores_the_title_until_the_network_is_back(chat: Chat, api: Api) -> None:
    title, conversation = asked(chat, "Stays")
    chat.page.context.set_offline(offline=True)
    choose(chat, title, "Rename")
    chat.page.keyboard.type("Offline name\n")
    expect(chat.page.locator("#toast")).to_contain_text("cannot be reached")
    expect(row(chat, title)).to_be_visible()
    chat.page.context.set_offline(offline=False)
    assert eventually(lambda: api.read(conversation)["title"] == "Offline name")
    expect(chat.page.locator("#toast")).to_be_empty()


def test_failed_change_is_not_retried_over_a_later_one(chat: Chat, api: Api) -> None:
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


def test_pinned_conversations_come_first_and_do_not_expire(chat: Chat, api: Api) -> None:
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


def test_pinned_conversations_stay_first_past_one_page(visit: Visit, api: Api) -> None:
    """Takes forty turns, more than a page of the list."""
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
def test_time_left_is_explained_when_it_first_appears(visit: Visit, locale: str, words: str, keep: str) -> None:
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
def test_remaining_time_is_exact(visit: Visit, api: Api, ttl: int, words: str) -> None:
    conversation = api.chat(unique("For how long?"), ttl=ttl)["conversation_id"]
    chat = visit()
    chat.open(conversation)
    expect(chat.page.get_by_role("note")).to_contain_text(f"deleted {words} after")


def test_deleted_conversation_disappears_everywhere(chat: Chat, api: Api) -> None:
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


def test_leaving_the_page_completes_a_deletion(chat: Chat, api: Api) -> None:
    title, conversation = asked(chat, "Delete me")
    choose(chat, title, "Delete")
    expect(row(chat, title)).to_have_count(0)
    chat.page.goto("about:blank")
    assert eventually(lambda: is_gone(api, conversation))


@pytest.mark.every_engine
def test_closing_the_tab_completes_a_deletion(chat: Chat, api: Api) -> None:
    title, conversation = asked(chat, "Delete me")
    chat.page.context.new_page()
    choose(chat, title, "Delete")
    expect(row(chat, title)).to_have_count(0)
    chat.page.close(run_before_unload=True)
    assert eventually(lambda: is_gone(api, conversation))


# The first call on pagehide. Firefox runs nothing after the first function that returns.
FIRST_CALL = """() => {
    const calls = [];
    for (const [owner, name] of [
        [window, 'fetch'], [window, 'clearTimeout'], [Storage.prototype, 'getItem'], [Storage.prototype, 'setItem'],
        [Element.prototype, 'replaceChildren'], [Document.prototype, 'getElementById'],
    ]) {
        const real = owner[name];
        owner[name] = function (...values) { calls.push(name); return real.apply(this, values); };
    }
    window.URL = new Proxy(URL, { construct: (kind, values) => (calls.push('URL'), new kind(...values)) });
    dispatchEvent(new PageTransitionEvent('pagehide'));
    return calls[0];
}"""


def test_deletion_is_sent_first_on_pagehide(chat: Chat, api: Api) -> None:
    title, conversation = asked(chat, "Delete me")
    choose(chat, title, "Delete")
    expect(row(chat, title)).to_have_count(0)
    assert chat.page.evaluate(FIRST_CALL) == "fetch"
    assert eventually(lambda: is_gone(api, conversation))


def closed_amid_a_deletion(chat: Chat, title: str) -> Chat:
    """Delete a conversation, close the page without a request, and return another one, a minute later."""
    choose(chat, title, "Delete")
    expect(row(chat, title)).to_have_count(0)
    chat.page.evaluate("() => { window.fetch = () => Promise.reject(new Error('no network')); }")
    other = Chat(chat.page.context.new_page(), chat.url)
    chat.page.close()
    other.page.clock.install(time=datetime.now(UTC) + timedelta(minutes=1))
    return other


def test_unsent_deletion_is_completed_at_the_next_load(chat: Chat, api: Api) -> None:
    title, conversation = asked(chat, "Delete me")
    kept, _ = asked(chat, "Kept")
    other = closed_amid_a_deletion(chat, title)
    assert not is_gone(api, conversation)
    other.open()
    expect(row(other, kept)).to_be_visible()
    expect(row(other, title)).to_have_count(0)
    assert eventually(lambda: is_gone(api, conversation))
    expect(other.page.locator("#toast")).to_be_empty()


def test_unsent_deletion_is_dropped_if_the_conversation_continued(chat: Chat, api: Api) -> None:
    title, conversation = asked(chat, "Delete me not")
    other = closed_amid_a_deletion(chat, title)
    api.chat("One more thing", conversation_id=conversation)
    other.open()
    expect(row(other, title)).to_be_visible()
    assert api.read(conversation)["message_count"] == 4


def click_undo(chat: Chat) -> None:
    chat.page.get_by_role("button", name="Undo").click()


def press_undo(chat: Chat) -> None:
    chat.page.keyboard.press("Control+z")


def go_back(chat: Chat) -> None:
    chat.page.go_back()


@pytest.mark.parametrize("take_back", [click_undo, press_undo, go_back])
def test_undo_restores_the_conversation(chat: Chat, api: Api, take_back: Callable[[Chat], None]) -> None:
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


def test_failed_deletion_restores_the_conversation(chat: Chat, api: Api) -> None:
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


def test_failed_deletion_is_repeated_when_the_network_is_back(chat: Chat, api: Api) -> None:
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


def test_failed_deletion_is_dropped_if_the_conversation_continued(chat: Chat, api: Api) -> None:
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


def test_second_deletion_completes_the_first(chat: Chat, api: Api) -> None:
    first, gone = asked(chat, "First")
    second, kept = asked(chat, "Second")
    choose(chat, first, "Delete")
    choose(chat, second, "Delete")
    assert eventually(lambda: is_gone(api, gone))
    click_undo(chat)
    expect(row(chat, second)).to_be_visible()
    expect(row(chat, first)).to_have_count(0)
    assert not is_gone(api, kept)


def test_remaining_time_counts_down_to_expiry(chat: Chat, api: Api) -> None:
    """The conversation expires eight seconds after its turn, while two pages load."""
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
def test_conversation_is_exported(chat: Chat, choice: str, suffix: str, begins: bytes) -> None:
    title, _ = asked(chat, "Export me 导出")
    with chat.page.expect_download() as download:
        choose(chat, title, choice)
    assert download.value.suggested_filename == f"{title}.{suffix}"
    exported = Path(download.value.path()).read_bytes()
    assert exported.startswith(begins)
    assert title.encode() in exported


def test_all_conversations_are_exported(chat: Chat) -> None:
    titles = {asked(chat, name)[0] for name in ("One", "Two")}
    chat.page.get_by_role("button", name="Settings").click()
    with chat.page.expect_download() as download:
        chat.page.get_by_role("group", name="Export everything").get_by_role("menuitem", name="JSON").click()
    assert re.fullmatch(r"chatkeep-[\d-]+\.json", download.value.suggested_filename)
    exported = json.loads(Path(download.value.path()).read_bytes())
    assert titles <= {conversation["title"] for conversation in exported["conversations"]}
