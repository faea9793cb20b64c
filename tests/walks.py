"""Walk through the pages with WebKit and with the oldest supported browsers: part of `./dev browsers`.

Each opens the page, asks, reads, uses menus and draws plots, and axe looks at what is there. Screenshots are left in
build/walks, to be looked at.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

from playwright.sync_api import Page, sync_playwright

from tests.http.api import Api, eventually
from tests.servers import ROOT, Server
from tests.services import old_chromium, old_firefox, webkit
from tests.upstream import Upstream

SHOTS = ROOT / "build" / "walks"
SECONDS = 60
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
FINDINGS = """const { violations } = await axe.run(document, { resultTypes: ['violations'] });
    return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html}`));"""
ASKED = (
    "Read **this** [link](https://example.org):\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nprint(1)\n```\n\n$x^2$"
)
READ = """const last = [...document.querySelectorAll('#messages article.assistant')].at(-1);
    const all = (selector) => last?.querySelectorAll(`.body ${selector}`).length ?? 0;
    return [last?.dataset.status, all('strong'), all('a[href]'), all('table td'), all('pre code'), all('.katex')];"""
SHOWN = ["completed", 1, 1, 2, 1, 1]
COLOURS = """const { color, backgroundColor } = getComputedStyle(document.body);
    return [color, backgroundColor];"""
DARK, LIGHT = "rgb(23, 25, 24)", "rgb(251, 251, 249)"
# The distance of a menu from its button.
DISTANCE = """const [menu, opener] = ['.menu', '#conversation-menu'].map((selector) =>
        document.querySelector(selector).getBoundingClientRect());
    return Math.max(Math.abs(menu.top - opener.bottom), Math.min(...['left', 'right'].map((side) =>
        Math.abs(menu[side] - opener[side]))));"""
FIND = "[...document.querySelectorAll(`[role=${args[0]}]`)].find((node) => node.textContent === args[1]).id = 'found';"
PLOTS = """return [...document.querySelectorAll('[data-plot] canvas')].filter((node) =>
    node.getContext('2d').getImageData(0, 0, node.width, node.height).data.some(Boolean)).length;"""
PAINTED = """await document.fonts.ready;
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));"""
HEARD = """window.complaints = [];
    const hear = ({ type, message, reason, blockedURI }) => complaints.push([type, message, reason, blockedURI].join());
    for (const type of ['error', 'unhandledrejection', 'securitypolicyviolation']) addEventListener(type, hear);"""


class Tab(Protocol):
    """A browser's tab, as far as the walk needs it."""

    version: str

    def go(self, url: str) -> None: ...
    def run(self, script: str, *arguments: Any) -> Any: ...
    def click(self, selector: str) -> None: ...
    def write(self, selector: str, text: str) -> None: ...
    def screenshot(self) -> bytes: ...


class PlaywrightTab:
    """A page of Playwright's as a tab."""

    def __init__(self, page: Page, version: str) -> None:
        self._page = page
        self.version = version

    def go(self, url: str) -> None:
        self._page.goto(url)

    def click(self, selector: str) -> None:
        self._page.click(selector)

    def screenshot(self) -> bytes:
        return self._page.screenshot()

    def run(self, script: str, *arguments: Any) -> Any:
        return self._page.evaluate(f"async (args) => {{ {script} }}", arguments)

    def write(self, selector: str, text: str) -> None:
        if text == "Enter":
            self._page.press(selector, text)
        else:
            self._page.type(selector, text)


def walk(tab: Tab, server: Server) -> Iterator[str]:
    """Walk through the pages. Yield a name for each screenshot."""
    tab.go(f"{server.url}/")
    until(tab, "return document.querySelectorAll('#message').length", 1)
    tab.run(HEARD)
    assert tab.run(COLOURS)[1] in {LIGHT, DARK}
    yield "empty"
    tab.write("#message", "Hello")
    tab.write("#message", "Enter")
    until(tab, "return document.querySelector('#messages article.assistant')?.dataset.status", "completed")
    conversation = tab.run("return location.hash.slice(1)")
    Api(server).chat(ASKED, conversation_id=conversation)
    assert tab.run("return complaints") == []
    tab.go(f"{server.url}/admin")  # a new hash alone would not reload the page
    tab.go(f"{server.url}/#{conversation}")
    until(tab, READ, SHOWN)
    tab.run(HEARD)
    yield "conversation"
    menus(tab, Api(server), conversation)
    yield "dark"
    look(tab)
    assert tab.run("return complaints") == []
    tab.go(f"{server.url}/admin")
    until(tab, PLOTS, lambda count: count > 2)
    yield "plots"
    look(tab)


def menus(tab: Tab, api: Api, conversation: str) -> None:
    """Pin the conversation by its menu, then choose the dark theme in the settings."""
    tab.click("#conversation-menu")
    assert tab.run(DISTANCE) < 20
    look(tab)
    choose(tab, "menuitem", "Keep")
    assert eventually(lambda: api.read(conversation)["pinned"], SECONDS)
    tab.click("#settings")
    choose(tab, "menuitemradio", "Dark")
    until(tab, COLOURS, lambda colours: colours[1] == DARK)


def choose(tab: Tab, role: str, name: str) -> None:
    """Click on an entry of the open menu."""
    tab.run(FIND, role, name)
    tab.click("#found")


def look(tab: Tab) -> None:
    """Fail if axe finds a violation."""
    tab.run(f"if (!window.axe) {{ {AXE} }}")
    found = tab.run(FINDINGS)
    assert found == [], found


def until(tab: Tab, script: str, wanted: Any) -> None:
    """Wait until a script returns a value, or one that a function accepts."""
    seen = None

    def suits() -> bool:
        nonlocal seen
        seen = tab.run(script)
        return bool(wanted(seen)) if callable(wanted) else bool(seen == wanted)

    assert eventually(suits, SECONDS), seen


@contextmanager
def chromium_109() -> Iterator[Tab]:
    """Start Chromium 109 by Playwright."""
    old_chromium.ensure_installed()
    with sync_playwright() as playwright, old_chromium.launch(playwright) as browser:
        context = browser.new_context(locale="en-GB", viewport={"width": 1280, "height": 900})
        yield PlaywrightTab(context.new_page(), browser.version)


def firefox_115() -> AbstractContextManager[Tab]:
    """Start Firefox 115."""
    old_firefox.ensure_installed()
    return old_firefox.start()


BROWSERS: dict[str, Callable[[], AbstractContextManager[Tab]]] = {
    "webkit": webkit.start,
    "chromium-109": chromium_109,
    "firefox-115": firefox_115,
}


def main(*names: str) -> int:
    """Walk with these browsers, or all. Return 0 if all is well."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Upstream() as upstream:
        env = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "test-key"}
        with Server("waitress", Path(folder), env) as server:
            return max([walked(name, server) for name in names or BROWSERS])


def walked(name: str, server: Server) -> int:
    """Walk with one browser and report the result. Return 0 if all is well."""
    try:
        with BROWSERS[name]() as tab:
            try:
                for seen in walk(tab, server):
                    shoot(tab, f"{name}-{seen}")
            except Exception:
                shoot(tab, f"{name}-failed")
                raise
            sys.stdout.write(f"{name}: {tab.version} walked through\n")
    except Exception:  # noqa: BLE001 - go on with the other browsers
        sys.stdout.write(f"{name}: FAILED\n{traceback.format_exc()}")
        return 1
    return 0


def shoot(tab: Tab, name: str) -> None:
    """Save a screenshot after the page has been painted."""
    tab.run(PAINTED)
    (SHOTS / f"{name}.png").write_bytes(tab.screenshot())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
