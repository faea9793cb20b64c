"""A foreign page in a real browser, and a server on loopback without keys."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Error, Page

from tests.http.api import Api, asked, unique
from tests.upstream import Upstream

if TYPE_CHECKING:
    from tests.browser.engines import Engine

# Requests that a page may send without a preflight. They could do harm without a readable answer.
ATTEMPTS = """async ([target, message]) => {
    const seen = [];
    const body = JSON.stringify({ message });
    for (const type of ['text/plain', 'application/x-www-form-urlencoded']) {
        const options = { method: 'POST', mode: 'no-cors', headers: { 'Content-Type': type }, body };
        await fetch(`${target}/api/chat`, options).then((answer) => seen.push(answer.type), () => seen.push('refused'));
    }
    await fetch(`${target}/api/chat`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body })
        .then(() => seen.push('answered'), () => seen.push('refused'));
    await fetch(`${target}/api/conversations`).then(() => seen.push('answered'), () => seen.push('refused'));
    navigator.sendBeacon(`${target}/api/chat`, new Blob([body], { type: 'text/plain' }));
    for (const path of ['/static/icon.svg', '/api/conversations']) {
        seen.push(await new Promise((resolve) => {
            const picture = new Image();
            picture.onload = () => resolve('loaded');
            picture.onerror = () => resolve('refused');
            picture.src = target + path;
        }));
    }
    return seen;
}"""
FORM = """([target, message]) => {
    document.body.innerHTML = '<form method="post" enctype="text/plain"><input></form><iframe name="frame"></iframe>';
    const form = document.forms[0];
    [form.action, form.target] = [`${target}/api/chat`, 'frame'];
    [form[0].name, form[0].value] = [`{"message": "${message}", "metadata": {"a": "`, '"}}'];
    form.submit();
}"""


class Foreign(BaseHTTPRequestHandler):
    """An empty page."""

    def do_GET(self) -> None:
        body = b"<!doctype html><title>foreign</title><body></body>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def foreign(browser: Engine) -> Iterator[Page]:
    """A page on another port of this machine: same site, another origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Foreign) as server, browser.new_context() as context:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        yield page
        server.shutdown()


def test_foreign_page_cannot_take_a_turn_or_read(foreign: Page, api: Api, upstream: Upstream) -> None:
    message = unique("from afar")
    seen = foreign.evaluate(ATTEMPTS, [api.server.url, message])
    assert seen[2:] == ["refused"] * 4, seen
    foreign.evaluate(FORM, [api.server.url, message])
    foreign.wait_for_timeout(500)  # for the form's answer; pages cannot wait for foreign answers
    assert not [request for request in upstream.requests if message in json.dumps(request.body)]
    assert asked(upstream, message) == []


def test_foreign_page_cannot_stop_a_reply(foreign: Page, api: Api) -> None:
    """A stop has no body, so the check of the content type does not protect it."""
    with api.running("Slowly #n=20,r=20,seed=3#") as turn:
        stop = f"{api.server.url}/api/conversations/{turn.id}/stop"
        foreign.evaluate("url => fetch(url, { method: 'POST', mode: 'no-cors' }).catch(() => 0)", stop)
        assert turn.rest().data["status"] == "completed"


def test_foreign_page_cannot_frame_the_page(foreign: Page, api: Api) -> None:
    with foreign.expect_response(f"{api.server.url}/"):
        foreign.evaluate("url => { document.body.innerHTML = `<iframe src=${url}></iframe>`; }", f"{api.server.url}/")
    foreign.wait_for_timeout(500)  # there is nothing to wait for
    assert foreign.frames[1].query_selector("#composer") is None


def test_rebound_name_is_rejected(browser: Engine, api: Api) -> None:
    """Browsers resolve names below .localhost to this machine, like a rebound name."""
    with browser.new_context() as context:
        page = context.new_page()
        for path in ("/", "/api/conversations"):
            url = f"http://evil.localhost:{api.server.port}{path}"
            # Firefox does not display a problem, which Playwright reports as an error.
            with page.expect_response(url) as answer, contextlib.suppress(Error):
                page.goto(url)
            assert answer.value.status == 421
