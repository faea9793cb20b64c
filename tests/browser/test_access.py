"""Accessibility of the page: axe, keyboard, focus, touch, motion, themes and screen readers."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.chat import Chat, tap
from tests.browser.conftest import Visit
from tests.http.api import Api, unique

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
# Includes a rule that axe runs only on request: an accessible name contains the visible label.
FINDINGS = """() => axe.run(document, {
    resultTypes: ['violations'], rules: { 'label-content-name-mismatch': { enabled: true } },
}).then(({ violations }) => violations
    .flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html}`)))"""
TARGETS = """() => [...document.querySelectorAll('button, a, input, textarea, summary, [role^=menuitem]')]
    .filter((node) => node.checkVisibility({ visibilityProperty: true }) && !node.closest('[inert], p'))
    .map((node) => [node.outerHTML.slice(0, 80), node.getBoundingClientRect()])
    .filter(([, { width, height }]) => Math.min(width, height) < 40)
    .map(([html, { width, height }]) => `${width} by ${height}: ${html}`)"""
# Fields show focus by their border.
FOCUS = """() => {
    const node = document.activeElement;
    const field = node.closest('#composer, .search');
    const accent = getComputedStyle(document.querySelector('.link')).color;
    const style = getComputedStyle(field ?? node);
    const color = field ? style.borderTopColor : style.outlineStyle === 'solid' && style.outlineColor;
    return [node.id || node.className || node.tagName, color === accent];
}"""
GROUND = "() => getComputedStyle(document.body).backgroundColor"
LIGHT, DARK = "rgb(251, 251, 249)", "rgb(23, 25, 24)"


def states(chat: Chat) -> Iterator[str]:
    """Bring the page into several states, and yield the name of each."""
    page = chat.page
    yield "empty page"
    chat.ask("Say much, with code\n```python\nprint('hello')\n```\n[and](https://example.com) a table #think=2#")
    expect(page.locator("#conversation-menu")).to_be_visible()
    yield "conversation"
    page.locator("#conversation-menu").click()
    yield "menu"
    page.keyboard.press("Escape")
    page.keyboard.press("Control+/")
    yield "dialog"
    page.keyboard.press("Escape")
    chat.page.set_viewport_size({"width": 390, "height": 844})
    page.locator("#menu").click()
    expect(page.locator("#new")).to_be_focused()
    page.get_by_role("searchbox").fill("much")
    expect(page.locator("mark").first).to_be_visible()
    yield "drawer"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_axe_reports_no_serious_violation(visit: Visit, scheme: str, locale: str) -> None:
    """Axe checks five states of the page: some seconds."""
    chat = visit(color_scheme=scheme, locale=locale, reduced_motion="reduce")
    chat.page.evaluate(AXE)
    for state in states(chat):
        assert chat.page.evaluate(FINDINGS) == [], state


def test_axe_reports_a_violation(chat: Chat) -> None:
    """Proves that the test above can fail."""
    chat.page.evaluate(AXE)
    chat.page.evaluate("() => { document.getElementById('message').style.color = '#eee'; }")
    chat.page.evaluate("() => document.getElementById('search').removeAttribute('aria-label')")
    chat.page.evaluate("() => { document.querySelector('.brand').style.color = '#ddd'; }")
    assert any("color-contrast" in finding for finding in chat.page.evaluate(FINDINGS))


def test_screen_readers_announce_start_and_end_but_no_tokens(chat: Chat) -> None:
    chat.page.evaluate("""() => {
        window.heard = [];
        const note = ([{ target }]) => window.heard.push(target.textContent);
        for (const node of document.querySelectorAll('[aria-live=polite], [role=alert], [role=status]')) {
            new MutationObserver(note).observe(node, { childList: true, characterData: true, subtree: true });
        }
    }""")
    chat.ask("Slowly #n=20,r=40#")
    assert chat.page.evaluate("window.heard") == ["The reply begins.", "The reply is complete."]
    expect(chat.page.get_by_role("log")).to_have_attribute("aria-live", "off")


@pytest.mark.every_engine
def test_menu_works_with_the_keyboard(chat: Chat) -> None:
    chat.ask(unique("By keys"))
    menu = chat.page.get_by_role("main").get_by_role("button", name="Actions")
    focused = chat.page.locator(":focus")
    menu.focus()
    for key, name in (
        ("ArrowUp", "Delete"),
        ("ArrowDown", "Rename"),
        ("ArrowDown", "Keep"),
        ("j", "JSON"),
        ("End", "Delete"),
        ("Home", "Rename"),
        ("ArrowUp", "Delete"),
    ):
        chat.page.keyboard.press(key)
        expect(focused).to_have_text(name)
        expect(menu).to_have_attribute("aria-expanded", "true")
    chat.page.keyboard.press("Escape")
    expect(menu).to_be_focused()
    expect(menu).to_have_attribute("aria-expanded", "false")
    expect(chat.page.get_by_role("menu")).to_have_count(0)


def test_focus_moves_to_a_neighbour_after_a_deletion_by_keyboard(chat: Chat, api: Api) -> None:
    older, newer = (unique(name) for name in ("Older", "Newer"))
    for title in (older, newer):
        api.chat(title)
    chat.page.reload()
    row = chat.page.get_by_role("listitem").filter(has_text=newer)
    row.get_by_role("link").focus()
    for key in ("Tab", "Enter", "End", "Enter"):
        chat.page.keyboard.press(key)
    expect(chat.page.get_by_role("link", name=older)).to_be_focused()
    expect(chat.page.get_by_role("status")).to_contain_text("is deleted")
    chat.page.keyboard.press("Control+z")
    expect(row.get_by_role("link")).to_be_focused()


def test_focus_is_visible_on_every_control(chat: Chat) -> None:
    title = unique("Focus")
    chat.ask(title)
    chat.page.get_by_role("searchbox").fill(title)
    expect(chat.entries).to_have_count(1)
    chat.page.locator("#language").focus()
    seen = {"language"}
    while "message" not in seen:
        chat.page.keyboard.press("Tab")
        name, visible = chat.page.evaluate(FOCUS)
        assert visible, name
        seen.add(name)
    assert {"new", "search", "entry", "tool", "settings", "conversation-menu"} <= seen


def test_drawer_traps_focus_and_restores_it(visit: Visit) -> None:
    chat = visit(**PHONE)
    opener = chat.page.get_by_role("button", name="Show conversations")
    tap(opener)
    expect(chat.page.get_by_role("link", name="New conversation")).to_be_focused()
    for _ in range(30):
        chat.page.keyboard.press("Tab")
        assert chat.page.evaluate("document.activeElement.closest('main') === null")
    while not chat.page.evaluate("document.hasFocus()"):  # Firefox continues to the buttons of its window
        chat.page.keyboard.press("Tab")
    chat.page.get_by_role("link", name="New conversation").focus()
    chat.page.keyboard.press("Escape")
    expect(opener).to_be_focused()
    expect(opener).to_have_attribute("aria-expanded", "false")


def test_controls_are_large_enough_on_a_phone(visit: Visit, api: Api) -> None:
    """Waits before each check, because the drawer moves."""
    chat = visit(**PHONE)
    title = unique("On the phone")
    chat.box.fill(f"{title}\n```python\nprint('a')\n```")
    check_phone(chat.page)
    tap(chat.action)
    chat.expect_status("completed")
    check_phone(chat.page)
    tap(chat.page.get_by_role("button", name="Show conversations"))
    check_phone(chat.page)
    entry = chat.page.get_by_role("listitem").filter(has_text=title)
    tap(entry.get_by_role("button"))
    check_phone(chat.page)
    tap(chat.page.get_by_role("menuitem", name="Keep"))
    tap(entry.get_by_role("button"))
    tap(chat.page.get_by_role("menuitem", name="Delete"))
    check_phone(chat.page)
    tap(chat.page.get_by_role("button", name="Undo"))
    expect(chat.reply).to_contain_text(title)
    assert api.read(chat.conversation_id)["pinned"]
    tap(chat.page.get_by_role("button", name="Show conversations"))
    tap(chat.page.get_by_role("button", name="Hide conversations"))
    expect(entry).not_to_be_visible()


def check_phone(page: Page) -> None:
    """Every visible control is large enough for touch, and nothing is wider than the screen."""
    page.wait_for_timeout(250)
    assert page.evaluate(TARGETS) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_reduced_motion_disables_animations(visit: Visit) -> None:
    for motion, moving in (("no-preference", True), ("reduce", False)):
        chat = visit(reduced_motion=motion)
        chat.send("Go on #n=500,r=20#")
        chat.wait_for_text()
        chat.page.wait_for_function("moving => document.getAnimations().length > 0 === moving", arg=moving)
        chat.page.keyboard.press("Escape")
        chat.expect_status("stopped")


def test_theme_is_selected_and_kept(visit: Visit) -> None:
    """Loads the page five times."""
    chat = visit(color_scheme="light")
    for theme, ground in (("Dark", DARK), ("Light", LIGHT), ("Dark", DARK), ("System", LIGHT)):
        chat.page.get_by_role("button", name="Settings").click()
        chat.page.get_by_role("menuitemradio", name=theme).click()
        assert chat.page.evaluate(GROUND) == ground
        chat.page.reload()
        assert chat.page.evaluate(GROUND) == ground
        chat.page.get_by_role("button", name="Settings").click()
        expect(chat.page.get_by_role("menuitemradio", name=theme)).to_have_attribute("aria-checked", "true")
        chat.page.keyboard.press("Escape")


def without_modules(route: Route) -> None:
    if route.request.url.endswith("theme.js"):
        route.continue_()
    else:
        route.abort()


def test_dark_page_never_flashes_light(visit: Visit) -> None:
    """A script before the styles sets the theme, so the page is dark before any module runs."""
    chat = visit(color_scheme="light")
    chat.page.evaluate("localStorage.setItem('chatkeep.theme', '\"dark\"')")
    chat.page.route("**/*.js", without_modules)
    chat.page.reload()
    assert chat.page.evaluate(GROUND) == DARK
    assert chat.page.locator("meta[name=color-scheme]").get_attribute("content") == "dark"
    first = chat.page.locator("head script, head link[rel=stylesheet]").first
    assert str(first.get_attribute("src")).endswith("theme.js")
    assert [first.get_attribute(name) for name in ("type", "async", "defer")] == [None, None, None]
