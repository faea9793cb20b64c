"""Markdown in replies is rendered correctly for any chunking, and is always harmless."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

import chatkeep
from tests.browser.chat import Chat
from tests.browser.conftest import Visit
from tests.http.api import Api, unique

VENDOR = Path(chatkeep.__file__).parent / "web" / "static" / "vendor"
pytestmark = pytest.mark.skipif(not (VENDOR / "marked.js").exists(), reason="assets: ./dev assets could not make them")

ELSEWHERE = "http://127.0.0.2:9/picture.png"
RUN = "window.harmed=1"
VECTORS = [
    f"<script>{RUN}</script>",
    f"<ScRiPt >{RUN}</sCrIpT>",
    f"<<script>{RUN}//<</script>",
    f"<script src={ELSEWHERE}></script>",
    f"<img src=x onerror={RUN}>",
    f"<img src={ELSEWHERE}>",
    f"<img srcset={ELSEWHERE}>",
    f"<image href={ELSEWHERE}>",
    f"<svg onload={RUN}></svg>",
    f"<svg><script>{RUN}</script></svg>",
    f"<svg><animate onbegin={RUN} attributeName=x dur=1s></svg>",
    "<svg><use href=data:image/svg+xml;base64,PHN2Zz4=#x></svg>",
    f"<body onload={RUN}>",
    f"<mark onmouseover={RUN}>marked</mark>",
    f"<mark/onclick={RUN}>marked</mark>",
    f"<details open ontoggle={RUN}>more</details>",
    f"<video><source onerror={RUN}></video>",
    f"<audio src={ELSEWHERE} autoplay onloadstart={RUN}></audio>",
    f"<input autofocus onfocus={RUN}>",
    f"<form action={ELSEWHERE}><button>send</button></form>",
    f"<button formaction=javascript:{RUN}>press</button>",
    f"<iframe src=javascript:{RUN}></iframe>",
    f"<iframe srcdoc='<script>parent.{RUN}</script>'></iframe>",
    f"<object data={ELSEWHERE}></object><embed src={ELSEWHERE}>",
    f"<link rel=stylesheet href={ELSEWHERE}>",
    f"<style>@import '{ELSEWHERE}'; * {{ background: url({ELSEWHERE}) }}</style>",
    f"<p style='background:url({ELSEWHERE})'>styled</p>",
    f"<meta http-equiv=refresh content='0;url={ELSEWHERE}'>",
    f"<base href={ELSEWHERE}>",
    f"<math><mtext><table><mglyph><style><!--</style><img title='--><img src=x onerror={RUN}>'>",
    f"<math><a xlink:href=javascript:{RUN}>press</a></math>",
    f"<noscript><p title='</noscript><img src=x onerror={RUN}>'>",
    f"<template><img src=x onerror={RUN}></template>",
    f"<textarea></textarea><img src=x onerror={RUN}>",
    "<form id=test><input name=attributes><input name=body></form><a id=messages name=conversations>x</a>",
    f"[press](javascript:{RUN})",
    f"[press](JaVaScRiPt:{RUN})",
    f"[press](java&#115;cript:{RUN})",
    f"[press](&#x6A;avascript:{RUN})",
    f"[press](<java\tscript:{RUN}>)",
    "[press](data:text/html;base64,PHNjcmlwdD4=)",
    f"[press](vbscript:{RUN})",
    f"<javascript:{RUN}>",
    f"[press][away]\n\n[away]: javascript:{RUN}",
    f"[press](#{'0' * 8})",
    f"![picture]({ELSEWHERE})",
    f'![picture]({ELSEWHERE} "onerror={RUN}")',
    f'!["onerror={RUN} x="](x)',
    f"[![picture]({ELSEWHERE})](javascript:{RUN})",
    f'```"><img src=x onerror={RUN}>\n</code></pre><script>{RUN}</script>\n```',
    f"`<img src=x onerror={RUN}>`",
    f"| <img src=x onerror={RUN}> | [x](javascript:{RUN}) |\n|-|-|\n| <script>{RUN}</script> | ![]({ELSEWHERE}) |",
    f"- <img src=x\n  onerror={RUN}>",
    f"> <svg/onload={RUN}>",
    f"# <img src=x onerror={RUN}>",
    f"&lt;img src=x onerror={RUN}&gt;",
    f"<!--><img src=x onerror={RUN}>-->",
    f"<![CDATA[<img src=x onerror={RUN}>]]>",
    f"<x contenteditable autofocus onfocus={RUN}>x</x>",
    f"<sub><sup><kbd><mark><br onclick={RUN}>",
    f"https://example.org/'onmouseover={RUN}//",
    f'https://example.org/"onmouseover="{RUN}',
]  # fmt: skip
FORBIDDEN = (
    "script, img, image, iframe, object, embed, style, link, meta, base, form, input, textarea, select, template, math,"
    " video, audio, source, body, svg:not(.icon), button:not(.copy-code), [style], [id], [name], [src], [srcset]"
)
ALOUD = "nodes => nodes.flatMap(node => [...node.attributes]).filter(({ name }) => name.startsWith('on')).length"
DOCUMENT = """# Headline

