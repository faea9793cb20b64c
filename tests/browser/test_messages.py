"""Actions on messages, and their behaviour while they arrive."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.chat import Chat, bare
from tests.browser.conftest import Visit
from tests.http.api import Api, asked, unique
from tests.servers import Server
from tests.upstream import Upstream, reply_to

if TYPE_CHECKING:
    from tests.browser.engines import Engine

TOUCH = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


def tool(message: Locator, name: str) -> Locator:
    """Return a button of a message, which appears on hover."""
    return message.locator(".tools").get_by_role("button", name=name)


def contents(api: Api, chat: Chat) -> list[str]:
    return [message["content"] for message in api.read(chat.conversation_id)["messages"]["data"]]


def test_reply_is_copied_as_markdown(visit: Visit) -> None:
    chat = visit(permissions=["clipboard-read", "clipboard-write"])
    chat.ask("x **bold**\n\n- `one`\n")
    tool(chat.reply, "Copy").click()
    expect(chat.page.get_by_role("status")).to_have_text("Copied")
    assert chat.page.evaluate("navigator.clipboard.readText()") == reply_to("x **bold**\n\n- `one`\n")


def test_reply_can_be_regenerated(chat: Chat, api: Api, upstream: Upstream) -> None:
    chat.ask(message := unique("Again?"))
    upstream.script("n=8,r=40,seed=9")
    tool(chat.reply, "Regenerate").click()
    chat.wait_for(reply_to("", "n=8,seed=9"))
    chat.expect_status("completed")
    expect(chat.messages).to_have_count(2)
    expect(chat.reply.locator(".count")).to_have_text("2/2")
    assert contents(api, chat) == [message, reply_to("", "n=8,seed=9")]


def test_siblings_can_be_browsed(chat: Chat, api: Api, upstream: Upstream) -> None:
    chat.ask(message := unique("Which one?"))
    upstream.script("n=8,seed=9")
    tool(chat.reply, "Regenerate").click()
    expect(chat.reply.locator(".count")).to_have_text("2/2")
    tool(chat.reply, "Previous version").click()
    expect(chat.reply.locator(".count")).to_have_text("1/2")
    assert chat.text == bare(reply_to(message))
    assert contents(api, chat) == [message, reply_to(message)]
    expect(tool(chat.reply, "Previous version")).to_be_disabled()
    expect(tool(chat.reply, "Next version")).to_be_focused()
    chat.page.keyboard.press("Enter")
    chat.wait_for(reply_to("", "n=8,seed=9"))


def test_message_can_be_edited_in_place(chat: Chat, api: Api) -> None:
    chat.ask(first := unique("First"))
    chat.ask("Second")
    edited = chat.messages.first
    edited.hover()
    tool(edited, "Edit").click()
    box = edited.get_by_role("textbox", name="Edit the message")
    expect(box).to_be_focused()
    box.press_sequentially(" of all")
    box.press("Shift+Enter")
    box.press_sequentially("ones")
    box.press("Enter")
    expect(chat.messages).to_have_count(2)
    chat.wait_for(f"You said: {first} of all\nones")
    chat.expect_status("completed")
    expect(chat.messages.first.locator(".count")).to_have_text("2/2")
    assert contents(api, chat)[0] == f"{first} of all\nones"
    tool(chat.messages.first, "Previous version").click()
    expect(chat.messages).to_have_count(4)


def test_editing_can_be_cancelled(chat: Chat, api: Api) -> None:
    chat.ask("First")
    chat.messages.first.hover()
    tool(chat.messages.first, "Edit").click()
    chat.page.keyboard.type(" thought")
    chat.page.keyboard.press("Escape")
    assert chat.messages.first.locator(".body").inner_text() == "First"
    expect(tool(chat.messages.first, "Edit")).to_be_focused()
    assert len(contents(api, chat)) == 2


def test_unsent_edit_is_not_lost(chat: Chat, api: Api, upstream: Upstream) -> None:
    chat.ask("First")
    changed = unique("Changed")
    tool(chat.messages.first, "Edit").click()
    chat.page.context.set_offline(offline=True)
    box = chat.messages.first.get_by_role("textbox")
    box.fill(changed)
    box.press("Enter")
    expect(chat.notice).to_contain_text("cannot be reached")
    expect(box).to_have_value(changed)
    expect(chat.messages).to_have_count(2)
    chat.page.context.set_offline(offline=False)
    chat.wait_for(f"You said: {changed}")
    expect(chat.notice).to_have_count(0)
    assert contents(api, chat)[0] == changed
    assert len(asked(upstream, changed)) == 1


def test_messages_cannot_be_edited_while_a_reply_is_generated(chat: Chat) -> None:
    chat.ask("First")
    chat.send("Slowly #n=500,r=20#")
    chat.wait_for_text()
    chat.messages.first.hover()
    expect(tool(chat.messages.first, "Copy")).to_be_visible()
    expect(tool(chat.messages.first, "Edit")).to_be_hidden()
    chat.page.keyboard.press("Escape")
    chat.expect_status("stopped")
    expect(tool(chat.messages.first, "Edit")).to_be_visible()


def test_every_button_is_reachable_by_keyboard_and_touch(chat: Chat, visit: Visit) -> None:
    chat.ask("x\n```\ncode\n```")
    expect(tool(chat.messages.first, "Copy")).to_have_css("opacity", "0")
    tool(chat.messages.first, "Copy").focus()
    expect(tool(chat.messages.first, "Copy")).to_have_css("opacity", "1")
    phone = visit(**TOUCH)
    phone.open(chat.conversation_id)
    for button in phone.messages.get_by_role("button").all():
        expect(button).to_have_css("opacity", "1")
        box = button.bounding_box()
        assert box
        assert min(box["width"], box["height"]) >= 40


def test_reasoning_is_shown_with_its_duration(chat: Chat) -> None:
    """The model reasons for more than a second."""
    chat.send("Think first #think=30,r=20,n=200#")
    summary = chat.reply.locator("summary")
    expect(summary).to_have_text("Thinking…")
    expect(chat.reply.locator(".reasoning")).to_be_hidden()
    expect(summary).to_have_text(re.compile(r"Thought for [1-9]\d?s"))
    summary.click()
    expect(chat.reply.locator(".reasoning")).to_contain_text("thought 0 thought 1")
    chat.page.keyboard.press("Escape")
    chat.expect_status("stopped")


def turn_wheel(chat: Chat) -> None:
    chat.page.locator("#scroller").hover()
    chat.page.mouse.wheel(0, -10)


def swipe(chat: Chat) -> None:
    finger = chat.page.context.new_cdp_session(chat.page)
    finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": 200, "y": 200}]})
    for y in range(205, 265, 5):
        finger.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": 200, "y": y}]})
    chat.page.wait_for_timeout(200)  # a finger that rests before lifting causes no momentum
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    chat.page.wait_for_timeout(100)


def drag_scroll_bar(chat: Chat) -> None:
    chat.page.locator("#scroller").evaluate("node => node.scrollBy(0, -40)")


SWIPE = pytest.param(swipe, marks=pytest.mark.chromium("it emulates fingers that move"))


@pytest.mark.parametrize("scroll_up", [turn_wheel, SWIPE, drag_scroll_bar])
def test_page_follows_the_text_until_the_user_scrolls_up(visit: Visit, scroll_up: Callable[[Chat], None]) -> None:
    """The reply takes some seconds."""
    chat = visit(**TOUCH) if scroll_up is swipe else visit()
    chat.box.fill("Long #n=1500,r=200,seed=3#")
    chat.action.click()
    to_end = chat.page.get_by_role("button", name="Scroll to the end")
    wait_for_top(chat, 200)
    scroll_up(chat)
    expect(to_end).to_be_visible()
    stayed = top(chat)
    chat.page.wait_for_timeout(300)
    assert top(chat) == stayed
    to_end.click()
    expect(to_end).to_be_hidden()
    wait_for_top(chat, stayed + 100)
    chat.page.keyboard.press("Escape")
    chat.expect_status("stopped")


def wait_for_top(chat: Chat, least: float) -> None:
    while top(chat) < least:
        chat.page.wait_for_timeout(20)


def top(chat: Chat) -> float:
    return float(chat.page.locator("#scroller").evaluate("node => node.scrollTop"))


def test_selection_stays_while_text_arrives(chat: Chat) -> None:
    chat.send(
        "#r=30# alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau"
    )
    chat.wait_for("You said: #r=30# alpha beta gamma")
    chat.page.evaluate(
        """() => getSelection().setBaseAndExtent(...[0, 8].flatMap(at => [
            document.querySelector('.assistant .body p').firstChild, at]))"""
    )
    chat.expect_status("completed")
    assert chat.page.evaluate("getSelection().toString()") == "You said"


@pytest.fixture(scope="module")
def long_conversation(site: Server) -> str:
    """The id of a conversation with 120 messages; the page loads 50 at once. Takes some seconds."""
    api = Api(site)
    conversation: str = api.chat("Message 0")["conversation_id"]
    for number in range(1, 60):
        api.chat(f"Message {number}", conversation_id=conversation)
    return conversation


# In one step, so that nothing can load in between.
SCROLL_UP = "node => (document.querySelector('#scroller').scrollTop = 300, node.getBoundingClientRect().top)"
PLACE = "node => node.getBoundingClientRect().top"


def test_scrolling_up_loads_older_messages_without_a_jump(chat: Chat, long_conversation: str) -> None:
    chat.open(long_conversation)
    expect(chat.messages).to_have_count(50)
    pages: list[str] = []
    chat.page.on("request", lambda request: pages.extend(re.findall("after=", request.url)))
    for count in (100, 120):
        oldest = chat.messages.first.element_handle()
        place = oldest.evaluate(SCROLL_UP)
        expect(chat.messages).to_have_count(count)
        assert abs(oldest.evaluate(PLACE) - place) < 2
    expect(chat.page.get_by_role("button", name="Earlier messages")).to_have_count(0)
    assert len(pages) == 2


def test_page_up_in_the_message_box_loads_older_messages(chat: Chat, long_conversation: str) -> None:
    chat.open(long_conversation)
    expect(chat.messages).to_have_count(50)
    expect(chat.box).to_be_focused()
    while chat.messages.count() < 120:
        chat.page.keyboard.press("PageUp")
    chat.page.keyboard.type("Half a thought")
    expect(chat.box).to_have_value("Half a thought")
    before = top(chat)
    chat.page.keyboard.press("PageDown")
    wait_for_top(chat, before + 100)


def test_button_retries_loading_older_messages(chat: Chat, long_conversation: str) -> None:
    chat.open(long_conversation)
    expect(chat.messages).to_have_count(50)
    chat.page.route("**/api/conversations/*after=*", lambda route: route.abort())
    chat.messages.first.evaluate(SCROLL_UP)
    expect(chat.notice).to_contain_text("cannot be reached")
    chat.page.unroute("**/api/conversations/*after=*")
    earlier = chat.page.get_by_role("button", name="Earlier messages")
    earlier.focus()
    chat.page.keyboard.press("Enter")
    expect(chat.messages).to_have_count(100)
    expect(earlier).to_be_focused()
    chat.page.keyboard.press("Enter")
    expect(chat.messages).to_have_count(120)
    expect(chat.page.locator("#scroller")).to_be_focused()


def test_escape_is_left_to_an_input_method_while_it_composes(chat: Chat, browser: Engine) -> None:
    chat.send("Slowly #n=500,r=20#")
    chat.wait_for_text()
    ime = browser.input_method(chat.page)
    chat.box.focus()
    ime.compose("ni hao")
    for code in (229, 27):
        ime.press("Escape", code)
    chat.page.wait_for_timeout(300)
    chat.expect_status("generating")
    expect(chat.action).to_have_accessible_name("Stop")
    ime.commit("你好")
    chat.box.press("Escape")
    chat.expect_status("stopped")
    expect(chat.box).to_have_value("你好")
