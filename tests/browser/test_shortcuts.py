"""Keyboard shortcuts of the page, which leave input methods alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.chat import Chat
from tests.browser.conftest import Visit
from tests.http.api import Api, eventually, unique

if TYPE_CHECKING:
    from tests.browser.engines import Engine


def test_ctrl_shift_o_starts_a_conversation(chat: Chat) -> None:
    chat.ask("First")
    chat.page.keyboard.press("Control+Shift+O")
    expect(chat.messages).to_have_count(0)
    expect(chat.box).to_be_focused()
    assert chat.conversation_id == ""


def test_ctrl_k_focuses_the_search_and_escape_returns(chat: Chat) -> None:
    chat.page.keyboard.press("Control+k")
    search = chat.page.get_by_label("Search conversations")
    expect(search).to_be_focused()
    chat.page.keyboard.type("hay")
    chat.page.keyboard.press("Escape")
    expect(search).to_have_value("")
    chat.page.keyboard.press("Escape")
    expect(chat.box).to_be_focused()


def test_ctrl_k_opens_the_drawer_of_a_phone(visit: Visit) -> None:
    chat = visit(viewport={"width": 390, "height": 844})
    chat.page.keyboard.press("Control+k")
    expect(chat.page.get_by_label("Search conversations")).to_be_focused()
    chat.page.keyboard.press("Escape")
    expect(chat.page.get_by_label("Search conversations")).not_to_be_visible()


def test_ctrl_slash_toggles_the_list_of_shortcuts(chat: Chat) -> None:
    chat.box.focus()
    dialog = chat.page.get_by_role("dialog", name="Keyboard shortcuts")
    for close in ("Escape", "Control+/"):
        chat.page.keyboard.press("Control+/")
        expect(dialog).to_be_visible()
        for shortcut in ("New conversation Ctrl Shift O", "Search Ctrl K", "Keyboard shortcuts Ctrl /"):
            expect(dialog).to_contain_text(shortcut.replace(" Ctrl", "Ctrl", 1))
        chat.page.keyboard.press("Control+k")
        expect(dialog).to_be_visible()
        chat.page.keyboard.press(close)
        expect(dialog).to_have_count(0)
        expect(chat.box).to_be_focused()


def test_shortcuts_use_cmd_on_a_mac(visit: Visit) -> None:
    chat = visit()
    chat.page.add_init_script("Object.defineProperty(navigator, 'platform', { get: () => 'MacIntel' })")
    chat.page.reload()
    expect(chat.page.locator("#search-keys")).to_have_text("⌘ K")
    chat.page.keyboard.press("Control+/")
    expect(chat.page.get_by_role("dialog")).to_have_count(0)
    chat.page.keyboard.press("Meta+/")
    expect(chat.page.get_by_role("dialog")).to_be_visible()


@pytest.mark.parametrize("code", [229, 0], ids=["by its code", "by isComposing"])
def test_shortcuts_are_left_to_an_input_method(chat: Chat, browser: Engine, code: int) -> None:
    ime = browser.input_method(chat.page)
    chat.box.focus()
    ime.compose("n", "ni", "你")
    for key in ("k", "/"):
        ime.press(key, code or ord(key.upper()), ctrl=True)
    expect(chat.box).to_be_focused()
    expect(chat.page.get_by_role("dialog")).to_have_count(0)
    ime.commit("你")
    chat.page.keyboard.press("Control+k")
    expect(chat.page.get_by_label("Search conversations")).to_be_focused()


def test_enter_sends_only_after_the_composition(chat: Chat, browser: Engine, api: Api) -> None:
    ime = browser.input_method(chat.page)
    chat.box.focus()
    ime.compose("z", "zh", "zhong", "中", "中w", "中文")
    ime.press("Enter")
    ime.press("Enter", code=13)
    ime.commit("中文")
    ime.press("Enter")
    expect(chat.box).to_have_value("中文")
    expect(chat.messages).to_have_count(0)
    chat.box.press("Enter")
    chat.expect_status("completed")
    assert api.read(chat.conversation_id)["messages"]["data"][0]["content"] == "中文"


def test_enter_and_escape_are_left_to_an_input_method_in_titles(chat: Chat, browser: Engine, api: Api) -> None:
    title = unique("Old")
    chat.ask(title)
    chat.page.get_by_role("main").get_by_role("button", name="Actions").click()
    chat.page.get_by_role("menuitem", name="Rename").click()
    ime = browser.input_method(chat.page)
    ime.compose("x", "xin", "新名")
    for key in ("Enter", "Escape"):
        ime.press(key)
    expect(chat.page.get_by_role("textbox", name="New title")).to_be_focused()
    ime.commit("新名字")
    chat.page.keyboard.press("Enter")
    expect(chat.page.get_by_role("heading", level=1)).to_have_text("新名字")
    assert eventually(lambda: api.read(chat.conversation_id)["title"] == "新名字")


def test_escape_stops_a_reply_only_if_nothing_else_handles_it(chat: Chat) -> None:
    chat.send("Go on #n=500,r=20#")
    chat.wait_for_text()
    menu = chat.page.get_by_role("main").get_by_role("button", name="Actions")
    menu.click()
    expect(menu).to_have_attribute("aria-expanded", "true")
    chat.page.keyboard.press("Escape")
    expect(menu).to_be_focused()
    chat.page.keyboard.press("Control+k")
    expect(chat.page.get_by_label("Search conversations")).to_be_focused()
    chat.page.keyboard.press("Escape")
    expect(chat.box).to_be_focused()
    chat.page.keyboard.press("Control+/")
    expect(chat.page.get_by_role("dialog")).to_be_visible()
    chat.page.keyboard.press("Escape")
    expect(chat.page.get_by_role("dialog")).to_have_count(0)
    chat.expect_status("generating")
    chat.page.keyboard.press("Escape")
    chat.expect_status("stopped")