Some **bold**, *italic* and `code`, a [link](https://example.org/x), https://example.com/auto
and a second line of 中文 and 😀.

- one
- two
  - nested

  still two
3. three
4. four
\t- with a tab
\t\t\tand more

   * * *

| Name | Value |
|:---|---:|
| a \\| b | 1 |
| <br> | 2 |

```js
if (a < b) {

  say(`${a}`);
}
```
Title
---
> quoted
> - list

    indented code

* * *
[note]: https://example.org/note

The end: a_b_c, 2 * 3 * 4 <kbd>x</kbd>"""
# Feeds the page's renderer pieces of these lengths, one a frame, and returns its output without colours.
RENDER = """async ([text, length]) => {
    const page = document.querySelector('script[src$="/chat.js"]').src;
    const { MarkdownText } = await import(new URL('markdown.js', page));
    const root = document.createElement('div');
    const shown = new MarkdownText(root);
    for (let at = 0; at < text.length; at += length) {
        shown.append(text.slice(at, at + length));
        while (shown.step());
    }
    await shown.end();
    for (const span of root.querySelectorAll('pre span')) span.replaceWith(...span.childNodes);
    root.normalize();
    for (const node of root.querySelectorAll('*')) {
        const attributes = [...node.attributes].sort((one, other) => one.name.localeCompare(other.name));
        for (const { name, value } of attributes) node.removeAttribute(name), node.setAttribute(name, value);
    }
    return root.innerHTML;
}"""
COUNT = """html => {
    const root = new DOMParser().parseFromString(html, 'text/html');
    const count = (selector) => root.querySelectorAll(selector).length;
    const [lists, items, tables, rows, figures] = ['ul', 'li', 'table', 'tr', 'figure'].map(count);
    const lines = count('br') + count('.goes-on') + 1;
    return { lists, items, tables, rows, figures, lines, text: root.body.textContent };
}"""


def test_malicious_markdown_neither_runs_nor_loads(chat: Chat, api: Api) -> None:
    """Sends sixty texts to a conversation and checks each twice: a second or two."""
    first = api.chat(VECTORS[0])["conversation_id"]
    for vector in VECTORS[1:]:
        api.chat(vector, conversation_id=first)
    chat.open(first)
    while chat.replies.count() < len(VECTORS):
        chat.page.locator("#scroller").evaluate("box => box.scrollTo(0, 0)")  # loads earlier messages
        chat.page.wait_for_timeout(100)
    expect(chat.replies).to_have_count(len(VECTORS))
    expect_harmless(chat)


def test_malicious_markdown_does_not_run_while_it_arrives(chat: Chat) -> None:
    """Streams all of them in one reply, word by word: a second or two."""
    chat.send("#r=400#\n\n" + "\n\n".join(VECTORS))
    chat.expect_status("completed", 30)
    expect_harmless(chat)


def expect_harmless(chat: Chat) -> None:
    """The fixture fails on foreign requests and policy violations."""
    bodies = chat.page.locator("article .body")
    assert bodies.locator(FORBIDDEN).evaluate_all("nodes => nodes.map((node) => node.outerHTML)") == []
    assert bodies.locator("*").evaluate_all(ALOUD) == 0
    targets = bodies.locator("a").evaluate_all("links => links.map(({ href }) => href.split(':')[0])")
    assert set(targets) <= {"http", "https", "mailto"}
    assert bodies.locator('a:not([target="_blank"][rel="noopener noreferrer"])').count() == 0
    for link in bodies.locator("a, kbd, mark").all()[:20]:
        link.dispatch_event("mouseover")
    chat.page.wait_for_timeout(200)
    assert chat.page.evaluate("window.harmed") is None


def test_markdown_is_rendered(chat: Chat) -> None:
    chat.ask("x\n\n" + DOCUMENT)
    body = chat.reply.locator(".body")
    expect(body.get_by_role("heading", name="Headline", level=3)).to_be_visible()
    expect(body.get_by_role("table").get_by_role("row")).to_have_count(3)
    expect(body.get_by_role("cell", name="1")).to_have_css("text-align", "end")
    assert body.locator("ul ul > li").all_text_contents() == ["nested"]
    expect(body.locator("ol")).to_have_attribute("start", "3")
    assert body.get_by_role("link").evaluate_all("links => links.map(({ href }) => href)") == [
        "https://example.org/x", "https://example.com/auto", "https://example.org/note",
    ]  # fmt: skip
    expect(body.get_by_role("link", name="link")).to_have_attribute("target", "_blank")


@pytest.mark.parametrize("length", [1, 7, 100])
def test_rendering_does_not_depend_on_chunking(chat: Chat, length: int) -> None:
    whole = chat.page.evaluate(RENDER, [DOCUMENT, 100_000])
    assert "<table>" in whole
    assert chat.page.evaluate(RENDER, [DOCUMENT, length]) == whole


def test_beginning_list_is_never_a_heading(chat: Chat) -> None:
    half = RENDER.replace("await shown.end();", "")
    assert chat.page.evaluate(half, ["They are:\n-", 100]) == '<p dir="auto">They are:</p>'
    assert "<h4" in chat.page.evaluate(RENDER, ["They are:\n-", 100])


@pytest.mark.parametrize("length", [300, 5000])
def test_long_blocks_that_are_split_stay_whole(chat: Chat, length: int) -> None:
    rows = range(1200)
    long = {
        "items": "\n".join(f"- row {row} with **bold**" for row in rows),
        "rows": "|a|b|\n|-|-|\n" + "\n".join(f"|row {row}|`code`|" for row in rows),
        "figures": "```\n" + "\n".join(f"row {row}" for row in rows) + "\n```",
        "lines": "\n".join(f"row {row} with **bold**" for row in rows),
        "text": "word " * 3000 + "end",
    }
    seen = {name: chat.page.evaluate(COUNT, chat.page.evaluate(RENDER, [text, length])) for name, text in long.items()}
    assert (seen["items"]["lists"], seen["items"]["items"]) == (1, 1200)
    assert (seen["rows"]["tables"], seen["rows"]["rows"]) == (1, 1201)
    assert seen["figures"]["figures"] == 1
    assert seen["figures"]["text"] == "Code" + "\n".join(f"row {row}" for row in rows)
    assert seen["lines"]["lines"] == 1200
    assert seen["text"]["text"] == long["text"]


@pytest.mark.parametrize("text", [">" * 20_000, "[" * 20_000, "*a " * 10_000, "- " * 3000, "`" * 9999, "<sub>" * 2000])
def test_deep_nesting_does_not_block_the_page(chat: Chat, text: str) -> None:
    assert chat.page.evaluate(RENDER, [text, 100_000])
    chat.ask("Still there?")


def test_remote_image_loads_only_on_click(chat: Chat) -> None:
    chat.ask(f"Look: ![A cat]({ELSEWHERE})")
    picture = chat.reply.get_by_role("link", name="A cat · 127.0.0.2:9")
    with chat.page.context.expect_page() as opened:
        picture.click()
    opened.value.close()


def test_code_is_highlighted_when_its_block_ends(chat: Chat) -> None:
    """The reply is slow, so that its block is incomplete for a second: four seconds."""
    code = "if a < b:\n    print('<b>') # it is and so on and on"
    chat.send(f"x #r=8#\n\n```python\n{code}\n```\nafter that comes more and more")
    expect(chat.reply.locator("pre")).to_contain_text("print")
    assert chat.reply.locator("pre span").count() == 0
    expect(chat.reply.locator("pre .hljs-keyword").first).to_have_text("if")
    chat.expect_status("completed")
    assert chat.reply.locator("pre").text_content() == code


@pytest.mark.every_engine
def test_highlighting_recovers_from_a_failed_load(chat: Chat) -> None:
    code = "x\n\n```python\nprint(1)\n```"
    chat.page.route("**/highlight/**", lambda route: route.abort())
    with chat.page.expect_console_message(lambda message: "This code has no colours" in message.text):
        chat.ask(code)
    chat.page.unroute("**/highlight/**")
    chat.ask(code)
    expect(chat.reply.locator("pre .hljs-number")).to_have_text("1")


@pytest.mark.parametrize("clipboard", [True, False], ids=["https", "http"])
def test_code_block_can_be_copied(visit: Visit, clipboard: bool) -> None:  # noqa: FBT001
    chat = visit(permissions=["clipboard-read", "clipboard-write"])
    if not clipboard:  # as on plain http
        chat.page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    code = unique("copied = 1\n\nif a < b:\n\tpass")
    chat.ask(f"x\n```python\n{code}\n```")
    chat.reply.locator("figure").get_by_role("button", name="Copy").click()
    expect(chat.reply.locator("figure").get_by_role("button", name="Copied")).to_be_visible()
    chat.box.press("ControlOrMeta+V")
    expect(chat.box).to_have_value(code)


def test_user_messages_are_shown_as_written(chat: Chat) -> None:
    written = "# no *heading*\n\n\n<b>x</b>\n```\ncode"
    chat.ask(written)
    assert chat.messages.first.locator(".body").inner_text() == written


def test_replies_are_plain_text_without_the_libraries(visit: Visit) -> None:
    def nothing(route: Any) -> None:
        route.fulfill(content_type="text/javascript", body="export {};")

    chat = visit(service_workers="block")
    chat.page.route("**/vendor/*.js", nothing)
    chat.page.reload()
    chat.ask("x **bold**\n```python\ncode\n```")
    assert chat.reply.locator(".body > p").text_content() == "You said: x **bold**"
    assert chat.reply.locator("pre").text_content() == "code"
