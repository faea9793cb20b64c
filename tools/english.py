"""Find phrases that the English of this project avoids: `./dev lint english`.

Each pattern has few false positives, so a hit is worth rewriting. A pattern matches identifiers, comments, strings and
prose, also across a line break.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_GAP = r"[\s#*_]+"
_PHRASES = {
    r"who(?:so)?ever": "name the actor",
    r"(?:some|any|every)body|(?<!User\x20)nobody(?![\"']| \{)": "name the actor",  # but not the Unix user "nobody"
    r"who has": "name the actor",
    r"(?:for|to|of) whom": "name the actor",
    r"what is (?:theirs|ours)": "name the thing",
    r"of whose": "start a new sentence",
    r"(?:that|those) of which": "start a new sentence",
    r"(?:am|is|are|be|been|was|were) told": "say who learns what: 'the error names the field'",
    r"lets? (?:\w+ )?in(?= with| without|[.,;:]|$)": "write 'accept', or name what is required",
    r"leads? nowhere": "write 'invalid', 'revoked' or 'deleted'",
    r"reckon(?:s|ed)?": "write 'expect' or 'count'",
    r"falls? short": "name the limitation",
    r"where there (?:is|are|was|were)": "write 'if' or 'when'",
    r"where (?:none|nothing)": "write 'if' or 'when'",
    r"none where": "write 'if' or 'when'",
}
_PATTERNS = {
    re.compile(rf"(?<![a-z])(?:{phrase.replace(' ', _GAP)})(?![a-z])", re.IGNORECASE | re.MULTILINE): advice
    for phrase, advice in _PHRASES.items()
}
_PATTERNS[re.compile(rf",{_GAP}too(?=[.,;:)]|$)", re.MULTILINE)] = "write 'also' before the verb, or leave it out"
_PROSE = {"", ".cc", ".conf", ".css", ".html", ".js", ".md", ".mjs", ".py", ".service", ".sh", ".toml", ".yaml", ".yml"}
# Generated from code that is checked itself, or never changed once released.
_SKIPPED = ("docs/api.md", "docs/API接口文档.md", "docs/settings.md", "chatkeep/store/migrations/versions/")
# Files that quote the phrases.
_ALLOWED = ("LICENSE", "tools/english.py", "tests/docs/test_english.py")


def findings(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the line, the phrase and the advice for each phrase to avoid."""
    for pattern, advice in _PATTERNS.items():
        for match in pattern.finditer(text):
            yield text.count("\n", 0, match.start()) + 1, " ".join(match[0].split()), advice


def files() -> Iterator[str]:
    """Yield the paths of all text files that are, or would be, committed."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout
    for name in sorted(set(filter(None, listed.split("\0")))):
        path = ROOT / name
        if path.suffix in _PROSE and path.is_file() and not name.startswith((*_SKIPPED, *_ALLOWED)):
            yield name


def main() -> int:
    """Print every finding. Return 1 if there is one."""
    failed = False
    for name in files():
        for line, phrase, advice in findings((ROOT / name).read_text(encoding="utf-8")):
            failed = True
            print(f"{name}:{line}: {phrase!r}: {advice}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
