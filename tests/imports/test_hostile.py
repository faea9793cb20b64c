"""Hostile files are read in linear time and bounded memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from copy import deepcopy
from itertools import chain
from typing import Any

import pytest

from chatkeep.imports import MOST_UNKNOWN, UnknownFile, chatgpt, import_file, open_webui, programs
from chatkeep.imports.documents import HEAD_BYTES, MOST_DEPTH, Records, lines, peek
from chatkeep.imports.foreign import Chat, items_of
from chatkeep.imports.records import ImportedConversation, ImportOptions, Refused
from tests.imports.stores import Store

SIZE, CHUNK = 400_000, 16 * 1024
SECONDS = 1.0  # CPU time; linear time is a tenth of it at most, quadratic time is minutes
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


MARKED = {
    "old marks": "【" + "†" * SIZE,
    "open old marks": "【" * SIZE,
    "open marks": "\ue200" * SIZE,
    "a mark that is cut": "\ue200cite" + "\ue202" * SIZE,
    "nested names": "\ue200entity\ue202" + "[" * SIZE + "\ue201",
    "a fence": "`" * SIZE,
    "fences": "```` " * (SIZE // 5),
}


@pytest.mark.parametrize("text", MARKED.values(), ids=MARKED)
@pytest.mark.parametrize("kind", ["text", "code"])
def test_marks_and_fences_are_read_in_linear_time(text: str, kind: str) -> None:
    content = {"content_type": kind, "language": "go", "text": "Said " + text}
    begun = time.process_time()
    (reply,) = read(chatgpt.chat_of({"id": "a", "mapping": {"r": node(None, content)}})).messages
    assert time.process_time() - begun < SECONDS
    assert reply.content


ODD: list[Any] = [None, 7, -1.5, "", "x", [], {}, [None], {"a": 1}, True, 10**30, {"text": 7}, [7, "y", {"type": "z"}]]
SOUND: list[Any] = [
    {
        "title": "T", "create_time": 1.5, "current_node": "b", "default_model_slug": "m",
        "mapping": {
            "a": {"parent": None, "children": ["b"], "message": {
                "author": {"role": "user"}, "create_time": 2.5, "recipient": "all",
                "content": {"content_type": "multimodal_text", "parts": ["?", {"content_type": "image_asset_pointer"}]},
                "metadata": {"attachments": [{"name": "a", "mime_type": "b"}]},
            }},
            "b": {"parent": "a", "children": [], "message": {
                "author": {"role": "assistant"}, "create_time": 3.5, "status": "x", "channel": "final",
                "content": {"content_type": "text", "parts": ["\ue200cite\ue201"]},
                "metadata": {
                    "finish_details": {"type": "stop"},
                    "content_references": [{"matched_text": "\ue200cite\ue201", "items": [{"title": "t", "url": "u"}]}],
                },
            }},
        },
    },
    {"id": "w", "title": "T", "created_at": 1, "chat": {"params": {"system": "s"}, "models": ["m"], "history": {
        "currentId": "a", "messages": {"a": {
            "role": "assistant", "content": "c", "timestamp": 1, "done": True, "error": {"content": "e"},
            "files": [{"type": "file", "file": {"filename": "f", "meta": {"content_type": "t"}}}],
            "output": [{"type": "message", "content": [{"type": "output_text", "text": "t"}]},
                       {"type": "reasoning", "summary": [{"text": "r"}]}],
        }},
    }}},
    {"uuid": "c", "name": "T", "created_at": "2026-01-01T00:00:00Z", "chat_messages": [{
        "uuid": "m", "sender": "assistant", "text": "t", "stop_reason": "x", "files": [{"file_name": "f"}],
        "content": [{"type": "thinking", "thinking": "t"}, {"type": "tool_use", "name": "artifacts", "input": {}}],
        "attachments": [{"file_name": "f", "extracted_content": "e"}],
    }]},
    {"id": "d", "inserted_at": "2026-01-01T00:00:00Z", "mapping": {"a": {"parent": None, "children": [], "message": {
        "inserted_at": "2026-01-01T00:00:00Z", "status": "x", "files": [{"file_name": "f"}],
        "fragments": [{"type": "THINK", "content": "t"}, {"type": "RESPONSE", "content": "r"}],
    }}}},
    {"conversationId": "l", "options": {"model": "m", "promptPrefix": "s"}, "messages": [{
        "messageId": "m", "parentMessageId": "p", "sender": "GPT", "isCreatedByUser": False, "text": "t",
        "content": [{"type": "think", "think": "t"}, {"type": "text", "text": {"value": "v"}}],
        "createdAt": "2026", "files": [{"filename": "f", "type": "t"}],
        "children": [{"messageId": "n", "text": "x", "sender": "User"}],
    }]},
]  # fmt: skip


@pytest.mark.parametrize("sound", SOUND, ids=["chatgpt", "open-webui", "claude", "deepseek", "librechat"])
def test_invalid_value_anywhere_stops_nothing(sound: Any) -> None:
    """Puts a value of every type at every place, some thousand times in all."""
    for place in list(places(sound)):
        for odd in ODD:
            chat = changed(sound, place, odd)
            try:
                items_of(1, programs.chat_of(chat), ImportOptions("local", 1))
            except Refused:
                assert len(place) == 1  # the program is no longer detected


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths to all values in a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield (*place, name)
        yield from places(one, (*place, name))


def changed(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """Return a copy with another value at a path."""
    copy = deepcopy(value)
    inner = copy
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = new
    return copy


def webui(text: str) -> Any:
    message = {"role": "assistant", "content": "Said " + text, "timestamp": 1_700_000_000}
    return {"id": "a", "chat": {"history": {"messages": {"m": message}}}}


def read(chat: Chat) -> ImportedConversation:
    (found,) = (item for item in items_of(1, chat, ImportOptions("local", 1)) if isinstance(item, ImportedConversation))
    return found


def test_thought_is_given_to_one_reply() -> None:
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
    """Repeats a chunk, and counts how often it was read."""

    def __init__(self, chunk: bytes) -> None:
        self.chunk = chunk
        self.taken = 0

    def __iter__(self) -> Iterator[bytes]:
        for self.taken in range(1, 10_001):
            yield self.chunk


@pytest.mark.parametrize("bracket", [b"[", b"{", b'[{"a":'])
def test_too_deep_nesting_is_not_read(bracket: bytes) -> None:
    chunks = Chunks(bracket * MOST_DEPTH)
    records = Records(chunks)
    assert all(len(record.body or b"") <= MOST_DEPTH for record in records)
    assert (records.too_deep, records.cut) == (True, True)
    assert chunks.taken <= 2


def test_leading_blanks_are_read_up_to_head_size() -> None:
    chunks = Chunks(b" " * 1024)
    head, _ = peek(chunks)
    assert (head, chunks.taken) == (b"", HEAD_BYTES // 1024)


def test_file_of_unknown_records_is_refused(store: Store) -> None:
    chunks = Chunks(b"{}," * 100)
    with pytest.raises(UnknownFile):
        import_file(store.database, store.journal, chain([b"["], chunks), ImportOptions("local", 1))
    assert chunks.taken * len(chunks.chunk) < HEAD_BYTES + 4 * MOST_UNKNOWN
