"""By MDN's compatibility data, the pages' files run in the oldest browsers that README.md names."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import ROOT

HERE = ROOT / "tests" / "services" / "oldest"
STATIC = ROOT / "chatkeep" / "web" / "static"
NEWER = {
    "array.js": ("[].toReversed();", ".toReversed needs chrome 110"),
    "menu.js": ("menu.showPopover();", ".showPopover needs chrome 114, firefox 125, safari 17"),
    "attribute.js": ("menu.popover = 'auto';", ".popover needs chrome 114"),
    "link.js": ("URL.canParse(link);", "URL.canParse needs chrome 120, safari 17"),
    "style.js": ("box.style.fieldSizing = 'content';", ".fieldSizing needs chrome 123"),
    "pattern.js": ("export const letters = /[a]/v;", "needs ECMAScript after 2022"),
    "colour.css": (":root { --ground: light-dark(#fff, #000) }", "light-dark() needs chrome 123"),
    "selector.css": (".row:has(.menu) { top: 0 }", ":has needs firefox 121"),
    "nested.css": (".row { & .menu { top: 0 } }", "a rule in a rule needs chrome 112"),
    "symbol.css": ('.row::before { content: "x" / "" }', "content with / needs firefox 128"),
    "wrap.css": (".row { text-wrap: balance }", "text-wrap needs chrome 114"),
}
OLDER = {
    "asked.js": "list.toReversed?.(); if ('showPopover' in menu) menu.showPopover(); (window.scheduler ?? later)();",
    "syntax.js": "export class A { static { } #x; has(o) { return #x in o } find = [1].findLast(String) }",
    "fallback.css": ".row { height: 100dvh; color: red; color: light-dark(red, blue) }",
    "supports.css": "@supports (text-wrap: balance) { .row { text-wrap: balance } }",
}
Check = Callable[..., list[str]]


@pytest.fixture(scope="module")
def check() -> Check:
    """Return the findings in files, a line each."""
    if os.name == "nt":
        pytest.skip("npm: the tests install it on Linux only")
    from tests.services import npm  # noqa: PLC0415 - it needs modules that Windows lacks

    try:
        npm.ensure_installed(HERE)
    except npm.Unavailable as reason:
        pytest.skip(f"compatibility data: {reason}")

    def run(*files: Path) -> list[str]:
        program = npm.folder(HERE) / "check.mjs"
        done = subprocess.run([npm.node(), program, *files], capture_output=True, encoding="utf-8", check=False)
        assert (done.returncode, done.stderr) == (1 if done.stdout else 0, "")
        return done.stdout.splitlines()

    return run


def test_the_files_of_the_pages_run_in_the_oldest_browsers(check: Check) -> None:
    """Reads every script and style sheet, including third-party ones: two seconds."""
    files = [path for path in sorted(STATIC.rglob("*")) if path.suffix in {".css", ".js"}]
    assert {"chat.js", "base.css", "marked.js", "katex.css"} <= {path.name for path in files}
    assert check(*files) == []


def test_features_that_the_oldest_browsers_lack_are_found(check: Check, tmp_path: Path) -> None:
    """Reads MDN's data: a second."""
    for name, text in OLDER.items() | {(name, text) for name, (text, _) in NEWER.items()}:
        (tmp_path / name).write_text(text, encoding="utf-8")
    found = check(*sorted(tmp_path.iterdir()))
    for name, (_, finding) in NEWER.items():
        assert [line for line in found if f"{name}:1: " in line and finding in line], (name, found)
    assert [line for line in found if Path(line.partition(":")[0]).name in OLDER] == []


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_readme_names_the_oldest_browsers(readme: str) -> None:
    oldest = json.loads((HERE / "oldest.json").read_text(encoding="ascii"))
    named = r"Chrome\D+Edge\D+{chrome}\D+Firefox\D+{firefox}\D+Safari\D+{safari}".format_map(oldest)
    assert re.search(named, (ROOT / readme).read_text(encoding="utf-8"))
