"""Embed a message's Markdown in a document: close what it opens, and lower its headings below the document's own.

It parses as much of CommonMark's blocks as needed: https://spec.commonmark.org/0.31.2/. If programs differ on whether
something is code, the lines are rewritten so that it is code for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

# The document's own headings use the levels above.
_LEVELS = 2
_DEEPEST = 6
# Every line of code repeats the lead of its fence. After a longer lead, a fence is text.
_LONGEST_LEAD = 64
# The quotes, list items and tasks around a line, and what it is within them.
_LEAD = rb"((?:[ \t>]|(?:[-+*]|\d{1,9}[.)]|\[[ xX]\])(?![^ \t]))*)"
_LINE = re.compile(_LEAD + rb"(?:(#{1,6})(?![^ \t])|(`{3,}(?=[^`]*\Z)|~{3,})|(\[))?")
_BLANK = re.compile(rb"[ \t]*|(?: ?>)+ ?")
_CODE = re.compile(rb" {4}| {0,3}\t")
_INLINE = re.compile(
    rb"\\[!-/:-@\[-`{-~]"  # an escape
    rb"|`+"
    rb"|<(?:https?://|mailto:)[^\s<>`\]]*>"
    rb"|<(?=[A-Za-z/!?])"  # a tag, comment or declaration
    rb"|\]:"  # what makes a definition of a link or a footnote
    rb"|://|www\.|\$"  # a bare link or a formula, which may swallow backticks
)
_WORD_END = re.compile(rb"[\s<]|\Z")
_MARKED = re.compile(rb"[`<]|\]:")
# A text without any of these needs no change.
_SPECIAL = re.compile(rb"```|~~~|<[A-Za-z/!?]|#(?![^ \t\n])|\]:|\n[ \t>]*(?:=+|-+)[ \t]*(?![^\n])")
_IN_TITLES = re.compile(r"[\\`*_{}\[\]<>&#~|$^]|:(?=[\w+-]+:)")


def title(text: str) -> str:
    """Return a text on one line, escaped for Markdown."""
    return _IN_TITLES.sub(r"\\\g<0>", " ".join(text.split()))


def embedded(text: bytes) -> bytes:
    """Return a message that does not affect what follows it."""
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return b"\n".join(_lines(text.split(b"\n"))) if _SPECIAL.search(text) else text


class _Fence(NamedTuple):
    """An open code fence. ``lead`` is the prefix of its lines within quotes and list items."""

    lead: bytes
    run: bytes

    @property
    def end(self) -> bytes:
        return self.lead + self.run

    def inside(self, line: bytes) -> bytes | None:
        """Return a line of code with the lead, `end` if it closes the fence, or None if it left the quote."""
        if not self.lead and self.run not in line:
            return line
        code = self._code(line)
        if code is None:
            return None
        bare = code.strip(b" \t")
        closes = bare.startswith(self.run) and not bare.strip(self.run[:1]) and not _CODE.match(code)
        if closes:
            return self.end
        return self.lead + code if bare else self.lead.rstrip(b" \t")

    def _code(self, line: bytes) -> bytes | None:
        if line.startswith(self.lead):
            return line[len(self.lead) :]
        quotes = self.lead.count(b">")
        found = re.match(rb"[ \t]*(?:>[ \t]?){%d}" % quotes, line) if quotes else None
        if quotes and not found:
            return None
        code = line[found.end() :] if found else line
        width, least = _width(code), _width(self.lead.rpartition(b">")[2])
        return b" " * (width - least) + code.lstrip(b" \t")


def _lines(lines: list[bytes]) -> Iterator[bytes]:
    """Yield the lines of a message, and close an open fence at its end."""
    fence: _Fence | None = None
    paragraph = _Paragraph()
    for line in lines:
        if fence is not None:
            code = fence.inside(line)
            if code is not None:
                yield code
                fence = None if code == fence.end else fence
                continue
            yield from (fence.end, b"")
            fence = None
        begun = _LineStart.of(line)
        if begun.fence is None or paragraph.is_code(line):
            yield paragraph.written(line, begun)
            continue
        if len(begun.lead) > _LONGEST_LEAD:
            yield paragraph.written(begun.without_fence(line), begun)
            continue
        if begun.lead and paragraph.open:
            yield b""  # or the fence could be the paragraph's text
        # Pandoc before 3 continues the line after a backslash.
        yield line.replace(b"\\", b"")
        fence = _Fence(re.sub(rb"[^ \t>]", b" ", begun.lead), begun.fence)
        paragraph = _Paragraph(nested=paragraph.nested or begun.nested)
    if fence is not None:
        yield fence.end


class _LineStart(NamedTuple):
    """The beginning of a line."""

    lead: bytes
    heading: bytes | None
    fence: bytes | None
    label: bytes | None

    @classmethod
    def of(cls, line: bytes) -> _LineStart:
        first = line[:1]
        found = None if first.isalpha() or first > b"\x7f" else _LINE.match(line)
        return cls(*found.groups()) if found else _TEXT

    @property
    def nested(self) -> bool:
        """Whether the line is in a quote or begins a list item."""
        return bool(self.lead.strip(b" \t"))

    def without_fence(self, line: bytes) -> bytes:
        """Return the line with its fence as text."""
        fence = self.fence or b""
        shown = fence.replace(fence[:1], b"\\" + fence[:1])
        return self.lead + shown + line[len(self.lead) + len(fence) :]


_TEXT = _LineStart(b"", None, None, None)


class _Paragraph:
    """The state since the last blank line that decides what the next line is."""

    def __init__(self, *, nested: bool = False) -> None:
        self.open = False
        self.nested = nested
        """Whether the message had a quote or a list before. Then an indented line may not be code."""
        self._code = False
        self._sure = True  # whether backticks pair within each line
        self._labelled = False

    def is_code(self, line: bytes) -> bool:
        """Return whether a line is indented code."""
        return not self.nested and (self._code or not self.open) and _CODE.match(line) is not None

    def written(self, line: bytes, begun: _LineStart) -> bytes:
        """Render a line that does not begin a fence, after an empty line if needed."""
        if begun is _TEXT:
            return self._text(line)
        if _BLANK.fullmatch(line):
            self.open, self._sure, self._labelled = False, True, False
            return line
        if self.is_code(line):
            self.open = self._code = True
            return line
        bare, follows = line.strip(b" \t>"), self.open
        self.nested = self.nested or begun.nested
        self._labelled = self._labelled or begun.label is not None
        if follows and bare and not bare.strip(b"-"):
            line = b"\n" + line  # a thematic break, not the underline of a heading
        elif follows and bare and not bare.strip(b"="):
            line = line.replace(b"=", rb"\=", 1)
        elif begun.heading is not None:
            at, level = len(begun.lead), len(begun.heading)
            line = begun.lead + b"#" * min(level + _LEVELS, _DEEPEST) + line[at + level :]
        return self._text(line)

    def _text(self, line: bytes) -> bytes:
        """Render a line of text."""
        self.open, self._code = True, False
        return self._inline(line) if _MARKED.search(line) else line

    def _inline(self, line: bytes) -> bytes:
        """Escape tags and definitions in a line, except in code."""
        parts: list[bytes] = []
        done = at = 0
        word_end = -1
        while found := _INLINE.search(line, at):
            sign, at = found[0], found.end()
            if sign[:1] == b"`":
                at = self._behind_code(line, at, len(sign))
            elif sign in {b"<", b"]:"}:
                # Directly after a bare link, the escape would be part of the link.
                parts += (line[done : at - 1], b" \\" if found.start() == word_end else b"\\")
                done = at - 1
            elif sign == b"$":
                self._sure = self._sure and b"`" not in line[at : max(at, line.find(b"$", at))]
            elif sign in {b"://", b"www."} and at > word_end:
                word_end = _end(_WORD_END.search(line, at))
                self._sure = self._sure and b"`" not in line[at:word_end]
        return b"".join(parts) + line[done:]

    def _behind_code(self, line: bytes, at: int, run: int) -> int:
        """Return the end of a code span if it certainly is one, else ``at``, the end of its opening backticks."""
        closing = _backticks(run).search(line, at) if self._sure else None
        if closing:
            code = line[at : closing.start()]
            if b"|" not in code and not (self._labelled and b"]:" in code):
                return closing.end()
        # Later backticks may pair differently: in a table's cell, or with other lines.
        self._sure = False
        return at


@lru_cache(maxsize=64)
def _backticks(run: int) -> re.Pattern[bytes]:
    return re.compile(rb"(?<!`)`{%d}(?!`)" % run)


def _end(found: re.Match[bytes] | None) -> int:
    return found.start() if found else 0


def _width(text: bytes) -> int:
    """Return the width of a line's indentation."""
    return len(text[: len(text) - len(text.lstrip(b" \t"))].expandtabs(4))
