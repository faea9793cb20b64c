"""The joined deltas of a stream equal the stored reply, character by character."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.client import Stream
from tests.conftest import ON_EVERY_PAIR
from tests.http.api import Api
from tests.upstream import reply_to

pytestmark = [ON_EVERY_PAIR, pytest.mark.everywhere]

TURNS = {("gunicorn", "sqlite"): range(500), ("gunicorn", "mysql"): range(500, 1000)}
FEWER_TURNS = range(50)
CONCURRENCY = 16
PIECES = [
    "plain words ", "data: x\n\n", "event: done\r\n", "\r", "\n", "\t", "\0", '"', "\\", "\\u0041", "%s", "'; --",
    "</script>", "你好, 世界。", "𠮷野家", "שלום", "مرحبا ", "\u202e", "e\u0301", "\u0301", "한", "ᄒ", "Å", "😀",
    "👩‍👩‍👧", "🇨🇳", "🏳️‍🌈", "\ufeff", "\ufffd", "\uffff", "\u2028", "\u2029", "\u0085", "\x7f", "\x1b[0m",
    "\U0010ffff", "\u200b", " ", "   ",
]  # fmt: skip


def test_streamed_reply_is_stored_as_shown(api: Api) -> None:
    """Takes a thousand turns: ten seconds."""
    database = api.server.env["DATABASE_URL"].partition(":")[0].partition("+")[0]
    turns = TURNS.get((api.server.command, database), FEWER_TURNS)
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        wrong = [
            seed
            for seed, exact in zip(turns, pool.map(lambda seed: is_exact(api, seed), turns), strict=True)
            if not exact
        ]
    assert wrong == []


def is_exact(api: Api, seed: int) -> bool:
    message = message_of(seed)
    stream = api.streamed(message)
    stored = api.last(stream.events[0].data["conversation_id"])
    return stream.text == stored["content"] == reply_to(message) and ids_count(stream)


def message_of(seed: int) -> str:
    """Return a message of unusual characters. Its echo arrives in pieces that split them."""
    chosen = random.Random(seed)  # noqa: S311 - it must repeat itself
    text = "".join(chosen.choices(PIECES, k=chosen.randint(1, 60)))
    return f"#split,seed={seed}{',halves' * (seed % 2)}{',crlf' * (seed % 3 == 0)}# {text}"


def ids_count(stream: Stream) -> bool:
    """Return whether every delta's id is its end offset in characters."""
    shown = 0
    for event in stream.events:
        if event.event == "delta":
            shown += len(event.data.get("text", ""))
            if event.id != str(shown):
                return False
    return stream.events[-1].id == "end"


def test_lone_surrogate_becomes_a_replacement_character(api: Api) -> None:
    stream = api.streamed("Hello #fault=lone_half:2#")
    stored = api.last(stream.events[0].data["conversation_id"])
    assert stream.text == stored["content"] == "You said: \ufffdx\ufffd\ufffd"
    assert stored["status"] == "completed"


def test_message_is_stored_as_sent(api: Api) -> None:
    message = "".join(PIECES)
    stored = api.read(api.chat(message)["conversation_id"])["messages"]["data"]
    assert stored[0]["content"] == message
    assert stored[1]["content"] == reply_to(message)


def test_json_answer_is_stored_as_shown(api: Api) -> None:
    message = message_of(3)
    answer = api.chat(message)
    assert answer["reply"] == reply_to(message) == api.last(answer["conversation_id"])["content"]
