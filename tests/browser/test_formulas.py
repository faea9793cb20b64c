"""Formulas in replies are typeset, copied as source, and never confused with money or code."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.chat import Chat, bare
from tests.browser.conftest import Visit
from tests.browser.test_markdown import RENDER, VENDOR
from tests.http.api import Api

pytestmark = pytest.mark.skipif(not (VENDOR / "katex").exists(), reason="assets: ./dev assets could not make them")

# Each text and its formulas. The rest is rendered as Markdown.
FOUND: dict[str, list[str]] = {
    r"The roots are \(x_{1,2} = \frac{-b \pm \sqrt{d}}{2a}\) here": [r"\(x_{1,2} = \frac{-b \pm \sqrt{d}}{2a}\)"],
    "so\n\\[\n\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix} * \\vec{b}_1 * \\vec{c}_1\n\\]\nthen": [
        "\\[\n\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix} * \\vec{b}_1 * \\vec{c}_1\n\\]"
    ],
    "Also $E_0 = mc^2$ and $$\\int f_n * g_n * h_n$$ cost $5 and $6.": ["$E_0 = mc^2$", "$$\\int f_n * g_n * h_n$$"],
    "lines of their own:\n$$\na = b\n- c\n+ d\n= e\n$$\nand on": ["$$\na = b\n- c\n+ d\n= e\n$$"],
    "\\[\na\n\n= b\n\\]": ["\\[\na\n\n= b\n\\]"],
    "$$a$$. A full stop": ["$$a$$."],
    "1. Do\n   \\[\n   x = y\n   - z\n   \\]\n2. then $x$": ["\\[\nx = y\n- z\n\\]", "$x$"],
    "> $$x$$\n\n# Of $y$\n\n| a |\n|-|\n| $z_1$ |": ["$$x$$", "$y$", "$z_1$"],
    "**$a*b*c$**, *$d_e$ and $f_g$*, ~~$h$~~, *so $x*y$ is*": ["$a*b*c$", "$d_e$", "$f_g$", "$h$", "$x*y$"],
    "H$_2$O, n$^{th}$, 5$\\times$10, the $n$th, f($x$), $x$-axis": [
        "$_2$", r"$^{th}$", "$\\times$", "$n$", "$x$", "$x$",
    ],
    "设$x$为中文。则 $y=2$。": ["$x$", "$y=2$"],
    "$2 \\leq n$, $10$, $2x$, $3.5$": ["$2 \\leq n$", "$10$", "$2x$", "$3.5$"],
    "$\\text{costs \\$5}$ it is": ["$\\text{costs \\$5}$"],
    # Money, and similar signs
    "It costs $5 and $10, or US$5-US$6, $5/$6, ($5)-($10).": [],
    "Pay $5 for one or 9$ for two": [],
    "只要 $5 一个、9$": [],
    "from $1,000.50 to $2k; 10$ or 20$": [],
    "\\$5$ and \\$x\\$": [],
    "$HOME/$USER, ${A}:${B}, $PATH and $": [],
    "cheap ($), dear ($$), too dear ($$$), $$ to $$$": [],
    "$$ is much\n\nit is $$": [],
    "$ x $ and $x $": [],
    # Code
    "`$x$`, `\\(x\\)` and $`a`$, $5 `10$`": [],
    "```\n$x$\n\\[\ny\n\\]\n```": [],
    "    $x$": [],
    # Brackets of Markdown
    "\\[1\\] as in \\[2, 3\\] and \\[a\\](b)": [],
    "\\\\(x\\\\)": [],
    "https://a.example/?b=$c&d=$e is it": [],
    # No closing delimiter
    "\\(x and \\[y and $z": [],
    "$$\nx\n- y": [],
    "\\[" * 3000: [],
    "$" * 3000: [],
    "\\(" + "x" * 5000 + "\\)": [],
}  # fmt: skip
FIND = """async (texts) => {
    const page = document.querySelector('script[src$="/chat.js"]').src;
    const { blocksOf, render } = await import(new URL('render.js', page));
    return texts.map((text) => {
        const root = document.createElement('div');
        root.append(...render(blocksOf(text)));
        return [...root.querySelectorAll('.formula')].map((node) => node.dataset.source);
    });
}"""
# Feeds a text to the renderer sign by sign, and tells for each formula how often another node took its place, and what
# was shown of the whole just before it was one.
# What RENDER returns, with formulas as they were written: the styles in them are the page's own.
RENDER_SOURCES = RENDER.replace(
    "root.normalize();",
    "for (const node of root.querySelectorAll('.set')) node.replaceChildren(node.dataset.source); root.normalize();",
)
TEXT = "html => new DOMParser().parseFromString(html, 'text/html').body.textContent"
GROW = """async (text) => {
    const page = document.querySelector('script[src$="/chat.js"]').src;
    const { MarkdownText } = await import(new URL('markdown.js', page));
    const { whenSet } = await import(new URL('typeset.js', page));
    const root = document.createElement('div');
    root.className = 'body';
    document.body.append(root);
    const shown = new MarkdownText(root);
    const seen = [];
    let at = 0;
    for (const sign of text) {
        at += sign.length;
        const before = root.innerText;
        shown.append(sign);
        while (shown.step());
        if (at === text.length) await shown.end();
        await whenSet();
        const nodes = [...root.querySelectorAll('.formula')];
        nodes.forEach((node, index) => {
            const set = node.querySelector('.katex');
            const known = seen[index] ??= { node, set, before, changes: 0 };
            if (known.set !== set) Object.assign(known, { node, set, changes: known.changes + 1 });
        });
        if (nodes.length < seen.length) seen.push({ node: root, before: 'a formula was taken back', changes: 1 });
    }
    root.remove();
    return seen.map(({ node, before, changes }) => [node.dataset.source, before, changes]);
}"""
COPY = """([from, to]) => {
    const body = [...document.querySelectorAll('.body')].at(-1);
    const find = (text) => {
        const walker = document.createTreeWalker(body, NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) if (walker.currentNode.data.includes(text)) return walker.currentNode;
    };
    const [start, end] = [find(from), find(to)];
    getSelection().setBaseAndExtent(start, start.data.indexOf(from), end, end.data.indexOf(to) + to.length);
    document.activeElement.blur();
}"""
ANSWER = r"""The roots are \(x_{1,2} = \frac{-b \pm \sqrt{b^2-4ac}}{2a}\) and

