"""Measure the page: bytes, requests, and the CPU time of its tasks.

Tasks are measured by the processor time that they take, so that other work on the machine counts little.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page

from chatkeep.domain import conversation as model
from chatkeep.domain.conversation import OPEN_OWNER, Role
from chatkeep.store import conversations, messages
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.transaction import Transaction

MANY = 5000
LONG_TASK_MS = 50
# Scrolls up when older messages arrive. Polling from outside would cost more than the page's own work.
READ_UP = """(count) => new Promise((done) => {
    const articles = document.getElementById('messages').getElementsByTagName('article');
    let seen = 0;
    const look = () => {
        if (articles.length >= count) return done();
        if (articles.length > seen) document.getElementById('scroller').scrollTop = 0;
        seen = articles.length;
        setTimeout(look, 20);
    };
    look();
})"""
PROSE = "Some **bold** text with `code` and a [link](https://example.org), then more of it.\n\n- one\n- two\n"


def store_many(database_url: str, count: int = MANY) -> str:
    """Store a conversation of many messages and return its id."""
    identity, now = model.new_id(), model.now_us()
    database = Database(database_url)
    journal = Journal(database)
    ids = [model.new_id() for _ in range(count)]
    conversation = model.Conversation(identity, OPEN_OWNER, "Many", now, now, count, current_id=ids[-1])

    def store(connection: Transaction) -> None:
        conversations.insert(connection, conversation)
        for position, (parent, own) in enumerate(zip([None, *ids[:-1]], ids, strict=True), 1):
            role = Role.USER if position % 2 else Role.ASSISTANT
            messages.insert(connection, model.Message(
                id=own, conversation_id=identity, parent_id=parent, position=position, role=role,
                content=f"Message {position}. {PROSE * 3}", timestamp=now - count + position,
            ))  # fmt: skip

    journal.write(store)
    journal.close()
    database.close()
    return str(identity)


def read_up(page: Page, count: int) -> None:
    """Scroll up until this many messages of the conversation are loaded."""
    page.evaluate(READ_UP, count)


def loaded(page: Page, load: Callable[[], Any]) -> dict[str, int]:
    """Return the transferred bytes of each file of the page, without API answers."""
    cdp = page.context.new_cdp_session(page)
    names: dict[str, str] = {}
    sizes: dict[str, int] = {}
    cdp.on("Network.requestWillBeSent", lambda event: names.update({event["requestId"]: event["request"]["url"]}))
    cdp.on("Network.loadingFinished", lambda event: sizes.update({event["requestId"]: event["encodedDataLength"]}))
    cdp.send("Network.enable")
    load()
    page.wait_for_load_state("networkidle")
    cdp.detach()
    files = {names[request].rsplit("/", 1)[-1]: int(size) for request, size in sizes.items() if request in names}
    return {name: size for name, size in files.items() if "?" not in name}


def calm(measure: Callable[[], list[float]], *, longest: float, in_all: float = math.inf) -> list[float]:
    """Return the tasks of the first of three measurements in which all are short, or fail.

    A machine that does much else makes the same task take twice the processor time.
    """
    measured = []
    for _ in range(3):
        measured.append(measure())
        if max(measured[-1]) < longest and sum(measured[-1]) < in_all:
            return measured[-1]
    raise AssertionError([(max(taken), sum(taken)) for taken in measured])


def tasks(page: Page, act: Callable[[], Any]) -> list[float]:
    """Return the CPU time in ms of each task of the page during an action."""
    browser = page.context.browser
    assert browser
    browser.start_tracing(page=page, categories=["toplevel"])
    act()
    events = json.loads(browser.stop_tracing())["traceEvents"]
    mains = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    return [
        event.get("tdur", 0) / 1000
        for event in events
        if (event["pid"], event["tid"]) in mains and event["name"] == "ThreadControllerImpl::RunTask"
    ]
