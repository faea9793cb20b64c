"""Debian's Firefox ESR, driven by Playwright over WebDriver BiDi; where it is missing it is installed, unasked."""

from __future__ import annotations

from collections.abc import Mapping

from playwright.sync_api import Browser, Playwright

from tests.services import debian

PACKAGES = ("firefox-esr", "fonts-noto-cjk")


def launch(playwright: Playwright, program: str, preferences: Mapping[str, bool | int]) -> Browser:
    """Start a Firefox with a profile of its own, which is gone when it is closed."""
    return playwright.firefox.launch(
        channel="moz-firefox", executable_path=program, firefox_user_prefs=dict(preferences)
    )


def ensure_installed() -> str:
    """Return the path of the program, and install it where it is missing. Raises `debian.Unavailable`."""
    return debian.program("firefox-esr", *PACKAGES)
