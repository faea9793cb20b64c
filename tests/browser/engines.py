"""The browsers that run the tests of the page, behind one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from playwright.sync_api import Browser, BrowserContext, Page, Playwright

from tests.services import chromium, firefox


class InputMethod(ABC):
    """An input method that composes text in the focused field."""

    @abstractmethod
    def compose(self, *steps: str) -> None:
        """Show the texts in turn as the composition."""

    @abstractmethod
    def press(self, key: str, code: int = 229, *, ctrl: bool = False) -> None:
        """Press a key that the input method handles. ``code`` is its keyCode, 229 in most browsers."""

    @abstractmethod
    def commit(self, text: str) -> None:
        """End the composition with a text."""


class Engine(ABC):
    """A browser's engine: opens contexts, each a fresh profile. Use it as a context manager."""

    def __init__(self, playwright: Playwright) -> None:
        self._playwright = playwright
        self._running = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._running.close()

    @abstractmethod
    def new_context(self, **profile: Any) -> BrowserContext:
        """Open a profile; its properties are those of Playwright's `Browser.new_context`."""

    @abstractmethod
    def input_method(self, page: Page) -> InputMethod:
        """Return an input method for a page."""


class Chromium(Engine):
    """The system's Chromium, which emulates everything over its own protocol (CDP)."""

    def __init__(self, playwright: Playwright) -> None:
        super().__init__(playwright)
        self._browser = self._running.enter_context(chromium.launch(playwright, chromium.ensure_installed()))

    def new_context(self, **profile: Any) -> BrowserContext:
        return self._browser.new_context(**profile)

    def input_method(self, page: Page) -> InputMethod:
        return _ChromiumInputMethod(page)


class _ChromiumInputMethod(InputMethod):
    def __init__(self, page: Page) -> None:
        self._cdp = page.context.new_cdp_session(page)

    def compose(self, *steps: str) -> None:
        for text in steps:
            selection = {"selectionStart": len(text), "selectionEnd": len(text)}
            self._cdp.send("Input.imeSetComposition", {"text": text, **selection})

    def press(self, key: str, code: int = 229, *, ctrl: bool = False) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            pressed = {"type": kind, "key": key, "modifiers": 2 * ctrl, "windowsVirtualKeyCode": code}
            self._cdp.send("Input.dispatchKeyEvent", pressed)

    def commit(self, text: str) -> None:
        self._cdp.send("Input.insertText", {"text": text})


class Firefox(Engine):
    """The system's Firefox. Media features are preferences of a process, so each set starts one."""

    def __init__(self, playwright: Playwright) -> None:
        super().__init__(playwright)
        self._program = firefox.ensure_installed()
        self._browsers: dict[tuple[tuple[str, bool | int], ...], Browser] = {}

    def new_context(
        self,
        *,
        color_scheme: str = "light",
        reduced_motion: str = "no-preference",
        has_touch: bool = False,
        is_mobile: bool = False,  # noqa: ARG002 - Firefox has no other layout for phones
        permissions: list[str] | None = None,  # noqa: ARG002 - a preference grants the clipboard
        **profile: Any,
    ) -> BrowserContext:
        pointer = _COARSE if has_touch else _FINE | _HOVER
        browser = self._with(
            {
                "layout.css.prefers-color-scheme.content-override": _SCHEMES[color_scheme],
                "ui.prefersReducedMotion": int(reduced_motion == "reduce"),
                "ui.primaryPointerCapabilities": pointer,
                "ui.allPointerCapabilities": pointer,
                "dom.w3c_touch_events.enabled": int(has_touch),
                "dom.events.testing.asyncClipboard": True,
            }
        )
        return browser.new_context(**profile)

    def input_method(self, page: Page) -> InputMethod:
        return _SyntheticInputMethod(page)

    def _with(self, preferences: dict[str, bool | int]) -> Browser:
        wanted = tuple(preferences.items())
        if wanted not in self._browsers:
            launched = firefox.launch(self._playwright, self._program, preferences)
            self._browsers[wanted] = self._running.enter_context(launched)
        return self._browsers[wanted]


_SCHEMES = {"dark": 0, "light": 1}
_COARSE, _FINE, _HOVER = 1, 2, 4  # Gecko's PointerCapabilities


class _SyntheticInputMethod(InputMethod):
    """The events of an input method, dispatched by a script: WebDriver BiDi has no command for a composition.

    They come in the order of Firefox: the value changes before `input`, and `compositionend` comes before the last one.
    """

    def __init__(self, page: Page) -> None:
        self._page = page

    def compose(self, *steps: str) -> None:
        for text in steps:
            self._page.evaluate(_COMPOSE, text)

    def press(self, key: str, code: int = 229, *, ctrl: bool = False) -> None:
        self._page.evaluate(_PRESS, [key, code, ctrl])

    def commit(self, text: str) -> None:
        self._page.evaluate(_COMMIT, text)


# The composed text is at the caret, after the earlier text of the field.
_COMPOSE = """(text) => {
    const field = document.activeElement;
    if (!window.composed) {
        field.dispatchEvent(new CompositionEvent('compositionstart', { bubbles: true }));
        window.composed = { start: field.selectionStart, end: field.selectionEnd };
    }
    field.dispatchEvent(new CompositionEvent('compositionupdate', { bubbles: true, data: text }));
    field.setRangeText(text, composed.start, composed.end, 'end');
    composed.end = composed.start + text.length;
    const told = { bubbles: true, data: text, inputType: 'insertCompositionText', isComposing: true };
    field.dispatchEvent(new InputEvent('input', told));
}"""
_PRESS = """([key, keyCode, ctrlKey]) => {
    const isComposing = Boolean(window.composed);
    for (const type of ['keydown', 'keyup']) {
        const pressed = { key, keyCode, ctrlKey, isComposing, bubbles: true, cancelable: true };
        document.activeElement.dispatchEvent(new KeyboardEvent(type, pressed));
    }
}"""
_COMMIT = """(text) => {
    const field = document.activeElement;
    field.setRangeText(text, composed.start, composed.end, 'end');
    delete window.composed;
    field.dispatchEvent(new CompositionEvent('compositionend', { bubbles: true, data: text }));
    field.dispatchEvent(new InputEvent('input', { bubbles: true, data: text, inputType: 'insertCompositionText' }));
}"""
ENGINES: dict[str, type[Engine]] = {"chromium": Chromium, "firefox": Firefox}