\[
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} \vec{a}_1 * \vec{b}_1
\]

Also $E_0 = mc^2$ and $$\int_0^1 f_n(x)\,dx$$ cost $5 and $6.

```
$code$
```

Broken: $\frac{1}{$, \(\unknown{x}\), end"""
HOSTILE = [
    r"\href{javascript:window.harmed=1}{x}",
    r"\href{https://elsewhere.example/}{x}",
    r"\url{javascript:window.harmed=1}",
    r"\includegraphics[height=1em]{http://127.0.0.2:9/picture.png}",
    r"\htmlId{messages}{x}",
    r"\htmlClass{notice}{x}",
    r"\htmlStyle{position:fixed}{x}",
    r"\htmlData{text=send}{x}",
    r"\text{<img src=x onerror=window.harmed=1>}",
    r'\text{" style="position:fixed" onmouseover="window.harmed=1}',
    r"\def\a{\a\a}\a",
    r"\def\a#1{#1#1}\a{\a{\a{\a{\a{\a{\a{\a{\a{\a{\a{\a{\a{\a{\a{\a{\a{\a{x}}}}}}}}}}}}}}}}}}",
    "{" * 1900 + "}" * 1900,
    r"\rule{9999em}{9999em}",
    r"\kern-9999em x",
    r"\smash{\raisebox{9999em}{x}}",
    r"\color{url(http://127.0.0.2:9/x)}x",
]


def test_only_formulas_are_typeset(chat: Chat) -> None:
    found: list[list[str]] = chat.page.evaluate(FIND, list(FOUND))
    assert dict(zip(FOUND, found, strict=True)) == FOUND


@pytest.mark.parametrize("length", [1, 7, 100])
def test_formulas_do_not_depend_on_chunking(chat: Chat, length: int) -> None:
    """Renders each text twice: two seconds."""
    short = [text for text in FOUND if len(text) < 1000]
    whole = [chat.page.evaluate(RENDER_SOURCES, [text, 100_000]) for text in short]
    assert sum(is_set(shown) for shown in whole) == sum(map(len, FOUND.values()))
    assert [chat.page.evaluate(RENDER_SOURCES, [text, length]) for text in short] == whole


@pytest.mark.parametrize("length", [170, 1000])
def test_long_texts_are_never_split_inside_a_formula(chat: Chat, length: int) -> None:
    """Typesets five hundred formulas: a second or two."""
    sentence = "It is $a_{{{0}}} + b + c + d + e + f$ for $5 or \\(c\n\\cdot d_{0} + e + f\\) with *more*. "
    long = "".join(sentence.format(number) for number in range(80))
    for text in (long, long.replace(". ", ".\n"), long.replace("It", "\n- It")):
        shown = chat.page.evaluate(RENDER_SOURCES, [text, length])
        assert is_set(shown) == 160
        assert bare(chat.page.evaluate(TEXT, shown)) == bare(text)


def is_set(html: str) -> int:
    """Return the number of typeset formulas."""
    return len(re.findall(r'class="formula( display)? set"', html))


def test_open_formula_is_text_until_it_ends_and_is_typeset_once(chat: Chat) -> None:
    text = "Costs $5-$10, so $E = mc^2$, \\(a\\)\n\n$$\nb\n- c\n$$\n\n- $d$ and\n- $e$"
    grown = chat.page.evaluate(GROW, text)
    assert [(source, changes) for source, _, changes in grown] == [
        ("$E = mc^2$", 0), ("\\(a\\)", 0), ("$$\nb\n- c\n$$", 0), ("$d$", 0), ("$e$", 0),
    ]  # fmt: skip
    assert grown[0][1] == "Costs $5-$10, so $E = mc^2"
    assert grown[2][1].rstrip().endswith("$$\nb\n- c")


def test_formulas_are_typeset_and_copied_as_source(visit: Visit) -> None:
    """Loads the page twice: two seconds."""
    chat = visit(permissions=["clipboard-read", "clipboard-write"])
    clipboard = "navigator.clipboard.readText()"
    chat.ask(ANSWER)
    formulas = chat.reply.locator(".formula")
    expect(chat.reply.get_by_role("math")).to_have_count(4)
    assert formulas.evaluate_all("nodes => nodes.map((node) => Boolean(node.querySelector('.katex')))") == [
        True, True, True, True, False, False,
    ]  # fmt: skip
    assert formulas.nth(4).text_content() == r"$\frac{1}{$"
    assert formulas.nth(5).text_content() == r"\(\unknown{x}\)"
    assert chat.page.evaluate("document.fonts.ready.then(() => document.fonts.check('16px KaTeX_Main'))")
    chat.reply.locator("footer").get_by_role("button", name="Copy").click()
    expect(chat.reply.locator("footer").get_by_role("button", name="Copied")).to_be_visible()
    assert chat.page.evaluate(clipboard) == f"You said: {ANSWER}"
    chat.page.evaluate(COPY, ["roots", "cost $5"])
    chat.page.keyboard.press("ControlOrMeta+c")
    assert chat.page.evaluate(clipboard) == (
        "roots are \\(x_{1,2} = \\frac{-b \\pm \\sqrt{b^2-4ac}}{2a}\\) and\n\n"
        "\\[\n\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix} \\vec{a}_1 * \\vec{b}_1\n\\]\n\n"
        "Also $E_0 = mc^2$ and $$\\int_0^1 f_n(x)\\,dx$$ cost $5"
    )
    chat.page.evaluate(COPY, ["m", "c"])  # begins and ends inside a formula
    chat.page.keyboard.press("ControlOrMeta+c")
    assert "\\(x_{1,2} = \\frac{-b \\pm \\sqrt{b^2-4ac}}{2a}\\)" in chat.page.evaluate(clipboard)
    shown = chat.reply.locator(".body").inner_html()
    chat.page.reload()
    chat.expect_status("completed")
    assert chat.reply.locator(".body").inner_html() == shown


def test_malicious_formulas_do_no_harm(chat: Chat) -> None:
    chat.ask("\n\n".join(f"x ${tex}$ y" for tex in HOSTILE))
    body = chat.reply.locator(".body")
    expect(body.locator(".formula")).to_have_count(len(HOSTILE))
    assert body.locator("a, img, [id], [href], .notice, [data-text]").count() == 0
    assert body.locator(".formula").evaluate_all("nodes => nodes.slice(0, 8).every((node) => !node.children.length)")
    expect(body.locator(".formula").nth(8)).to_contain_text("<img src=x onerror=window.harmed=1>")
    assert body.evaluate("node => node.offsetHeight") < 6000
    for place in ("html", "#scroller"):
        wide, visible = chat.page.locator(place).evaluate("node => [node.scrollWidth, node.clientWidth]")
        assert wide == visible
    assert chat.page.evaluate("window.harmed") is None


def test_katex_is_loaded_only_for_formulas_and_optional(chat: Chat) -> None:
    chat.ask("No formula for $5 and $6")
    requested: list[str] = []
    chat.page.on("request", lambda request: requested.append(request.url))
    chat.page.reload()
    expect(chat.reply).to_contain_text("No formula")
    assert not [url for url in requested if "/katex/" in url]
    chat.page.route("**/katex/**", lambda route: route.abort())
    chat.ask("One: $x^2$")
    expect(chat.reply.locator(".formula")).to_have_text("$x^2$")
    chat.page.unroute("**/katex/**")
    chat.page.evaluate("dispatchEvent(new Event('online'))")
    expect(chat.reply.get_by_role("math")).to_have_count(1)


def test_shared_conversation_shows_formulas(chat: Chat, api: Api) -> None:
    conversation = api.chat("It is $x^2$ for $5")["conversation_id"]
    path = api.request("POST", f"/api/conversations/{conversation}/share").json["path"]
    chat.page.goto(chat.url + path)
    expect(chat.page.locator("article.assistant").get_by_role("math")).to_have_count(1)


def test_markdown_works_without_url_can_parse(chat: Chat) -> None:
    """As in Safari 16 and Chrome before 120."""
    chat.page.add_init_script("delete URL.canParse; delete URL.parse;")
    chat.page.reload()
    table = "| a |\n|---|\n| [b](https://b.example) |"
    chat.ask(f"See [the docs](https://docs.example/guide), [no](nowhere).\n\n- one\n- **two**\n\n{table}")
    body = chat.reply.locator(".body")
    assert links(body) == ["https://docs.example/guide", "https://b.example/"]
    expect(body.get_by_role("listitem")).to_have_text(["one", "two"])
    expect(body.get_by_role("table")).to_be_visible()


def links(body: Any) -> list[str]:
    return list(body.get_by_role("link").evaluate_all("links => links.map(({ href }) => href)"))
