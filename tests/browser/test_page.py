"""The page around the messages: languages, sizes, themes, printing and the content policy."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.chat import Chat, bare, tap
from tests.browser.conftest import Visit
from tests.http.api import unique
from tests.upstream import reply_to

PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 640}, "is_mobile": True, "has_touch": True}
ELSEWHERE = "http://127.0.0.2:9/pixel.png"


def test_title_appears_when_the_reply_begins(chat: Chat) -> None:
    title = unique("Title")
    chat.send(f"{title} #n=500,r=20#")
    expect(chat.page.get_by_role("heading", level=1)).to_contain_text(title)
    expect(chat.page.get_by_role("link", name=title)).to_have_attribute("aria-current", "page")
    chat.expect_status("generating")
    chat.page.keyboard.press("Escape")
    chat.expect_status("stopped")


def test_screen_readers_announce_start_and_end(chat: Chat) -> None:
    chat.send("Slowly #n=20,r=40#")
    expect(chat.page.get_by_role("status")).to_have_text("The reply begins.")
    expect(chat.page.get_by_role("log")).to_have_attribute("aria-live", "off")
    expect(chat.page.get_by_role("status")).to_have_text("The reply is complete.")


def test_page_uses_the_browser_language(visit: Visit) -> None:
    chat = visit(locale="zh-CN")
    expect(chat.page.get_by_role("heading", name="想聊点什么")).to_be_visible()
    expect(chat.page.get_by_role("textbox", name="消息")).to_have_attribute("placeholder", "消息")
    expect(chat.page.locator("html")).to_have_attribute("lang", "zh-CN")
    chat.ask("你好")
    expect(chat.reply).to_contain_text("AI 生成")
    assert chat.text == bare(reply_to("你好"))


def test_language_can_be_changed_and_is_kept(chat: Chat) -> None:
    chat.page.get_by_role("button", name="Switch to Chinese").click()
    expect(chat.page.get_by_role("button", name="发送")).to_be_visible()
    chat.page.reload()
    expect(chat.page.get_by_role("link", name="新对话")).to_be_visible()


def test_language_changes_in_all_tabs(chat: Chat) -> None:
    other = Chat(chat.page.context.new_page(), chat.url)
    other.open()
    expect(other.page.get_by_role("link", name="New conversation")).to_be_visible()
    chat.page.bring_to_front()
    chat.page.get_by_role("button", name="Switch to Chinese").click()
    expect(other.page.get_by_role("link", name="新对话")).to_be_visible()
    expect(other.page.locator("html")).to_have_attribute("lang", "zh-CN")


def test_errors_use_the_language_of_the_page(chat: Chat) -> None:
    chat.page.get_by_role("button", name="Switch to Chinese").click()
    with chat.page.expect_request("**/api/conversations?*") as request:
        chat.page.reload()
    assert request.value.header_value("Accept-Language") == "zh"


def test_console_stays_empty(chat: Chat) -> None:
    said: list[str] = []
    chat.page.on("console", lambda message: said.append(message.text))
    chat.page.reload()
    chat.ask(unique("Is anything wrong?"))
    assert said == []


@pytest.mark.parametrize(("locale", "words"), [("en-GB", "Your browser is too old"), ("zh-CN", "浏览器版本过低")])
def test_too_old_browser_gets_a_notice(visit: Visit, locale: str, words: str) -> None:
    chat = visit(locale=locale)
    expect(chat.page.locator("#new")).to_be_visible()
    expect(chat.page.locator(".too-old")).to_have_count(0)
    chat.page.add_init_script("delete HTMLElement.prototype.inert")
    chat.page.route("**/chat.js", lambda route: route.abort())  # such a browser may not support modules
    chat.page.reload()
    expect(chat.page.locator(".too-old")).to_contain_text(words)
    expect(chat.page.locator(".too-old")).to_have_css("background-color", "rgb(253, 244, 220)")


@pytest.mark.chromium("it emulates paper")
def test_only_the_conversation_is_printed(visit: Visit) -> None:
    chat = visit(color_scheme="dark")
    title = unique("On paper")
    chat.ask(f"{title} #n=1500,seed=2#")
    chat.page.emulate_media(media="print")
    expect(chat.page.get_by_role("heading", name=title)).to_be_visible()
    for place in ("#side", "#composer", "#expiry", "#keep-hint", ".tools", "button"):
        assert [node.is_visible() for node in chat.page.locator(place).all() if node.is_visible()] == [], place
    assert chat.page.evaluate("getComputedStyle(document.body).color") == "rgb(30, 36, 34)"
    last = chat.reply.locator("footer").evaluate("node => node.getBoundingClientRect().bottom")
    assert chat.page.evaluate("document.documentElement.scrollHeight") >= last > 2000
    pages = len(re.findall(rb"/Type ?/Page\b", chat.page.pdf()))
    assert pages >= 2


@pytest.mark.parametrize("profile", [PHONE, {"viewport": {"width": 1280, "height": 800}}], ids=["phone", "desktop"])
def test_page_never_scrolls_sideways(visit: Visit, profile: dict[str, Any]) -> None:
    chat = visit(**profile)
    chat.box.fill("w" * 300 + "\n```\n" + "code " * 100 + "\n```\n" + "| a | " * 99)
    chat.action.click()
    chat.expect_status("completed")
    for place in ("html", "body", "#scroller", "#side"):
        wide, visible = chat.page.locator(place).evaluate("node => [node.scrollWidth, node.clientWidth]")
        assert wide == visible, place


@pytest.mark.chromium("it emulates a notch")
def test_safe_area_insets_are_respected(visit: Visit) -> None:
    chat = visit(**PHONE)
    insets = {"top": 47, "topMax": 47, "bottom": 34, "bottomMax": 34}
    chat.page.context.new_cdp_session(chat.page).send("Emulation.setSafeAreaInsetsOverride", {"insets": insets})
    title, box = (
        chat.page.locator(place).evaluate("node => (({ top, bottom }) => [top, bottom])(node.getBoundingClientRect())")
        for place in ("#title", "#composer")
    )
    assert title[0] >= 47
    assert 640 - 34 - 5 <= box[1] <= 640 - 34


def test_list_is_a_drawer_on_a_phone(visit: Visit) -> None:
    chat = visit(**PHONE)
    title = unique("On the phone")
    chat.box.fill(title)
    tap(chat.action)
    chat.expect_status("completed")
    entry = chat.page.get_by_role("link", name=title)
    expect(entry).not_to_be_visible()
    tap(chat.page.get_by_role("button", name="Show conversations"))
    tap(chat.page.get_by_role("link", name="New conversation"))
    expect(chat.messages).to_have_count(0)
    tap(chat.page.get_by_role("button", name="Show conversations"))
    tap(entry)
    expect(entry).not_to_be_visible()
    expect(chat.reply).to_contain_text(title)


def test_colour_scheme_is_respected(visit: Visit) -> None:
    for scheme, sign in (("light", 1), ("dark", -1)):
        body = visit(color_scheme=scheme).page.locator("body")
        ground, ink = (
            sum(int(part) for part in re.findall(r"\d+", body.evaluate(f"node => getComputedStyle(node).{name}"))[:3])
            for name in ("backgroundColor", "color")
        )
        assert (ground - ink) * sign > 400


def test_scroll_bars_use_theme_colours(visit: Visit) -> None:
    """Firefox 115 paints them white otherwise; `./dev browsers` shows its scroll bars."""
    for scheme, bar in (("light", "rgb(92, 102, 99)"), ("dark", "rgb(160, 170, 166)")):
        scroller = visit(color_scheme=scheme).page.locator("#scroller")
        expect(scroller).to_have_css("scrollbar-color", f"{bar} rgba(0, 0, 0, 0)")


def test_injected_content_neither_runs_nor_loads(chat: Chat) -> None:
    """Proves that the policy is enforced, and that `Chat` detects violations."""
    injected = {f'<img src="{ELSEWHERE}">': "img-src", '<img src="data:," onerror="window.harmed = 1">': "script-src"}
    for markup, directive in injected.items():
        chat.page.evaluate("markup => { document.body.innerHTML = markup }", markup)
        while not any(directive in complaint for complaint in chat.complaints):
            chat.page.wait_for_timeout(20)
    assert chat.page.evaluate("window.harmed") is None
    chat.complaints.clear()
