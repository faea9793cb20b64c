"""Files that were made to hurt are read in linear time, and memory does not grow with them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest

from chatkeep.imports import MOST_UNKNOWN, UnknownFile, chatgpt, import_file, open_webui
from chatkeep.imports.documents import HEAD_BYTES, MOST_DEPTH, Records, lines, peeked
from chatkeep.imports.foreign import Chat, items_of
from chatkeep.imports.records import Incoming, Terms
from tests.imports.stores import Store

SIZE, CHUNK = 400_000, 16 * 1024
SECONDS = 1.0  # of the processor; it is a tenth of that at most, and quadratic time is minutes
OPENING, CLOSING = '<details type="reasoning">', "</details>"


TEXTS = {
    "blanks": OPENING + " " * SIZE,
    "lines": OPENING + "\n" * SIZE + CLOSING,
    "unclosed": OPENING * (SIZE // len(OPENING)),
    "half open": OPENING[:-1] * (SIZE // len(OPENING)),
    "closed": (OPENING + CLOSING) * (SIZE // len(OPENING)),
    "summaries": (OPENING + "<summary>") * (SIZE // len(OPENING)),
    "quotes": OPENING + "> " * SIZE + CLOSING,
    "digits": OPENING + "&#" + "9" * SIZE + ";" + CLOSING,
    "references": OPENING + "&" * SIZE + CLOSING,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_reasoning_is_found_in_linear_time(text: str) -> None:
    begun = time.process_time()
    (reply,) = read(open_webui.chat_of(webui(text))).messages
    assert time.process_time() - begun < SECONDS
    assert len(reply.content) + len(reply.reasoning) <= len("Said " + text)


def webui(text: str) -> Any:
    message = {"role": "assistant", "content": "Said " + text, "timestamp": 1_700_000_000}
    return {"id": "a", "chat": {"history": {"messages": {"m": message}}}}


def read(chat: Chat) -> Incoming:
    (found,) = (item for item in items_of(1, chat, Terms("local", 1)) if isinstance(item, Incoming))
    return found


def test_a_thought_is_told_once_however_many_replies_are_below_it() -> None:
    nodes = {f"t{at}": node(f"t{at - 1}" if at else None, thinking("think" * 10)) for at in range(1_000)}
    nodes |= {f"r{at}": node("t999", {"content_type": "text", "parts": ["said"]}) for at in range(1_000)}
    found = read(chatgpt.chat_of({"id": "a", "mapping": nodes})).messages
    assert sum(len(message.reasoning) for message in found) < 1_000 * (50 + 2)
    assert sum(bool(message.reasoning) for message in found) == 1


def thinking(text: str) -> Any:
    return {"content_type": "thoughts", "thoughts": [{"summary": text}]}


def node(parent: str | None, content: Any) -> Any:
    return {"parent": parent, "message": {"author": {"role": "assistant"}, "content": content}}


@pytest.mark.parametrize("part", [b'"a":[],', b"[],", b'{"a":1},', b"1,", b'"', b'\\"', b"\n", b'"a":"'])
@pytest.mark.parametrize("split", [Records, lines])
def test_documents_are_split_in_linear_time(split: Any, part: bytes) -> None:
    body = b'{"object":"export",' + part * (SIZE // len(part))
    begun = time.process_time()
    for _ in split(body[at : at + CHUNK] for at in range(0, len(body), CHUNK)):
        pass
    assert time.process_time() - begun < 3 * SECONDS


class Chunks:
    """The same chunk again and again, and how often it was taken."""

    def __init__(self, chunk: bytes) -> None:
        self.chunk = chunk
        self.taken = 0

    def __iter__(self) -> Iterator[bytes]:
        for self.taken in range(1, 10_001):
            yield self.chunk


@pytest.mark.parametrize("bracket", [b"[", b"{", b'[{"a":'])
def test_what_is_nested_too_deeply_is_not_read(bracket: bytes) -> None:
    chunks = Chunks(bracket * MOST_DEPTH)
    records = Records(chunks)
    assert all(len(record.body or b"") <= MOST_DEPTH for record in records)
    assert (records.too_deep, records.cut) == (True, True)
    assert chunks.taken <= 2


def test_blanks_before_a_document_are_looked_at_no_further_than_its_head() -> None:
    chunks = Chunks(b" " * 1024)
    head, _ = peeked(chunks)
    assert (head, chunks.taken) == (b"", HEAD_BYTES // 1024)


def test_a_file_of_unknown_records_is_given_up(store: Store) -> None:
    chunks = Chunks(b"{}," * 100)
    with pytest.raises(UnknownFile):
        import_file(store.database, store.journal, chain([b"["], chunks), Terms("local", 1))
    assert chunks.taken * len(chunks.chunk) < HEAD_BYTES + 4 * MOST_UNKNOWN
