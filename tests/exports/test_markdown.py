"""A Markdown export has only its own headings, for any text, and shows the text.

The reader here is markdown-it, which follows CommonMark; `./dev readers` also runs cmark-gfm and pandoc.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from chatkeep.exports.formats.markup import embedded, title
from tests.exports.test_formats import a_conversation, a_message, written

MARKDOWN = MarkdownIt("commonmark", {"maxNesting": 1000}).enable(["table", "strikethrough"])
OURS = [("h1", "Title"), ("h2", "User"), ("h2", "Assistant"), ("h2", "User")]


def read(text: str) -> tuple[list[Token], dict[str, Any]]:
    """Return a text's blocks, and its definitions for the whole document."""
    env: dict[str, Any] = {}
    return MARKDOWN.parse(text, env), env


def headings(tokens: list[Token]) -> list[tuple[str, str]]:
    """Return the headings of the export's two levels, also within quotes and lists."""
    return [
        (begin.tag, text.content)
        for begin, text in pairwise(tokens)
        if begin.type == "heading_open" and begin.tag < "h3"
    ]


def raw(tokens: list[Token]) -> list[str]:
    """Return raw HTML."""
    inner = [child for token in tokens for child in token.children or []]
    return [token.content for token in (*tokens, *inner) if token.type.startswith("html")]


def shown(text: str) -> str:
    """Return a text rendered as HTML."""
    return str(MARKDOWN.render(text))


# Syntax that opens, closes, nests or pairs, and on which parsers disagree.
PIECES = st.sampled_from(
    [
        "# x", "## y", "#", "===", "---", "-", "=", "- ", "- a", "  - b", "1. a", "2) b", "10. ", "> ", "> q", ">",
        "> > q", "```", "````", "~~~", "~~~~ x", "   ```py", "  ~~~", "    ```", "\t```", "- ```", "1. ~~~", "> ```",
        "- > ~~~", "    code", "\tcode", "      deep", "text", "<script>", "<!--", "-->", "<?php", "<![CDATA[", "<div",
        "<details>", "<b>x</b>", "`a", "`a`", "``a`b``", "`<b>`", "| a | b |", "| --- | --- |", "|`a|<b>`|`<c>`|",
        "[a]: /u", "[a]:", "[", "]: /u", "[`]: x`]: /u", "[^1]: # z", "\\", "\\`", "\\[", "$a`$", "http://a`<i>`",
        "www.x`", "<http://x>", "<http://x`>", "**", "***", "* * *", "\x0b# x", "\u00a0# x", "\0", "\u2028# x",
        "   ## j", "- - # l", "-\t# m", "a\\", "title: x", "<a", "href='>'>", "<x-y z>", "# `<b>", "-   - ```",
        "   > ```", "    - # x", "- [ ] # x", "\r# cr",
    ]
)  # fmt: skip
BETWEEN = st.sampled_from(["\n", "\n\n", "\r\n", " ", ""])
MESSAGES = st.lists(st.tuples(PIECES, BETWEEN).map("".join), max_size=8).map("".join)


@given(MESSAGES, MESSAGES)
def test_message_cannot_swallow_another_or_use_document_headings(first: str, second: str) -> None:
    rows = a_message(first), a_message(second, role="assistant"), a_message("[a] [`]")
    tokens, env = read(written("md", *rows))
    assert headings(tokens) == OURS
    assert raw(tokens) == []
    assert env.get("references", {}) == {}
    assert tokens[-2].content == "[a] [`]"


OPEN = {
    "a fence": "Here it is:\n\n```python\nfor n in range(1, 11):\n    pri",
    "a long fence": "``````\n```\n# no heading",
    "tildes": "~~~~ruby\n~~~\n# no heading",
    "a fence in a list": "1. Install:\n\n   ```sh\n   pip inst",
    "a fence behind a bullet": "- ```\n  code",
    "a fence in a quote": "> ```\n> code",
    "a fence that left its list": "- a\n  ```\ncode\n",
    "a comment": "Well: <!-- never closed",
    "a comment as a block": "<!--\nnever closed",
    "a script": "<script>\nlet a = 1;\n\n# b",
    "raw text": "<pre>\n\n# no heading",
    "a folded text": "<details>\n<summary>More</summary>\n\nthere",
    "a declaration": "<!DOCTYPE html",
    "cdata": "<![CDATA[ x",
    "an instruction": "<?php echo 1;",
    "a tag": '<a href="',
    "a heading in html": "<h1>Fake</h1>\n<h2>Assistant</h2>",
    "headings": "# Fake\n## Assistant\n # Fake\n   ## User",
    "headings below lines": "Fake\n====\n\nAssistant\n---------\n\nUser\n-",
    "headings in lists": "- # Fake\n1. ## Assistant\n- - # Fake\n- [ ] # Fake",
    "headings in quotes": "> # Fake\n> ## Assistant\n> Fake\n> ===",
    "a heading behind a carriage return": "a\r# Fake\r\r## Assistant",
    "a definition": "[a]: /elsewhere\n[`]: /x",
    "a definition on two lines": "[a]:\n/elsewhere",
    "a footnote": "[^1]: # Fake",
    "emphasis": "**bold and *more",
    "a list": "- a\n- b\n  1. c",
    "a link": "[a](",
    "code in a line": "`<b>\n\n`",
    "code across cells": "| a | b |\n|---|---|\n| `a | <b>` | `<i>` |",
}


@pytest.mark.parametrize("text", OPEN.values(), ids=OPEN)
def test_message_closes_what_it_opens(text: str) -> None:
    rows = a_message(text), a_message("**whole**", role="assistant"), a_message(text)
    tokens, env = read(written("md", *rows))
    assert headings(tokens) == OURS
    assert raw(tokens) == []
    assert env.get("references", {}) == {}
    assert "<p><strong>whole</strong></p>" in shown(written("md", *rows))


