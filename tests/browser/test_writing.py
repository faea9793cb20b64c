"""Writing and sending: keys, input methods and drafts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.chat import Chat, tap
from tests.browser.conftest import Visit
from tests.http.api import Api, asked, unique
from tests.servers import Server
from tests.upstream import Upstream, reply_to

if TYPE_CHECKING:
    from tests.browser.engines import Engine


@pytest.mark.every_engine
def test_enter_sends_and_shift_enter_breaks_the_line(chat: Chat, api: Api) -> None:
    chat.box.press_sequentially("one")
    chat.box.press("Shift+Enter")
    chat.box.press_sequentially("two")
    expect(chat.box).to_have_value("one\ntwo")
    chat.box.press("Enter")
    chat.expect_status("completed")
    assert api.read(chat.conversation_id)["messages"]["data"][0]["content"] == "one\ntwo"


def test_enter_breaks_the_line_on_touch(visit: Visit) -> None:
    chat = visit(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    chat.box.press_sequentially("one")
    chat.box.press("Enter")
    expect(chat.box).to_have_value("one\n")
    expect(chat.messages).to_have_count(0)
    tap(chat.action)
    chat.expect_status("completed")


def test_nothing_is_sent_twice_or_empty(chat: Chat, upstream: Upstream) -> None:
    message = unique("Once #n=20,r=40#")
    chat.send("  \n ")
    expect(chat.action).to_be_disabled()
    chat.box.fill(message)
    chat.action.dblclick()
    chat.expect_status("completed")
    assert len(asked(upstream, message)) == 1


def test_enter_is_left_to_an_input_method(chat: Chat, browser: Engine) -> None:
    ime = browser.input_method(chat.page)
    chat.box.focus()
    ime.compose("ni hao")
    expect(chat.box).to_have_value("ni hao")
    ime.press("Enter")  # as most browsers send it
    ime.press("Enter", code=13)  # only isComposing shows it
    ime.commit("你好")
    ime.press("Enter", code=13)  # the Enter that has ended the composition
    ime.press("Enter")  # the same, as Safari sends it
    expect(chat.box).to_have_value("你好")
    expect(chat.messages).to_have_count(0)
    chat.box.press("Enter")
    expect(chat.messages).to_have_count(2)


def test_enter_is_left_to_an_input_method_on_a_phone(visit: Visit, browser: Engine, api: Api) -> None:
    chat = visit(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    ime = browser.input_method(chat.page)
    tap(chat.box)
    ime.compose("nihao")
    for code in (229, 13):
        ime.press("Enter", code)
    expect(chat.box).to_have_value("nihao")
    ime.commit("你好")
    tap(chat.action)
    chat.expect_status("completed")
    assert api.read(chat.conversation_id)["messages"]["data"][0]["content"] == "你好"


@pytest.mark.every_engine
def test_draft_survives_a_reload(chat: Chat) -> None:
    chat.ask("First")
    chat.box.fill("Half a thought, 半句话")
    chat.page.reload()
    expect(chat.box).to_have_value("Half a thought, 半句话")
    chat.page.get_by_role("link", name="New conversation").click()
    expect(chat.box).to_have_value("")


def test_unsent_message_returns_to_the_box(chat: Chat, api: Api) -> None:
    message = unique("Offline")
    chat.page.context.set_offline(offline=True)
    chat.send(message)
    expect(chat.notice).to_contain_text("The server cannot be reached.")
    expect(chat.box).to_have_value(message)
    expect(chat.messages).to_have_count(0)
    chat.page.context.set_offline(offline=False)
    chat.expect_status("completed")
    expect(chat.notice).to_have_count(0)
    expect(chat.box).to_have_value("")
    stored = api.read(chat.conversation_id)["messages"]["data"]
    assert [one["content"] for one in stored] == [message, reply_to(message)]


def test_edited_message_is_not_sent_when_the_server_is_reachable_again(chat: Chat, api: Api) -> None:
    chat.page.context.set_offline(offline=True)
    chat.send(unique("Offline"))
    expect(chat.notice).to_contain_text("The server cannot be reached.")
    chat.box.fill("Half a new thought")
    elsewhere = unique("Elsewhere")
    api.chat(elsewhere)
    chat.page.context.set_offline(offline=False)
    expect(chat.notice).to_have_count(0)
    expect(chat.entries.filter(has_text=elsewhere)).to_be_visible()
    expect(chat.box).to_have_value("Half a new thought")
    expect(chat.messages).to_have_count(0)


def test_message_with_a_lost_answer_is_not_sent_twice(visit: Visit, upstream: Upstream, tmp_path: Path) -> None:
    """The server stores a message and is killed before it answers. Starts it twice: some seconds."""
    message = unique("Older #fault=hang_headers#")
    env = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "test-key"}
    with Server("flask", tmp_path, env) as server:
        chat = visit(server)
        chat.send(message)
        assert upstream.wait_for(lambda _: len(asked(upstream, message)) == 1)
        chat.box.fill("Newer")
        server.kill()
        expect(chat.notice).to_contain_text(f"Not sent: “{message}”")
        server.start()
        chat.notice.get_by_role("button", name="Try again").click()
        chat.expect_status("interrupted")
        expect(chat.box).to_have_value("Newer")
        assert Api(server).read(chat.conversation_id)["message_count"] == 2
        assert len(asked(upstream, message)) == 1
