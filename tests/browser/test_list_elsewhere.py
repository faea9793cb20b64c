"""The list of conversations: changes by other clients, and error messages."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from tests.browser.chat import Chat
from tests.browser.conftest import Visit
from tests.browser.listing import asked, choose, group, row
from tests.http.api import Api, unique
from tests.servers import Server


def test_list_that_fails_to_load_offers_a_retry(visit: Visit, api: Api) -> None:
    title = unique("In the list")
    api.chat(title)
    chat = visit()
    chat.page.route("**/api/conversations?*", lambda route: route.abort())
    chat.page.reload()
    expect(chat.page.locator("#list-note")).to_contain_text("could not be loaded")
    chat.page.unroute("**/api/conversations?*")
    chat.page.locator("#list-note").get_by_role("button", name="Try again").click()
    expect(row(chat, title)).to_be_visible()


def test_conversation_opens_when_the_server_is_reachable_again(chat: Chat, api: Api) -> None:
    title = unique("Opened later")
    conversation = api.chat(title)["conversation_id"]
    chat.page.context.set_offline(offline=True)
    chat.open(conversation)
    expect(chat.notice).to_contain_text("cannot be reached")
    chat.page.context.set_offline(offline=False)
    expect(chat.reply).to_contain_text(title)
    expect(chat.notice).to_have_count(0)


def test_conversation_created_elsewhere_is_listed(chat: Chat, api: Api) -> None:
    """The page polls every 15 seconds; the test moves its clock."""
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


def test_renames_and_deletions_elsewhere_update_the_list(visit: Visit, api: Api) -> None:
    """Imports seventy conversations: two loaded pages of the list, and a third one."""
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


def test_list_loads_all_conversations_while_they_move(visit: Visit, api: Api) -> None:
    """Imports forty conversations, more than a page of the list."""
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


def test_changes_in_one_tab_show_in_the_others(chat: Chat) -> None:
    """The second tab does not poll, because it has no intervals."""
    title, _ = asked(chat, "There already")
    other = Chat(chat.page.context.new_page(), chat.url)
    other.page.add_init_script("window.setInterval = () => 0")
    other.open()
    expect(row(other, title)).to_be_visible()
    chat.page.bring_to_front()  # a page in the background renders slowly
    second, _ = asked(chat, "From the first tab")
    expect(row(other, second)).to_be_visible()
    choose(chat, title, "Keep")
    expect(group(other, "Kept", title)).to_be_visible()
    choose(chat, second, "Delete")
    choose(chat, title, "Delete")  # completes the first deletion
    expect(row(other, second)).to_have_count(0)


def test_request_without_an_end_does_not_block_the_list(chat: Chat, api: Api) -> None:
    """A request over a lost network may never get an answer."""
    chat.page.route("**/api/conversations?*", lambda _: None, times=2)
    chat.page.evaluate("dispatchEvent(new Event('focus'))")
    title = unique("Behind it")
    api.chat(title)
    chat.page.evaluate("dispatchEvent(new Event('online'))")
    expect(row(chat, title)).to_be_visible()


def answer_with_markup(route: Route) -> None:
    route.fulfill(status=502, content_type="text/html", body="<h1>Bad Gateway</h1>")


def test_proxy_error_becomes_a_readable_message(chat: Chat) -> None:
    chat.page.route("**/api/chat", answer_with_markup)
    chat.send("Through a broken proxy")
    expect(chat.notice).to_contain_text("The server answered with an error (HTTP 502).")
    expect(chat.notice.get_by_role("button", name="Try again")).to_be_visible()
    expect(chat.box).to_have_value("Through a broken proxy")


@pytest.mark.parametrize(
    ("fault", "words"),
    [("status=401", "refused the request"), ("status=429,retry_after=60", "is busy"), ("status=500", "failed")],
)
def test_errors_have_a_readable_message_and_a_retry(chat: Chat, fault: str, words: str) -> None:
    chat.send(unique(f"What is wrong? #{fault}#"))
    chat.expect_status("failed")
    expect(chat.reply).to_contain_text(words)
    assert not re.search(r'[{}]|"code"', chat.reply.locator("footer").inner_text())
    expect(chat.reply.get_by_role("button", name="Try again")).to_be_visible()


def test_demo_model_notice_stays_until_dismissed(visit: Visit, tmp_path: Path) -> None:
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