@pytest.mark.parametrize("text", OPEN.values(), ids=OPEN)
def test_system_prompt_closes_what_it_opens(text: str) -> None:
    tokens, _ = read(written("md", a_message("Hi"), conversation=a_conversation(system=text)))
    assert headings(tokens) == [("h1", "Title"), ("h2", "System"), ("h2", "User")]


KEPT = {
    "words": "Plain *words*, **bold** `code` [link](https://example.com/a_b) ~~gone~~.",
    "a list": "- a\n- b\n  1. c\n\n* d\n  - [ ] e",
    "a table": "| a | b |\n|---|---|\n| 1 | `2` |",
    "code": "```python\n# a comment\nif a < b > c:\n    print('<b>')  # [x]: y\n===\n```\nafter",
    "code in tildes": "~~~~\n~~~\n```\n~~~~",
    "code in a list": "1. Do:\n\n   ```sh\n   # as root\n   a <b>\n\n   c\n   ```\n\n2. Then",
    "code in a quote": "> Say:\n>\n> ```\n> # <b>\n> ```\n>\n> so",
    "indented code": "Like this:\n\n    # include <b>\n\n    [x]: y\n\nSo.",
    "code in a line": "Use `Vec<T>`, ``a`<b>``, and `dict[str]: int` there.",
    "lines across": "a\n\n---\n\nb\n\n***",
    "a link in brackets": "See <https://example.com/?a=1> or <mailto:a@example.com>.",
    "signs": "1 < 2, a<- b, 3 # 4, #5, \\<b>, x]y: z = 1 - 2",
    "levels below": "### Third\n\n#### Fourth",
}


@pytest.mark.parametrize("text", KEPT.values(), ids=KEPT)
def test_harmless_markdown_is_unchanged(text: str) -> None:
    expected = shown(text).replace("<h4>", "<h6>").replace("</h4>", "</h6>").replace("h3>", "h5>")
    assert shown(embedded(text.encode()).decode()) == expected


LOOKS = {
    "headings keep their order": ("# A\n\n## B\n\n###### F", "<h3>A</h3>\n<h4>B</h4>\n<h6>F</h6>\n"),
    "tags are words": ("Use a Vec<T>.\n\n<details>", "<p>Use a Vec&lt;T&gt;.</p>\n<p>&lt;details&gt;</p>\n"),
    "definitions are words": ("[a]: /u", "<p>[a]: /u</p>\n"),
    "code that left its list": (
        "- a\n  ```\nx\n  ```\n",
        "<ul>\n<li>\n<p>a</p>\n<pre><code>x\n</code></pre>\n</li>\n</ul>\n",
    ),
    "a link before a tag": ("http://x.example<br>", "<p>http://x.example &lt;br&gt;</p>\n"),
    "lines below words": ("a\n---\nb\n===", "<p>a</p>\n<hr />\n<p>b\n===</p>\n"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "looks"), LOOKS.values(), ids=LOOKS)
def test_harmful_markdown_is_shown_as_text(text: str, looks: str) -> None:
    assert shown(embedded(text.encode()).decode()) == looks


@pytest.mark.parametrize(
    "text",
    ["Vec<T> or *mut T", "[a](b) `c` _d_", "a\n# b", "C #", "&lt; &", "# a", "~~a~~ $x$ :smile:", "\\", "a\u2028b"],
)
def test_title_is_shown_literally(text: str) -> None:
    tokens, _ = read(f"# {title(text)}\n")
    assert [token.type for token in tokens] == ["heading_open", "inline", "heading_close"]
    assert "".join(child.content for child in tokens[1].children or []) == " ".join(text.split())


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0")))
def test_any_title_is_shown_literally(text: str) -> None:
    tokens, _ = read(f"# {title(text)}\n")
    assert "".join(child.content for child in tokens[1].children or []) == " ".join(text.split())


@pytest.mark.parametrize(
    "text",
    [
        *("`", "`a`", "www.", "$`", "<a", "]:", "> ", "- ", "1. ", "# \n", "```\n", "- ```\n", "   ```\n", "a\n---\n"),
        *("\n===\n", "`<", "<http://", "\\", "\r", "> ```\n", "[`", "\t"),
    ],
)
def test_message_is_rendered_in_linear_time(text: str) -> None:
    """For any repetition. Quadratic time would be minutes."""
    embedded((text * 50_000).encode())


@pytest.mark.parametrize("lead", ["- ", "1. ", "> ", "> - ", "- > "])
@pytest.mark.parametrize("fence", ["```", "~~~~"])
def test_code_in_deep_lists_does_not_multiply_length(lead: str, fence: str) -> None:
    line = ">" * (lead.count(">") * 5_000) + "a"
    text = f"{lead * 5_000}{fence}\n" + f"{line}\n" * (5_000 if line == "a" else 5)
    assert len(embedded(text.encode())) < 2 * len(text)


@pytest.mark.parametrize("lead", ["- ", "1. ", "> "])
@pytest.mark.parametrize("fence", ["```", "~~~"])
def test_fence_nested_too_deeply_is_text(lead: str, fence: str) -> None:
    text = f"{lead * 40}{fence}\n# a\n<b>\n[a]: /u"
    tokens, env = read(written("md", a_message(text), a_message("**whole**", role="assistant"), a_message("Hi")))
    assert headings(tokens) == OURS
    assert raw(tokens) == []
    assert env.get("references", {}) == {}


def test_reply_is_marked_as_ai_generated() -> None:
    rows = a_message("Hi"), a_message("Hello", role="assistant")
    before, _, behind = written("md", *rows).partition("## Assistant")
    assert ("AI" in before, "AI generated · AI 生成" in behind) == (False, True)
