"""Which program wrote a conversation: those that are read, and those that are known by name only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from chatkeep.i18n import N_, Text, _
from chatkeep.imports import chatgpt, claude, deepseek, librechat, open_webui
from chatkeep.imports.foreign import Chat
from chatkeep.imports.loose import members, text
from chatkeep.imports.records import Refused, UnknownFile


class _Reader(NamedTuple):
    """How a program's conversation is known and read."""

    fits: Callable[[dict[str, Any]], bool]
    chat_of: Callable[[dict[str, Any]], Chat]


# DeepSeek's have a mapping, too, so they come before ChatGPT's.
_READERS = (
    _Reader(claude.fits, claude.chat_of),
    _Reader(deepseek.fits, deepseek.chat_of),
    _Reader(chatgpt.fits, chatgpt.chat_of),
    _Reader(librechat.fits, librechat.chat_of),
    _Reader(open_webui.fits, open_webui.chat_of),
)
# By the members that an object has, in a record or in the document around it.
_UNREAD = (
    ("Grok", {"conversation", "responses"}),
    ("Gemini (Google Takeout)", {"header", "title", "time"}),
    ("Google AI Studio", {"runSettings"}),
    ("Google AI Studio", {"chunkedPrompt"}),
    ("LobeChat", {"exportType", "state"}),
    ("LobeChat", {"schemaHash", "data"}),
    ("Cherry Studio", {"localStorage", "indexedDB"}),
    ("chatbot-ui", {"history", "folders"}),
    ("chatbot-ui", {"history", "prompts"}),
    ("BetterChatGPT", {"chats", "folders"}),
    ("BetterChatGPT", {"messages", "config"}),
    ("NextChat", {"chat-next-web-store"}),
    ("NextChat", {"topic", "messages"}),
    ("Chatbox", {"chat-sessions"}),
    ("Chatbox", {"chat-sessions-list"}),
    ("Gemini CLI", {"sessionId", "messageId", "message"}),
    ("Claude Code", {"type", "sessionId"}),
    ("Claude Code", {"type", "leafUuid"}),
    ("Claude Code", {"type", "snapshot", "messageId"}),
    ("Claude Code", {"display", "pastedContents"}),
    ("Codex", {"timestamp", "type", "payload"}),
    ("Codex", {"session_id", "ts", "text"}),
    ("Codex", {"id", "timestamp", "instructions"}),
    ("GitHub Copilot", {"requests", "responderUsername"}),
    ("Le Chat (Mistral)", {"chatId", "contentChunks"}),
    ("LM Studio", {"messages", "systemPrompt"}),
    ("SillyTavern", {"user_name", "character_name"}),
    ("SillyTavern", {"name", "is_user", "mes"}),
    ("Perplexity", {"query_str"}),
    ("Perplexity", {"entries", "status"}),
    ("Kimi", {"name", "messageContent"}),
    ("Poe", {"messages", "bot"}),
    ("Poe", {"messages", "defaultBotObject"}),
)
_UNREAD_SENTENCE = N_(
    "This is an export of {program}, which is not read. See docs/imports.md for what to convert it to."
)
# With a mark of the order of bytes, or without one before a bracket.
_UTF_16 = (b"\xff\xfe", b"\xfe\xff", b"[\0", b"{\0", b"\0[", b"\0{")
_ARCHIVES = (b"Rar!", b"7z\xbc\xaf\x27\x1c", b"BZh", b"\xfd7zXZ")
_MAGIC = (
    (b"SQLite format 3\0", _("This is an SQLite database. Export the chats as JSON in the program that wrote it.")),
    *((mark, _("This file is written in UTF-16. Write it in UTF-8.")) for mark in _UTF_16),
    *((mark, _("Archives of this kind are not read. Unpack it, and import the files in it.")) for mark in _ARCHIVES),
    (b"%PDF", _("This is a PDF file. Export the chats as JSON in the program that wrote it.")),
    (b"<", _("This is a web page. Export the chats as JSON in the program that wrote it.")),
    (b"Conversation,Time,Author,Message", Text(_UNREAD_SENTENCE, program="Microsoft Copilot")),
)
# Members that hold the conversations of an export.
_LISTS = ("conversations", "chats", "items", "data")


class Unread(Refused):
    """A record was written by a program whose exports are not read; the text names it."""


class Unknown(Refused):
    """A record looks like nothing that any program writes."""


def chat_of(found: Any) -> Chat:
    """Return the conversation that an object is. Raises `Unread` and `Refused`."""
    fields = members(found)
    for reader in _READERS:
        if reader.fits(fields):
            return reader.chat_of(fields)
    if name := _name(fields):
        raise Unread(Text(_UNREAD_SENTENCE, program=name))
    if _is_message(fields):
        raise Unread(_("These are messages without a conversation, such as training data, which are not read."))
    raise Unknown(_("it is not a conversation of a program whose exports are read"))


def conversations_in(document: Any) -> list[Any]:
    """Return the conversations of a document that is an object: it is one itself, or has a list of them."""
    fields = members(document)
    if any(reader.fits(fields) for reader in _READERS) or _name(fields):
        return [fields]
    return next((fields[name] for name in _LISTS if fields.get(name) and isinstance(fields[name], list)), [fields])


def require_text(head: bytes) -> None:
    """Raise `UnknownFile` for a file that is no JSON, if its kind is known."""
    for magic, sentence in _MAGIC:
        if head.startswith(magic):
            raise UnknownFile(sentence)


def _name(fields: dict[str, Any]) -> str | None:
    """Return the name of a program whose exports are not read."""
    names = set(fields)
    if found := next((name for name, wanted in _UNREAD if wanted <= names), None):
        return found
    if isinstance(members(fields.get("data")).get("chats"), list):
        return "TypingMind"
    return None


def _is_message(fields: dict[str, Any]) -> bool:
    """Return whether an object is a message of a chat completion, or a list of such."""
    return (bool(text(fields.get("role"))) and "content" in fields) or set(fields) == {"messages"}
