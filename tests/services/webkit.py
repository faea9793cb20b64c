"""WebKitGTK's MiniBrowser, driven by WebKitWebDriver on a screen of Xvfb."""

from __future__ import annotations

import os
from pathlib import Path

from tests.ports import free_port
from tests.services import debian
from tests.services.webdriver import WebDriver

PACKAGES = ("webkit2gtk-driver", "xvfb", "xauth", "fonts-noto-cjk")


def start() -> WebDriver:
    """Return a session that is not begun yet; installs what is missing. Raises `debian.Unavailable`."""
    program, screen = (debian.program(name, *PACKAGES) for name in ("WebKitWebDriver", "xvfb-run"))
    [browser] = Path("/usr/lib").glob("*/webkit2gtk-4.1/MiniBrowser")
    port = free_port()
    options = {"binary": str(browser), "args": ["--automation"]}
    env = {"GDK_BACKEND": "x11", "LANG": "C.UTF-8"}
    if os.geteuid() == 0:
        env["WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS"] = "1"  # root has no other way
    return WebDriver(
        [screen, "-a", "-s", "-screen 0 1280x900x24", program, f"--port={port}"],
        port,
        {"browserName": "MiniBrowser", "webkitgtk:browserOptions": options},
        env,
    )
