"""Import conversations from files: chatkeep's own exports, or those of other programs.

Records are read one by one, so memory stays bounded. A bad record is reported by its line and skipped. Importing a file
again adds nothing.
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
from chatkeep.imports.documents import HashedChunks, Records, is_lines, lines, peek, whole_record
from chatkeep.imports.fenced import FencedJournal
from chatkeep.imports.foreign import items_of
from chatkeep.imports.left_out import Kind
from chatkeep.imports.loose import value_of
from chatkeep.imports.records import (
    UNKNOWN,
    BadRecord,
    ImportedConversation,
    ImportOptions,
    Item,
    LeftOut,
    Record,
    Refused,
    UnknownFile,
    ttl_of,
)
from chatkeep.imports.report import Outcome, Report
from chatkeep.imports.writer import Writer
from chatkeep.redaction.policies import OFF, Redaction, RedactionPolicy
from chatkeep.runtime.concurrency import FILES
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal

__all__ = ["BadRecord", "ImportOptions", "Outcome", "Report", "UnknownFile", "import_file", "ttl_of"]

# If this many records at the beginning are of no known program, the rest is not read.
MOST_UNKNOWN = 1000
IN_PART = _("The database failed while importing the file. Import it again: stored items are skipped.")


def import_file(
    database: Database, journal: Journal, chunks: Iterable[bytes], options: ImportOptions, redaction: Redaction = OFF
) -> Report:
    """Import a file, and return a report.

    Raises `UnknownFile` if nothing was imported, `StoreUnavailable` and `QuotaExceeded` if a part may have been: import
    the file again.
    """
    writer, policy = Writer(database, FencedJournal(database, journal, options.owner), options), redaction.imports
    with stored_in_part(IN_PART):
        for item in _items(chunks, options):
            writer.add(_redacted(item, policy) if policy else item)
        writer.flush()
    return writer.report


def _redacted(item: Item, policy: RedactionPolicy) -> Item:
    """Redact an item. A blocked one becomes a `BadRecord`."""
    if not isinstance(item, ImportedConversation):
        return item
    try:
        return replace(
            item,
            conversation=policy.apply_to_record(item.conversation),
            messages=[policy.apply_to_record(message) for message in _yielding(item.messages)],
        )
    except SensitiveContent as error:
        wrong = error.errors[0]
        return BadRecord(item.line, _("{field}: {reason}", field=wrong.field, reason=wrong.message))


def _yielding(messages: Iterable[Message]) -> Iterator[Message]:
    """Yield messages, and yield to other threads before each."""
    for message in messages:
        time.sleep(0)
        yield message


def _items(chunks: Iterable[bytes], options: ImportOptions) -> Iterable[Item]:
    file = HashedChunks(chunks)
    head, whole = peek(file)
    programs.require_text(head)
    if own.is_lines(head):
        return own.Lines(lines(whole), file, options)
    if own.is_document(head):
        return own.read_document(Records(whole), file, options)
    if head.startswith(b"["):
        return _list_items(Records(whole), options)
    if is_lines(head):
        return _chat_items(lines(whole), options)
    if head.startswith(b"{"):
        return _in_document(whole_record(whole), options)
    raise UnknownFile(UNKNOWN)


def _chat_items(records: Iterable[Record], options: ImportOptions) -> Iterator[Item]:
    """Yield the conversations of other programs. Raises `UnknownFile` if no record is one."""
    bad, known = 0, False
    first: Refused | None = None
    for record in records:
        try:
            # A megabyte may have ten thousand messages, which take a third of a second.
            found = FILES.run(_read, record, options)
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


def _read(record: Record, options: ImportOptions) -> list[Item]:
    """Return the items of a record. Raises `Refused`."""
    value, damaged = value_of(record)
    return [*items_of(record.line, programs.chat_of(value), options), *_damage(damaged)]


def _damage(count: int) -> list[LeftOut]:
    return [LeftOut(Counter({Kind.DAMAGED: count}))] if count else []


def _in_document(document: Record, options: ImportOptions) -> Iterator[Item]:
    """Yield the conversations of a document that is an object. Raises `UnknownFile`."""
    records, damaged = FILES.run(_conversations, document)
    yield from _chat_items(records, options)
    yield from _damage(damaged)


def _conversations(document: Record) -> tuple[list[Record], int]:
    """Return the conversations of a document that is an object or lines, and how many characters are damaged.

    Raises `UnknownFile`.
    """
    if document.body and is_lines(document.body):  # the first line was too long to detect that
        return list(lines([document.body])), 0
    try:
        value, damaged = value_of(document)
        found = programs.conversations_in(value)
    except Refused as error:
        raise UnknownFile(_("This file cannot be read: {reason}.", reason=text_of(error))) from error
    return [Record(document.line, json.dumps(one).encode()) for one in found], damaged


def _list_items(records: Records, options: ImportOptions) -> Iterator[Item]:
    """Yield the conversations in a list, and why it could not be read to its end. Raises `UnknownFile`."""
    is_empty = True
    for item in _chat_items(records, options):
        is_empty = False
        yield item
    if is_empty and records.cut:
        raise UnknownFile(UNKNOWN)
    if records.too_deep:
        yield BadRecord(records.line, _("it is nested too deeply; what follows is not read"))
    elif records.cut:
        yield BadRecord(records.line, _("the file is cut: it ends amid a record"))
