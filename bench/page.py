"""Load of the chat page on Chromium: its size, the time until it can be used, and its longest tasks.

The slow phone is what Lighthouse takes for one: a processor four times slower, 150 ms and 1.6 Mbit/s away.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, expect, sync_playwright

from bench import servers
from bench.processes import BenchError
from bench.table import Report, Row, medians
from tests.browser.chat import Chat
from tests.browser.weight import LONG_TASK_MS, MANY, loaded, read_up, store_many, tasks
from tests.servers import Server
from tests.services import chromium, debian
from tests.upstream import Upstream

LONG_REPLY = "Long #n=45000,seed=1#"  # 200 KB
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
SLOW_LINE = {"offline": False, "latency": 150, "downloadThroughput": 200_000, "uploadThroughput": 94_000}
SLOWER = 4
PATIENCE_MS = 60_000
# Resolves when the greeting is shown, which the modules do last. The page's policy forbids polling with a string.
READY = """() => new Promise((done) => {
    const look = () => document.querySelector('#welcome:not([hidden])') ? done(performance.now()) : setTimeout(look, 2);
    look();
})"""
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
COLUMNS = {
    "what": "what",
    "requests": "requests",
    "kilobytes": "KB",
    "painted_ms": "first paint ms",
    "usable_ms": "usable ms",
    "longest_ms": "longest task CPU ms",
    "long_tasks": "tasks over 50 ms",
    "total_ms": "CPU ms in all",
}


def arguments(parser: ArgumentParser) -> None:
    """Declare the options: this benchmark has none."""


def measure(options: Namespace) -> Report:
    """Load the page, stream a long reply, and read a long conversation from end to start."""
    runs = [run() for _ in range(options.runs)]
    notes = [
        "KB are compressed; what the API answers does not count.",
        "Usable is when a message can be written and sent; a task's CPU time does not count what else runs.",
    ]
    return Report("page", {"messages": MANY, "runs": options.runs}, COLUMNS, medians(runs), runs, notes)


def run() -> list[Row]:
    """Measure everything once, on a fresh server."""
    with servers.folder() as place, Upstream() as provider:
        env = {
            "DATABASE_URL": servers.sqlite_url(place),
            "OPENAI_BASE_URL": provider.url,
            "OPENAI_API_KEY": "key-of-the-benchmark",
        }
        with Server("gunicorn", place, env) as server, browser() as running:
            return [*loads(running, server), *texts(running, server)]


@contextmanager
def browser() -> Iterator[Browser]:
    """Run a separate Chromium."""
    try:
        program = chromium.ensure_installed()
    except debian.Unavailable as reason:
        raise BenchError(str(reason)) from reason
    with sync_playwright() as playwright, chromium.launch(playwright, program) as running:
        yield running


def loads(running: Browser, server: Server) -> list[Row]:
    """Load the page for the first time and again, and for the first time on a slow phone."""
    load("the files are compressed once", opened(running, server))
    desktop, phone = opened(running, server), opened(running, server, **PHONE)
    slow_down(phone)
    return [load("first load", desktop), load("second load", desktop), load("first load, slow phone", phone)]


def opened(running: Browser, server: Server, **profile: Any) -> Chat:
    """Return an empty tab of a fresh profile."""
    page = running.new_context(locale="en-GB", **profile).new_page()
    return Chat(page, server.url)


def slow_down(chat: Chat) -> None:
    """Slow a tab down to the speed of a phone."""
    cdp = chat.page.context.new_cdp_session(chat.page)
    cdp.send("Network.enable")
    cdp.send("Network.emulateNetworkConditions", SLOW_LINE)
    cdp.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})


def load(what: str, chat: Chat) -> Row:
    """Return the figures of loading the page."""
    usable: list[float] = []

    def go() -> None:
        chat.page.goto(f"{chat.url}/", wait_until="commit")
        usable.append(float(chat.page.evaluate(READY)))

    sizes: dict[str, int] = {}
    taken = tasks(chat.page, lambda: sizes.update(loaded(chat.page, go)))
    painted = float(chat.page.evaluate(PAINTED))
    size: Row = {"requests": len(sizes), "kilobytes": sum(sizes.values()) / 1000}
    return {"what": what, **size, "painted_ms": painted, "usable_ms": usable[0], **work(taken)}


def texts(running: Browser, server: Server) -> list[Row]:
    """Stream a long reply. Open a long conversation, read all of it, and continue it."""
    chat = opened(running, server)
    chat.open()
    many = store_many(server.env["DATABASE_URL"])
    return [
        doing("a reply of 200 KB", chat, lambda: stream(chat)),
        doing(f"open {MANY:,} messages", chat, lambda: open_end(chat, many)),
        doing("read them all, scrolling up", chat, lambda: read_up(chat.page, MANY)),
        doing("a reply behind them", chat, lambda: chat.ask("Hello #n=200#")),
    ]


def doing(what: str, chat: Chat, act: Callable[[], None]) -> Row:
    """Return the figures of an action on an open page."""
    row: Row = {"what": what, "requests": None, "kilobytes": None, "painted_ms": None, "usable_ms": None}
    return row | work(tasks(chat.page, act))


def stream(chat: Chat) -> None:
    """Take a turn with a long reply that is sent as fast as possible."""
    chat.send(LONG_REPLY)
    chat.expect_status("completed", 120)


def open_end(chat: Chat, conversation: str) -> None:
    """Open a conversation at its end."""
    chat.open(conversation)
    expect(chat.reply).to_contain_text(f"Message {MANY}.", timeout=PATIENCE_MS)


def work(taken: list[float]) -> Row:
    """Return the durations of the page's tasks."""
    return {
        "longest_ms": max(taken, default=0.0),
        "long_tasks": sum(each > LONG_TASK_MS for each in taken),
        "total_ms": sum(taken),
    }
