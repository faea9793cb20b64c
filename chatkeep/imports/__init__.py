"""Imports: conversations out of files, of chatkeep's own exports or of other programs.

Records are read one after the other, so memory does not grow with the file. A bad one is named by its line and left
out; the others are imported. What is there already is not imported again.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from chatkeep.domain.conversation import Message
from chatkeep.errors import SensitiveContent, stored_in_part
from chatkeep.i18n import _, text_of
from chatkeep.imports import own, programs
from chatkeep.imports.documents import Hashed, Records, is_lines, lines, peeked, whole_of
from chatkeep.imports.fenced import FencedJournal
from chatkeep.imports.foreign import items_of
from chatkeep.imports.left_out import Kind
from chatkeep.imports.loose import value_of
from chatkeep.imports.records import (
    UNKNOWN,
    BadRecord,
    Incoming,
    Item,
    LeftOut,
    Record,
    Refused,
    Terms,
    UnknownFile,
    ttl_of,
)
from chatkeep.imports.writer import Outcome, Report, Writer
from chatkeep.redaction.policies import OFF, Redaction, RedactionPolicy
from chatkeep.runtime.concurrency import FILES
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal

__all__ = ["BadRecord", "Outcome", "Report", "Terms", "UnknownFile", "import_file", "ttl_of"]

# So many records in a row, from the first one on, that no program is known by: the others are not looked at.
MOST_UNKNOWN = 1000
IN_PART = _("The database failed while importing the file. Import it again: stored items are skipped.")


def import_file(
    database: Database, journal: Journal, chunks: Iterable[bytes], terms: Terms, redaction: Redaction = OFF
) -> Report:
    """Import what is in a file, and return what was done.

    Raises `UnknownFile`, after which nothing was imported, and `StoreUnavailable` and `QuotaUsedUp`, after which some
    of it may have been: import it again.
    """
    writer, policy = Writer(database, FencedJournal(database, journal, terms.owner), terms), redaction.imports
    with stored_in_part(IN_PART):
        for item in _items(chunks, terms):
            writer.add(_redacted(item, policy) if policy else item)
        writer.flush()
    return writer.report


def _redacted(item: Item, policy: RedactionPolicy) -> Item:
    """Return an item as it may be stored."""
    if not isinstance(item, Incoming):
        return item
    try:
        return replace(
            item,
            conversation=policy.apply_to_record(item.conversation),
            messages=[policy.apply_to_record(message) for message in _unhurried(item.messages)],
        )
    except SensitiveContent as error:
        wrong = error.errors[0]
        return BadRecord(item.line, _("{field}: {reason}", field=wrong.field, reason=wrong.message))


def _unhurried(messages: Iterable[Message]) -> Iterator[Message]:
    """Yield messages, and let other requests have their turn before each."""
    for message in messages:
        time.sleep(0)
        yield message


def _items(chunks: Iterable[bytes], terms: Terms) -> Iterable[Item]:
    file = Hashed(chunks)
    head, whole = peeked(file)
    programs.require_text(head)
    if own.is_lines(head):
        return own.Lines(lines(whole), file, terms)
    if own.is_document(head):
        return own.read_document(Records(whole), file, terms)
    if head.startswith(b"["):
        return _listed(Records(whole), terms)
    if is_lines(head):
        return _chats(lines(whole), terms)
    if head.startswith(b"{"):
        return _in_document(whole_of(whole), terms)
    raise UnknownFile(UNKNOWN)


def _chats(records: Iterable[Record], terms: Terms) -> Iterator[Item]:
    """Yield the conversations of other programs. Raises `UnknownFile` if no record looks like one."""
    bad, known = 0, False
    first: Refused | None = None
    for record in records:
        try:
            # A megabyte may hold ten thousand messages, which take a third of a second.
            found = FILES.run(_read, record, terms)
        except Refused as error:
            if isinstance(error, programs.Unread) and not known:
                raise UnknownFile(text_of(error)) from error
            bad += 1
            first = first or error
            yield BadRecord(record.line, text_of(error))
        else:
            known = True
            yield from found
        if not known and bad == MOST_UNKNOWN:
            break
    if first and not known:
        raise UnknownFile(
            UNKNOWN
            if isinstance(first, programs.Unknown)
            else _("This file cannot be read: {reason}.", reason=text_of(first))
        )


def _read(record: Record, terms: Terms) -> list[Item]:
    """Return what a record holds. Raises `Refused`."""
    value, damaged = value_of(record)
    return [*items_of(record.line, programs.chat_of(value), terms), *_damage(damaged)]


def _damage(count: int) -> list[LeftOut]:
    return [LeftOut(Counter({Kind.DAMAGED: count}))] if count else []


def _in_document(document: Record, terms: Terms) -> Iterator[Item]:
    """Yield the conversations of a document that is an object. Raises `UnknownFile`."""
    records, damaged = FILES.run(_conversations, document)
    yield from _chats(records, terms)
    yield from _damage(damaged)


def _conversations(document: Record) -> tuple[list[Record], int]:
    """Return the conversations of a document that is an object, or lines of them, and how much in it is damaged.

    Raises `UnknownFile`.
    """
    if document.body and is_lines(document.body):  # the first line was too long to tell
        return list(lines([document.body])), 0
    try:
        value, damaged = value_of(document)
        found = programs.conversations_in(value)
    except Refused as error:
        raise UnknownFile(_("This file cannot be read: {reason}.", reason=text_of(error))) from error
    return [Record(document.line, json.dumps(one).encode()) for one in found], damaged


def _listed(records: Records, terms: Terms) -> Iterator[Item]:
    """Yield the conversations in a list, and why it was not read up to its end. Raises `UnknownFile`."""
    is_empty = True
    for item in _chats(records, terms):
        is_empty = False
        yield item
    if is_empty and records.cut:
        raise UnknownFile(UNKNOWN)
    if records.too_deep:
        yield BadRecord(records.line, _("it is nested too deeply; what follows is not read"))
    elif records.cut:
        yield BadRecord(records.line, _("the file is cut: it ends amid a record"))
