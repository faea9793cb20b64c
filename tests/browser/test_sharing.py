"""Sharing by link: the dialog that creates and revokes links, and the shared page."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.chat import Chat, bare
from tests.browser.conftest import Visit
from tests.browser.test_access import AXE, FINDINGS, PHONE, TARGETS
from tests.http.api import Api, unique

DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
CODE = "```python\nprint('hello')\n```"
ATTACK = '<img src=x onerror="window.harmed=1"> [x](javascript:window.harmed=1) <script>window.harmed=1</script>'


def dialog(page: Page) -> Locator:
    return page.get_by_role("dialog", name="Share by link")


def open_dialog(page: Page) -> Locator:
    page.get_by_role("main").get_by_role("button", name="Actions").click()
    page.get_by_role("menuitem", name="Share…").click()
    expect(dialog(page)).to_be_visible()
    return dialog(page)


def make_link(chat: Chat) -> str:
    shown = open_dialog(chat.page)
    shown.get_by_role("button", name="Create a link").click()
    expect(shown.get_by_label("Link", exact=True)).to_be_focused()
    return shown.get_by_label("Link", exact=True).input_value()


def link_of(api: Api, conversation_id: str) -> str:
    made = api.request("POST", f"/api/conversations/{conversation_id}/share").json
    return f"{api.server.url}{made['path']}"


@pytest.mark.parametrize("profile", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_shared_page_shows_only_the_shared_messages(visit: Visit, profile: Any) -> None:
    chat, title = visit(**profile), unique("Read me")
    chat.box.fill(f"{title}\n{CODE}")
    chat.action.click()
    chat.expect_status("completed")
    link = make_link(chat)
    assert link.startswith(f"{chat.url}/shared/")
    page = visit(**profile).page
    page.goto(link)
    expect(page.get_by_role("heading", level=1)).to_have_text(title)
    articles = page.locator("article")
    expect(articles).to_have_count(2)
    expect(articles.last).to_contain_text("AI generated")
    assert bare("".join(articles.last.locator(".body > *").all_text_contents())) == chat.text
    expect(page.get_by_role("textbox")).to_have_count(0)
    for name in ("Edit", "Regenerate", "Actions"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)
    expect(page.locator("html")).to_have_js_property("scrollWidth", profile["viewport"]["width"])


def test_link_is_copied_and_revoked(visit: Visit) -> None:
    chat = visit(permissions=["clipboard-read", "clipboard-write"])
    chat.ask(unique("Shared"))
    link, shown, page = make_link(chat), dialog(chat.page), chat.page
    shown.get_by_role("button", name="Copy the link").click()
    expect(shown.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == link
    page.keyboard.press("Escape")
    expect(shown).to_have_count(0)
    open_dialog(page)
    expect(shown).to_contain_text("Shared since")
    expect(shown.get_by_label("Link", exact=True)).to_have_count(0)
    shown.get_by_role("button", name="Stop sharing").click()
    expect(shown.get_by_role("button", name="Create a link")).to_be_visible()
    page.goto(link)
    expect(page.get_by_role("alert")).to_contain_text("is invalid")


def test_link_is_copied_without_the_clipboard_api(visit: Visit) -> None:
    chat = visit()
    chat.page.evaluate("() => Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    chat.ask(unique("Shared"))
    link = make_link(chat)
    chat.page.evaluate("() => document.addEventListener('copy', () => { window.copied = String(getSelection()); })")
    dialog(chat.page).get_by_role("button", name="Copy the link").click()
    assert chat.page.evaluate("window.copied") == link


def test_malicious_content_does_not_run_on_the_shared_page(visit: Visit, api: Api) -> None:
    page = visit().page
    page.goto(link_of(api, api.chat(f"{ATTACK} #echo#")["conversation_id"]))
    expect(page.locator("article")).to_have_count(2)
    expect(page.locator("article.user")).to_contain_text("onerror")
    assert page.evaluate("window.harmed") is None
    assert page.locator("article img, article script, article a[href^=javascript]").count() == 0


def test_long_shared_conversation_loads_to_its_end(visit: Visit, api: Api) -> None:
    """Takes sixty turns: a second or two."""
    conversation = api.chat("0 #n=2#")["conversation_id"]
    for number in range(1, 60):
        api.chat(f"{number} #n=2#", conversation_id=conversation)
    page = visit().page
    page.goto(link_of(api, conversation))
    expect(page.locator("article").first).to_be_visible()
    page.locator(".foot").scroll_into_view_if_needed()
    expect(page.locator("article")).to_have_count(120)
    texts = page.locator("article.user .body").all_text_contents()
    assert [text.split()[0] for text in texts] == [str(number) for number in range(60)]
    expect(page.get_by_role("button", name="Show more")).to_have_count(0)


def test_shared_running_reply_is_shown_to_its_end(visit: Visit, api: Api) -> None:
    """Waits for the next poll of the page: some seconds."""
    reply = (page := visit().page).locator("article.assistant")
    with api.running(unique("Slowly #n=3000,r=30#")) as running:
        page.goto(link_of(api, running.id))
        expect(reply).to_have_attribute("data-status", "generating")
        api.stop(running.id)
        running.rest()
    expect(reply).to_have_attribute("data-status", "stopped")
    assert bare("".join(reply.locator(".body > *").all_text_contents())) == bare(api.last(running.id)["content"])


@pytest.mark.parametrize(
    ("locale", "cut", "cached"), [("en-GB", "length limit", "From the cache"), ("zh-CN", "达到长度上限", "来自缓存")]
)
def test_shared_page_shows_why_a_reply_ended_and_whether_it_was_cached(
    visit: Visit, api: Api, locale: str, cut: str, cached: str
) -> None:
    same = unique("The same again")
    api.chat(same)
    conversation = api.chat(same)["conversation_id"]
    api.chat("How long? #finish=length#", conversation_id=conversation)
    page = visit(locale=locale).page
    page.goto(link_of(api, conversation))
    replies = page.locator("article.assistant footer")
    expect(replies.last).to_contain_text(cut)
    expect(replies.first).to_contain_text(cached)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_axe_reports_no_serious_violation(visit: Visit, scheme: str, locale: str) -> None:
    """Axe checks three states: some seconds."""
    chat = visit(color_scheme=scheme, locale=locale, reduced_motion="reduce")
    page = chat.page
    page.evaluate(AXE)
    chat.ask(unique(f"Shared\n{CODE}"))
    page.locator("#conversation-menu").click()
    page.get_by_role("menuitem").nth(2).click()
    page.locator("#share .main").click()
    expect(page.locator("#share input")).to_be_visible()
    assert page.evaluate(FINDINGS) == []
    link = page.locator("#share input").input_value()
    for where, ready in ((link, page.locator("article")), (f"{link}x", page.get_by_role("alert"))):
        page.goto(where)
        expect(ready.first).to_be_visible()
        page.evaluate(AXE)
        assert page.evaluate(FINDINGS) == []
    assert page.locator("html").get_attribute("lang") == locale.replace("en-GB", "en")


def test_controls_are_large_enough_for_touch(visit: Visit, api: Api) -> None:
    page = visit(**PHONE).page
    page.goto(link_of(api, api.chat(f"Hello\n{CODE}")["conversation_id"]))
    expect(page.locator("article")).to_have_count(2)
    assert page.evaluate(TARGETS) == []
