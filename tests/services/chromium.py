"""Chromium of the system's packages, driven by Playwright; it is installed if that takes no question."""

from __future__ import annotations

import shutil

from playwright.sync_api import Browser, Playwright

from tests.services import debian

# The lists of suggestions under a hidden address bar, and a process in reserve: for each page that a test
# opens, as much work as the page. A switch replaces the one before it, so what Playwright switches off follows.
FEATURES = (
    "WebUIOmniboxPopup,WebUIOmniboxAimPopup,SpareRendererForSitePerProcess,"
    "AimEnabled,AvoidCorsURLLoaderRestartOnRedirect,AvoidUnnecessaryBeforeUnloadCheckSync,DestroyProfileOnBrowserClose,"
    "HttpsFirstBalancedModeAutoEnable,HttpsUpgrades,LensOverlay,MediaRouter,NetworkTimeServiceQuerying,"
    "OptimizationHints,PaintHolding,PreconnectToSearch,ThirdPartyStoragePartitioning"
)
# The shell is the same engine without a program around it, which does as much work for a page as the page.
SHELL = "chromium-headless-shell"
PACKAGES = (SHELL, "fonts-noto-cjk")  # without the fonts, Chinese is boxes on a screenshot
FLAGS = (
    "--headless",
    "--no-sandbox",  # root has no other way
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    # It connects only to the server under test.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--disable-features={FEATURES}",
)


def launch(playwright: Playwright, program: str) -> Browser:
    """Start a Chromium with a profile of its own, which is gone when it is closed."""
    return playwright.chromium.launch(executable_path=program, args=FLAGS)


def ensure_installed() -> str:
    """Return the path of a program, and install the shell where it is missing. Raises `debian.Unavailable`."""
    try:
        return debian.program(SHELL, *PACKAGES)
    except debian.Unavailable:
        if found := shutil.which("chromium"):
            return found
        raise
