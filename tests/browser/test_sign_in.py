"""Sign-in on the pages: the card asks for a key, explains refusals, and keeps drafts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from chatkeep.auth.access import NewKey, Scope
from tests.auth.keys import Identity, bearer, make_key, revoke, until_expired
from tests.browser.chat import Chat, bare, tap
from tests.browser.conftest import Visit
from tests.browser.test_access import AXE, FINDINGS, PHONE, TARGETS
from tests.http.api import eventually, unique
from tests.servers import Server, thrown_away
from tests.services.oidc import CLIENT_ID, CLIENT_SECRET, Provider
from tests.upstream import Upstream, reply_to

DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
SIZES = pytest.mark.parametrize("profile", [DESKTOP, PHONE], ids=["desktop", "phone"])


@pytest.fixture(scope="module")
def locked(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that requires a key."""
    folder = tmp_path_factory.mktemp("locked")
    url = f"sqlite:///{(folder / 'chatkeep.sqlite3').as_posix()}"
    env = {"DATABASE_URL": url, "OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "test-key"}
    make_key(url)
    with thrown_away(Server("flask", folder, env)) as running:
        yield running


Make = Callable[..., NewKey]


@pytest.fixture
def make(locked: Server) -> Make:
    return lambda *arguments, **options: make_key(locked.env["DATABASE_URL"], *arguments, **options)


def card(page: Page) -> Any:
    return page.get_by_role("dialog", name="Sign in")


def sign_in(page: Page, made: NewKey) -> None:
    page.get_by_label("Key", exact=True).fill(made.text)
    page.keyboard.press("Enter")
    expect(card(page)).to_have_count(0)


def end(server: Server, made: NewKey) -> None:
    """Revoke a key, and wait until the server refuses it."""
    revoke(server.env["DATABASE_URL"], made)
    assert eventually(lambda: Identity(server, bearer(made.text)).get("/api/conversations").status == 401)


@SIZES
def test_sign_in_returns_to_the_conversation(visit: Visit, locked: Server, make: Make, profile: Any) -> None:
    made, title = make(), unique("Before")
    said = Identity(locked, bearer(made.text)).chat(title)
    chat = visit(locked, **profile)
    chat.open(said["conversation_id"])
    expect(chat.page.get_by_label("Key", exact=True)).to_be_focused()
    sign_in(chat.page, made)
    assert chat.conversation_id == said["conversation_id"]
    expect(chat.reply).to_contain_text(title)
    chat.box.fill("And now")
    chat.action.click()
    chat.expect_status("completed")
    chat.page.reload()
    expect(chat.replies).to_have_count(2)
    expect(card(chat.page)).to_have_count(0)
    assert made.text not in str(chat.page.evaluate("[{...localStorage}, {...sessionStorage}, document.cookie]"))


@pytest.mark.parametrize(
    ("locale", "texts"),
    [
        ("en-GB", ("Sign in", "Key", "Enter a key", "invalid", "revoked", "expired")),
        ("zh-CN", ("登录", "密钥", "请输入密钥", "无效", "已被吊销", "已过期")),
    ],
)
def test_card_explains_a_refused_key(
    visit: Visit, locked: Server, make: Make, locale: str, texts: tuple[str, ...]
) -> None:
    """Waits for the expiry of a key: a second."""
    title, label, missing, wrong, revoked, expired = texts
    ended, short = make(), make(lifetime=0.5)
    revoke(locked.env["DATABASE_URL"], ended)
    until_expired(short)
    page = visit(locked, locale=locale).page
    expect(page.get_by_role("dialog", name=title)).to_be_visible()
    box, alert = page.get_by_label(label, exact=True), page.get_by_role("dialog").get_by_role("alert")
    for typed, told in (("", missing), (make().text[:-1], wrong), (ended.text, revoked), (short.text, expired)):
        box.fill(typed)
        page.get_by_role("button", name=title, exact=True).click()
        expect(alert).to_contain_text(told)
        expect(box).to_be_focused()
        expect(box).to_have_attribute("aria-invalid", "")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(box).to_be_visible()


@SIZES
def test_key_revoked_during_a_reply_loses_nothing(visit: Visit, locked: Server, make: Make, profile: Any) -> None:
    """Waits until the server refuses the revoked key, then continues reading: some seconds."""
    first, chat = make(), visit(locked, **profile)
    sign_in(chat.page, first)
    chat.box.fill("Go on #n=2000,r=20#")
    chat.action.click()
    chat.wait_for_text()
    chat.box.fill("what I was about to say")
    revoke(locked.env["DATABASE_URL"], first)
    expect(card(chat.page)).to_contain_text("your key is no longer valid")
    shown = chat.text
    sign_in(chat.page, make())
    chat.expect_status("stopped")
    assert chat.text.startswith(shown)
    assert bare(reply_to("Go on #n=2000,r=20#")).startswith(chat.text)
    expect(chat.box).to_have_value("what I was about to say")


@pytest.mark.every_engine
def test_message_is_sent_once_after_sign_in(visit: Visit, locked: Server, make: Make) -> None:
    """Waits until the server refuses the revoked key: a second or two."""
    first, chat, text = make(), visit(locked), unique("Sent once")
    with chat.page.expect_response(lambda answer: "/api/conversations?" in answer.url and answer.ok):
        sign_in(chat.page, first)
    end(locked, first)
    chat.send(text)
    second = make()
    sign_in(chat.page, second)
    chat.expect_status("completed")
    found = Identity(locked, bearer(second.text)).get(f"/api/conversations?q={text.split()[-1]}").json["data"]
    assert [item["message_count"] for item in found] == [2]


def test_sign_out_clears_the_browser(visit: Visit, locked: Server, make: Make) -> None:
    chat = visit(locked)
    sign_in(chat.page, make())
    chat.ask(unique("Said"))
    chat.box.fill("a draft")
    chat.page.get_by_role("button", name="Settings").click()
    expect(chat.page.locator(".menu")).to_contain_text("Signed in as a test")
    chat.page.get_by_role("menuitem", name="Sign out").click()
    expect(card(chat.page)).to_be_visible()
    assert chat.conversation_id == ""
    expect(chat.box).to_have_value("")
    expect(chat.messages).to_have_count(0)
    assert chat.page.context.cookies() == []
    assert "a draft" not in str(chat.page.evaluate("[{...localStorage}, {...sessionStorage}]"))


def test_another_user_does_not_see_the_draft(visit: Visit, locked: Server, make: Make) -> None:
    """Waits until the server refuses the revoked key: a second or two."""
    first, chat = make(), visit(locked)
    sign_in(chat.page, first)
    chat.ask(unique("Mine"))
    chat.box.fill("a secret draft")
    end(locked, first)
    chat.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    sign_in(chat.page, make("another"))
    expect(chat.messages).to_have_count(0)
    expect(chat.box).to_have_value("")
    expect(chat.entries).to_have_count(0)


def test_late_refusal_does_not_ask_for_a_key_again(visit: Visit, locked: Server, make: Make) -> None:
    """Delays one answer until after the sign-in."""
    chat, held = visit(locked), list[Route]()
    hold = lambda route: held.append(route)  # noqa: E731, PLW0108 - Playwright takes no method of a list
    chat.page.route("**/api/conversations?pinned=true*", hold, times=1)
    chat.page.reload()
    expect(card(chat.page)).to_be_visible()
    sign_in(chat.page, make("empty"))
    held[0].fulfill(status=401, json={"code": "unauthorized"})
    expect(chat.page.locator("#list-note")).to_be_visible()  # the list loaded again
    expect(card(chat.page)).to_have_count(0)


def test_sign_in_continues_other_tabs(visit: Visit, locked: Server, make: Make) -> None:
    chat = visit(locked)
    other = chat.page.context.new_page()
    other.goto(locked.url)
    expect(card(other)).to_be_visible()
    sign_in(chat.page, make())
    expect(card(other)).to_have_count(0)
    other.close()


def test_server_without_keys_shows_no_card(chat: Chat) -> None:
    chat.ask("Hello")
    expect(card(chat.page)).to_have_count(0)
    chat.page.get_by_role("button", name="Settings").click()
    expect(chat.page.get_by_role("menuitem", name="Sign out")).to_have_count(0)


def test_admin_page_asks_for_a_key_with_its_scope(visit: Visit, locked: Server, make: Make) -> None:
    page = visit(locked).page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{locked.url}/admin")
    expect(card(page)).to_be_visible()
    asked.clear()
    sign_in(page, make("local", Scope.READ))
    expect(page.get_by_role("alert")).to_contain_text("requires a key with the scope admin")
    expect(page.get_by_role("alert")).to_contain_text("chatkeep keys create NAME --scopes admin")
    expect(page.locator("[data-plot=turns]")).not_to_be_visible()
    expect(page.locator("#ranges")).not_to_be_visible()
    assert len([url for url in asked if "/api/admin/" in url]) == 1
    page.get_by_role("alert").get_by_role("button", name="Sign in").click()
    expect(card(page)).to_contain_text("scope admin")
    sign_in(page, make("local", Scope.ADMIN))
    expect(page.locator("[data-tile=turns] dd")).not_to_be_empty()
    expect(page.locator("[data-plot=turns]")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(card(page)).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("place", ["", "admin"])
def test_axe_reports_no_serious_violation_on_the_card(visit: Visit, locked: Server, scheme: str, place: str) -> None:
    page = visit(locked, color_scheme=scheme, reduced_motion="reduce").page
    page.goto(f"{locked.url}/{place}")
    page.evaluate(AXE)
    card(page).get_by_role("button", name="Sign in").click()
    expect(card(page).get_by_role("alert")).not_to_be_empty()
    assert page.evaluate(FINDINGS) == []


@pytest.fixture
def federated(upstream: Upstream, tmp_path: Path) -> Iterator[tuple[Server, Provider]]:
    """A server with sign-in through an OpenID provider, and that provider."""
    with Provider() as provider:
        env = {
            "DATABASE_URL": f"sqlite:///{(tmp_path / 'chatkeep.sqlite3').as_posix()}",
            "OPENAI_BASE_URL": upstream.url,
            "OPENAI_API_KEY": "test-key",
            "CHATKEEP_OIDC_ISSUER": provider.url,
            "CHATKEEP_OIDC_CLIENT_ID": CLIENT_ID,
            "CHATKEEP_OIDC_CLIENT_SECRET": CLIENT_SECRET,
            "CHATKEEP_OIDC_NAME": "Our house",
        }
        with thrown_away(Server("flask", tmp_path, env)) as server:
            yield server, provider


@SIZES
def test_users_sign_in_with_an_openid_provider(visit: Visit, federated: tuple[Server, Provider], profile: Any) -> None:
    """Starts a server, and visits the provider and returns: a second or two."""
    server, provider = federated
    chat = visit(server, **profile)
    provider.lies = {"nonce": "another"}
    chat.page.get_by_role("link", name="Sign in with Our house").click()
    expect(card(chat.page).get_by_role("alert")).to_have_text("The sign-in did not succeed. Try again.")
    assert chat.page.url == f"{server.url}/"
    provider.lies = {}
    chat.page.get_by_role("link", name="Sign in with Our house").click()
    expect(chat.page.get_by_role("heading", name="What is on your mind?")).to_be_visible()
    expect(card(chat.page)).to_have_count(0)
    chat.box.fill("Hello")
    chat.action.click()
    chat.expect_status("completed")
    elsewhere = [complaint for complaint in chat.complaints if not complaint.startswith(f"request: {provider.url}/a")]
    assert elsewhere == []
    chat.complaints.clear()


def test_card_can_switch_the_language(visit: Visit, locked: Server) -> None:
    page = visit(locked, **PHONE).page
    expect(card(page)).to_be_visible()
    assert page.evaluate(TARGETS.replace("!node.closest('[inert], p')", "node.closest('dialog')")) == []
    tap(card(page).get_by_role("button", name="Switch to Chinese"))
    expect(page.get_by_role("dialog", name="登录")).to_be_visible()
    expect(page.get_by_label("密钥", exact=True)).to_be_visible()
