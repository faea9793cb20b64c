"""Detect the program that wrote a conversation: supported ones, and unsupported ones by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from chatkeep.i18n import N_, Text, _
from chatkeep.imports import chatgpt, claude, deepseek, librechat, open_webui
from chatkeep.imports.foreign import Chat
from chatkeep.imports.loose import members, text
from chatkeep.imports.records import Refused, UnknownFile


class _Reader(NamedTuple):
    """How to detect and read a program's conversation."""

    fits: Callable[[dict[str, Any]], bool]
    chat_of: Callable[[dict[str, Any]], Chat]


# DeepSeek comes before ChatGPT, because both have a mapping.
_READERS = (
    _Reader(claude.fits, claude.chat_of),
    _Reader(deepseek.fits, deepseek.chat_of),
    _Reader(chatgpt.fits, chatgpt.chat_of),
    _Reader(librechat.fits, librechat.chat_of),
    _Reader(open_webui.fits, open_webui.chat_of),
)
# By the members of a record or of the document around it.
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
# With a byte order mark, or without one before a bracket.
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
# Members with the conversations of an export.
_LISTS = ("conversations", "chats", "items", "data")


class Unread(Refused):
    """A record of an unsupported program, which the message names."""


class Unknown(Refused):
    """A record of no known program."""


def chat_of(found: Any) -> Chat:
    """Convert an object to a conversation. Raises `Unread`, `Unknown` and `Refused`."""
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
    """Return the conversations of a document that is an object: its list, or itself."""
    fields = members(document)
    if any(reader.fits(fields) for reader in _READERS) or _name(fields):
        return [fields]
    return next((fields[name] for name in _LISTS if fields.get(name) and isinstance(fields[name], list)), [fields])


def require_text(head: bytes) -> None:
    """Raise `UnknownFile` for a known kind of file other than JSON."""
    for magic, sentence in _MAGIC:
        if head.startswith(magic):
            raise UnknownFile(sentence)


def _name(fields: dict[str, Any]) -> str | None:
    """Return the name of an unsupported program, or None."""
    names = set(fields)
    if found := next((name for name, wanted in _UNREAD if wanted <= names), None):
        return found
    if isinstance(members(fields.get("data")).get("chats"), list):
        return "TypingMind"
    return None


def _is_message(fields: dict[str, Any]) -> bool:
    """Return whether an object is a chat completion message, or training data."""
    return (bool(text(fields.get("role"))) and "content" in fields) or set(fields) == {"messages"}
