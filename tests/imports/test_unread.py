"""Unsupported exports are named in one sentence, and nothing of them is imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chatkeep.i18n import text_of, translated
from chatkeep.imports import UnknownFile
from tests.imports.stores import Store

pytestmark = pytest.mark.parametrize("stores", ["sqlite"], indirect=True)

TURN = [{"role": "user", "content": "Green or black?"}, {"role": "assistant", "content": "Green."}]
DOCUMENTS: dict[str, tuple[str, Any]] = {
    "chatbot-ui": ("chatbot-ui", {"version": 4, "history": [{"id": "c", "messages": TURN}], "folders": []}),
    "Grok": ("Grok", {"conversations": [{"conversation": {"id": "g"}, "responses": []}], "projects": []}),
    "Takeout": ("Gemini (Google Takeout)", [{"header": "Gemini Apps", "title": "Tea", "time": "2026-01-01"}]),
    "AI Studio": ("Google AI Studio", {"runSettings": {}, "chunkedPrompt": {"chunks": []}}),
    "LobeChat": ("LobeChat", {"exportType": "all", "state": {"messages": []}, "version": 7}),
    "Cherry Studio": ("Cherry Studio", {"time": 1, "version": 5, "localStorage": {}, "indexedDB": {}}),
    "BetterChatGPT": ("BetterChatGPT", {"chats": [{"id": "b", "messages": TURN, "config": {}}], "version": 1}),
    "TypingMind": ("TypingMind", {"data": {"chats": [{"messages": TURN}], "folders": []}}),
    "NextChat": ("NextChat", {"id": "n", "topic": "Tea", "messages": TURN, "mask": {}}),
    "Chatbox": ("Chatbox", {"chat-sessions-list": [{"id": "c"}], "session:c": {"messages": TURN}}),
    "Perplexity": ("Perplexity", {"status": "success", "entries": [{"query_str": "Tea?", "blocks": []}]}),
    "Perplexity, one by one": ("Perplexity", [{"query_str": "Tea?", "answer": "Green."}]),
    "Kimi": ("Kimi", {"chats": [{"id": "k", "name": "Tea", "messageContent": "Green.", "createTime": "x"}]}),
    "VS Code": ("GitHub Copilot", {"requesterUsername": "a", "responderUsername": "GitHub Copilot", "requests": []}),
}  # fmt: skip
LINES: dict[str, tuple[str, list[Any]]] = {
    "Claude Code": ("Claude Code", [{"type": "user", "sessionId": "s", "parentUuid": None, "message": TURN[0]}] * 2),
    "Claude Code, resumed": ("Claude Code", [{"type": "summary", "summary": "Tea", "leafUuid": "u"}] * 2),
    "Codex": ("Codex", [{"timestamp": "2026-01-01T00:00:00Z", "type": "session_meta", "payload": {}}] * 2),
    "Claude Code, queued": ("Claude Code", [{"type": "queue-operation", "operation": "x", "sessionId": "s"}] * 2),
    "Codex, asked": ("Codex", [{"session_id": "s", "ts": 1, "text": "Tea?"}] * 2),
}  # fmt: skip


@pytest.mark.parametrize(("name", "document"), DOCUMENTS.values(), ids=DOCUMENTS)
@pytest.mark.parametrize("indent", [None, 1])
def test_document_of_unsupported_program_is_named(store: Store, name: str, document: Any, indent: int | None) -> None:
    with pytest.raises(UnknownFile, match=r"^This is an export of ") as refused:
        store.take(json.dumps(document, indent=indent).encode())
    assert str(refused.value).startswith(f"This is an export of {name}, which is not read. See docs/imports.md")
    assert translated(text_of(refused.value), "zh").startswith("这是 ")


@pytest.mark.parametrize(("name", "lines"), LINES.values(), ids=LINES)
def test_log_of_unsupported_program_is_named(store: Store, name: str, lines: list[Any]) -> None:
    with pytest.raises(UnknownFile, match=r"^This is an export of ") as refused:
        store.take("".join(json.dumps(line) + "\n" for line in lines).encode())
    assert str(refused.value).startswith(f"This is an export of {name}, which is not read. See docs/imports.md")


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        (json.dumps(TURN).encode(), "These are messages without a conversation, such as training data"),
        (b'{"messages": []}\n{"messages": []}\n', "These are messages without a conversation, such as training data"),
        (b"SQLite format 3\0\x10\0", "This is an SQLite database."),
        (b"<!doctype html><title>Chats</title>", "This is a web page."),
        ("[]".encode("utf-16"), "This file is written in UTF-16. Write it in UTF-8."),
        ('[{"a": 1}]'.encode("utf-16-le"), "This file is written in UTF-16. Write it in UTF-8."),
        ('{"a": 1}'.encode("utf-16-be"), "This file is written in UTF-16. Write it in UTF-8."),
        (b"Rar!\x1a\x07\x01\0", "Archives of this kind are not read. Unpack it, and import the files in it."),
        (b"7z\xbc\xaf\x27\x1c", "Archives of this kind are not read. Unpack it, and import the files in it."),
        (b"%PDF-1.7", "This is a PDF file."),
        (b"Conversation,Time,Author,Message\n", "This is an export of Microsoft Copilot, which is not read."),
        (b'{"mapping": {"a": ', "This file cannot be read: it is not valid JSON: "),
        (
            b"# Chats\n",
            "This is not an export of chatkeep, ChatGPT, Claude, DeepSeek, LibreChat or Open WebUI. See docs/",
        ),
    ],
)
def test_file_of_other_kind_is_named(store: Store, file: bytes, sentence: str) -> None:
    with pytest.raises(UnknownFile) as refused:
        store.take(file)
    assert str(refused.value).startswith(sentence)
    assert translated(text_of(refused.value), "zh") != str(refused.value)


def test_lines_may_be_conversations(store: Store) -> None:
    chats = [
        {"mapping": {"a": {"message": {"author": {"role": "user"}, "content": {"parts": [text]}}}}} for text in "ab"
    ]
    report = store.take("\n".join(map(json.dumps, chats)).encode())
    assert (report.conversations, report.problem_count) == ({"added": 2}, 0)


@pytest.mark.parametrize("page", ["imports.md", "导入文档.md"])
def test_documented_format_is_read(store: Store, page: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    file = text.partition("```json\n")[2].partition("```")[0].encode()
    report = store.take(file)
    assert (report.conversations, report.messages, report.problem_count) == ({"added": 1}, 2, 0)
    assert store.take(file).conversations == {"present": 1}
