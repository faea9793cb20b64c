"""Imports: conversations out of files, of chatkeep's own exports or of other programs.

Records are read one after the other, so memory does not grow with the file. A bad one is named by its line and left
out; the others are imported. What is there already is not imported again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace

from chatkeep.concurrency import FILES
from chatkeep.errors import SensitiveContent, stored_in_part
from chatkeep.imports import chatgpt, open_webui, own
from chatkeep.imports.documents import Hashed, Records, lines, peeked
from chatkeep.imports.foreign import Chat, incoming
from chatkeep.imports.records import UNKNOWN, BadRecord, Incoming, Item, Record, Refused, Terms, UnknownFile, decoded
from chatkeep.imports.writing import Fate, Report, Writer
from chatkeep.model import Message
from chatkeep.redaction.policies import OFF, Redaction, Screen
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal

__all__ = ["BadRecord", "Fate", "Report", "Terms", "UnknownFile", "import_file"]

# So many records in a row, from the first one on, that no program is known by: the others are not looked at.
MOST_UNKNOWN = 1000
IN_PART = "The database failed while the file was imported. Import it again: what is stored already is skipped."


class _Members(Struct):
    """By which members a conversation's program is known."""

    mapping: Raw | UnsetType = UNSET
    chat: Raw | UnsetType = UNSET


_members = msgspec.json.Decoder(_Members)
_chatgpt = msgspec.json.Decoder(chatgpt.Conversation)
_open_webui = msgspec.json.Decoder(open_webui.Conversation)


def import_file(
    database: Database, journal: Journal, chunks: Iterable[bytes], terms: Terms, redaction: Redaction = OFF
) -> Report:
    """Import what is in a file, and return what was done.

    Raises `UnknownFile`, after which nothing was imported, and `StoreUnavailable` and `QuotaUsedUp`, after which some
    of it may have been: import it again.
    """
    writer, screen = Writer(database, journal, terms), redaction.imports
    with stored_in_part(IN_PART):
        for item in _items(chunks, terms):
            writer.add(_redacted(item, screen) if screen else item)
        writer.flush()
    return writer.report


def _redacted(item: Item, screen: Screen) -> Item:
    """Return an item as it may be stored."""
    if not isinstance(item, Incoming):
        return item
    try:
        return replace(
            item,
            conversation=screen.passed_record(item.conversation),
            messages=[screen.passed_record(message) for message in _unhurried(item.messages)],
        )
    except SensitiveContent as error:
        return BadRecord(item.line, error.detail.removesuffix("."))


def _unhurried(messages: Iterable[Message]) -> Iterator[Message]:
    """Yield messages, and let other requests have their turn before each."""
    for message in messages:
        time.sleep(0)
        yield message


def _items(chunks: Iterable[bytes], terms: Terms) -> Iterable[Item]:
    file = Hashed(chunks)
    head, whole = peeked(file)
    if own.is_lines(head):
        return own.Lines(lines(whole), file, terms)
    if head.startswith(b"{"):
        return own.read_document(Records(whole), file, terms)
    if head.startswith(b"["):
        return _chats(Records(whole), terms)
    raise UnknownFile(UNKNOWN)


def _chats(records: Records, terms: Terms) -> Iterator[Item]:
    """Yield the conversations of other programs. Raises `UnknownFile` where no record looks like one."""
    bad, known = 0, False
    for record in records:
        try:
            chat_of = _program(record)
            known = True
            # A megabyte may hold ten thousand messages, which take a third of a second.
            yield FILES.run(_incoming, record, chat_of, terms)
        except Refused as error:
            bad += 1
            yield BadRecord(record.line, str(error))
        if not known and bad == MOST_UNKNOWN:
            break
    if not known and (bad or records.cut):
        raise UnknownFile(UNKNOWN)
    if records.too_deep:
        yield BadRecord(records.line, "it is nested too deeply; what follows is not read")
    elif records.cut:
        yield BadRecord(records.line, "the file is cut: it ends amid a record")


def _program(record: Record) -> Callable[[Record], Chat]:
    """Return what reads a record, by what it holds. Raises `Refused`."""
    members = decoded(record, _members)
    if members.mapping is not UNSET:
        return _of_chatgpt
    if members.chat is not UNSET:
        return _of_open_webui
    raise Refused("it is no conversation of ChatGPT's or of Open WebUI's")


def _incoming(record: Record, chat_of: Callable[[Record], Chat], terms: Terms) -> Incoming:
    return incoming(record.line, chat_of(record), terms)


def _of_chatgpt(record: Record) -> Chat:
    return chatgpt.chat_of(decoded(record, _chatgpt))


def _of_open_webui(record: Record) -> Chat:
    return open_webui.chat_of(decoded(record, _open_webui))
