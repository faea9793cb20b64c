"""Read chatkeep's own lossless exports and increments, as one document or as JSON Lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from chatkeep.domain import conversation as model
from chatkeep.domain.conversation import Role, Status
from chatkeep.errors import ReplyInterrupted
from chatkeep.i18n import _, text_of
from chatkeep.imports.documents import RECORD_BYTES, HashedChunks, Records
from chatkeep.imports.records import (
    UNKNOWN,
    BadRecord,
    DeletedConversation,
    ImportedConversation,
    ImportOptions,
    Item,
    Record,
    Refused,
    UnknownFile,
    decoded,
    forks_of,
    path_to,
    require_storable,
)
from chatkeep.store.tombstones import Reason

VERSION = 1
METADATA_BYTES = 16 * 1024
METADATA_DEPTH = 64
_UNIX = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# A quote after a backslash is within a string, such as a message.
_OBJECT = re.compile(rb'(?<!\\)"object"\s*+:\s*+"export"')
# Completes a document that is read up to a record.
_LIST_END = b"]}"

Time = Annotated[datetime, Meta(tz=True)]
Amount = Annotated[int, Meta(ge=0, le=10**9)]
Name = Annotated[str, Meta(max_length=255)]
Word = Annotated[str, Meta(max_length=64)]


class End(Struct, tag_field="object", tag="export.end"):
    """The seal."""

    sha256: str


class Frame(Struct, tag_field="object", tag="export"):
    """The beginning of an export; an increment has ``since``."""

    version: int
    since: str | None = None
    end: End | None = None


class Usage(Struct):
    """Tokens as the provider counted them."""

    input_tokens: Amount
    output_tokens: Amount


class Message(Struct, tag_field="object", tag="message"):
    """A message. As a line it names its conversation."""

    id: UUID
    parent_id: UUID | None
    position: Annotated[int, Meta(ge=1, le=10**9)]
    timestamp: Time
    on_branch: bool
    role: Role
    status: Status
    model: Name | None
    finish_reason: Word | None
    error: Word | None
    cached: bool
    usage: Usage | None
    content: str
    reasoning: str
    error_detail: Annotated[str, Meta(max_length=1000)] | None = None
    conversation_id: UUID | None = None


class Conversation(Struct, tag_field="object", tag="conversation"):
    """A conversation. As a line it is followed by its messages."""

    id: UUID
    title: Name
    system: Annotated[str, Meta(max_length=1_000_000)] | None
    ttl: Annotated[int, Meta(ge=1, le=10**10)] | None
    pinned: bool
    metadata: dict[str, Any]
    message_count: Amount
    current_id: UUID | None
    created_at: Time
    last_active: Time
    expires_at: Time | None
    messages: list[Message] = []


class Tombstone(Struct, tag_field="object", tag="tombstone"):
    """A deleted or expired conversation."""

    id: UUID
    reason: Reason


class Key(Struct, tag_field="object", tag="key"):
    """An API key of an end user. This and the following records are informational and not imported."""


class Job(Struct, tag_field="object", tag="export_job"):
    """An export job of an end user."""


class Share(Struct, tag_field="object", tag="share"):
    """A share link."""


class IdempotencyKey(Struct, tag_field="object", tag="idempotency_key"):
    """An Idempotency-Key of an end user."""


class UsageDay(Struct, tag_field="object", tag="usage"):
    """An end user's usage of a day."""


_frame = msgspec.json.Decoder(Frame)
_member = msgspec.json.Decoder(Conversation | Tombstone)
_any_line = msgspec.json.Decoder(
    Frame | Conversation | Message | Tombstone | End | Key | Job | Share | IdempotencyKey | UsageDay
)


def is_lines(head: bytes) -> bool:
    """Return whether a document begins like an export in JSON Lines."""
    try:
        found = msgspec.json.decode(head.partition(b"\n")[0], type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return found.get("object") == "export" and "conversations" not in found


def is_document(head: bytes) -> bool:
    """Return whether a document begins like an export in JSON."""
    return head.startswith(b"{") and _OBJECT.search(head) is not None


def read_document(records: Records, file: HashedChunks, options: ImportOptions) -> Iterator[Item]:
    """Yield the items of an export that is one JSON document. Raises `UnknownFile`."""
    frame = None
    for record in records:
        frame = frame or _frame_of(records.frame + _LIST_END)
        yield from _items_of(record, options, update=frame.since is not None)
    yield from _seal_problems(_end_of(records, begun=frame is not None), file)


def _end_of(records: Records, *, begun: bool) -> End | None:
    try:
        return _frame_of(records.frame).end
    except UnknownFile:
        if not begun:
            _frame_of(records.frame + _LIST_END)
        return None


def _frame_of(frame: bytearray) -> Frame:
    try:
        return _require_version(_frame.decode(frame))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise UnknownFile(UNKNOWN) from error


def _require_version(frame: Frame) -> Frame:
    if frame.version != VERSION:
        raise UnknownFile(
            _("This export has the version {version}; a newer chatkeep can read it.", version=frame.version)
        )
    return frame


def _items_of(record: Record, options: ImportOptions, *, update: bool) -> Iterator[Item]:
    """Yield the item of a record in a document's lists."""
    try:
        found = decoded(record, _member)
        if isinstance(found, Tombstone):
            yield DeletedConversation(record.line, found.id, found.reason)
        else:
            yield _converted(record.line, found, found.messages, options, update=update)
    except Refused as error:
        yield BadRecord(record.line, text_of(error))


def _seal_problems(end: End | None, file: HashedChunks) -> Iterator[BadRecord]:
    """Yield a problem if the seal is missing or wrong."""
    if end is None:
        yield BadRecord(file.last_line, _("the file is cut: the seal that ends an export is missing"))
    elif end.sha256 != file.before_last_line():
        yield BadRecord(file.last_line, _("the seal does not fit: the file was changed after it was written"))


@dataclass(slots=True)
class _Group:
    """A conversation's lines."""

    line: int
    conversation: Conversation
    messages: list[Message] = field(default_factory=list)
    size: int = 0
    doubt: int | None = None
    """A later line that could not be read, and may be one of its messages."""

    def add(self, record: Record, message: Message) -> None:
        self.size += len(record.body or b"")
        if self.size <= RECORD_BYTES:
            self.messages.append(message)


class Lines:
    """Reads an export in JSON Lines. Iterating raises `UnknownFile`."""

    def __init__(self, records: Iterable[Record], file: HashedChunks, options: ImportOptions) -> None:
        self._records = records
        self._file = file
        self._options = options
        self._update = False
        self._group: _Group | None = None
        self._lost = False
        self._end: End | None = None

    def __iter__(self) -> Iterator[Item]:
        """Yield conversations, tombstones and bad records."""
        for record in self._records:
            try:
                found = decoded(record, _any_line)
            except Refused as error:
                yield self._bad_record(record, error)
            else:
                yield from self._process(record, found)
        yield from self._finished()
        yield from _seal_problems(self._end, self._file)

    def _bad_record(self, record: Record, error: Refused) -> BadRecord:
        # If it is a conversation, the messages after it belong to no known one.
        self._lost = True
        if self._group is not None:
            self._group.doubt = record.line
        return BadRecord(record.line, text_of(error))

    def _process(self, record: Record, found: Any) -> Iterator[Item]:
        if isinstance(found, Message):
            yield from self._message(record, found)
            return
        yield from self._finished()
        if isinstance(found, Frame):
            self._update = _require_version(found).since is not None
        elif isinstance(found, Conversation):
            self._group, self._lost = _Group(record.line, found), False
        elif isinstance(found, Tombstone):
            yield DeletedConversation(record.line, found.id, found.reason)
        elif isinstance(found, End):
            self._end = found

    def _message(self, record: Record, message: Message) -> Iterator[BadRecord]:
        if self._group is not None and message.conversation_id == self._group.conversation.id:
            self._group.add(record, message)
        elif not self._lost:
            yield BadRecord(record.line, _("it does not belong to the conversation before it"))

    def _finished(self) -> Iterator[Item]:
        group, self._group = self._group, None
        if group is None:
            return
        try:
            _require_whole(group, update=self._update)
            yield _converted(group.line, group.conversation, group.messages, self._options, update=self._update)
        except Refused as error:
            yield BadRecord(group.line, text_of(error))


def _require_whole(group: _Group, *, update: bool) -> None:
    if group.size > RECORD_BYTES:
        raise Refused(_("it is larger than 64 MiB"))
    # An increment has only some messages, so their number can't be checked.
    if group.doubt is not None and (update or len(group.messages) < group.conversation.message_count):
        raise Refused(_("it is left out with all of its messages, one of which line {line} may be", line=group.doubt))


def _converted(
    line: int, found: Conversation, said: list[Message], options: ImportOptions, *, update: bool
) -> ImportedConversation:
    """Return our conversation. Raises `Refused`."""
    rows = sorted((_message(found.id, one) for one in said), key=lambda one: one.timestamp)
    _require_tree(rows)
    require_storable(rows)
    tip = _tip(found.current_id, said)
    path, whole = path_to(tip, rows)
    branch = path if whole else frozenset(one.id for one in said if one.on_branch)
    made = replace(_conversation(found, rows, options.owner), current_id=tip, forks=forks_of(rows))
    return ImportedConversation(line, made, rows, branch, update)


def _tip(current_id: UUID | None, said: list[Message]) -> UUID | None:
    """Return the end of the current branch.

    A conversation that went on during the export has newer messages on its branch than ``current_id``.
    """
    if current_id is not None and all(one.id != current_id for one in said):
        return current_id
    ends = [one for one in said if one.on_branch or one.id == current_id]
    return max(ends, key=lambda one: one.timestamp).id if ends else None


def _require_tree(rows: list[model.Message]) -> None:
    """Raise `Refused` unless ids and times are unique and each message is later than its parent, if that is here."""
    later = {row.id for row in rows}
    if len(later) < len(rows):
        raise Refused(_("two of its messages have the same id"))
    if any(row.timestamp == after.timestamp for row, after in pairwise(rows)):
        raise Refused(_("two of its messages have the same timestamp"))
    for row in rows:
        if row.parent_id in later:
            raise Refused(_("its message {id} is not later than its parent", id=row.id))
        later.discard(row.id)


def _conversation(found: Conversation, rows: list[model.Message], owner: str) -> model.Conversation:
    """Return the conversation's row. Its times span all messages, because it may have gone on during the export."""
    _require_small(found.metadata)
    created, active = _us(found.created_at), _us(found.last_active)
    return model.Conversation(
        id=found.id,
        owner=owner,
        title=found.title,
        created_at=min([created, *(row.timestamp for row in rows[:1])]),
        last_active=max([active, *(row.timestamp for row in rows[-1:])]),
        message_count=max([len(rows), *(row.position for row in rows)]),
        system=found.system,
        ttl=found.ttl,
        expires_at=None if found.expires_at is None else _us(found.expires_at),
        pinned=found.pinned,
        metadata=found.metadata,
    )


def _message(conversation_id: UUID, found: Message) -> model.Message:
    """Return a message's row. A reply that was running during the export is interrupted."""
    generating = found.status is Status.GENERATING
    return model.Message(
        id=found.id,
        conversation_id=conversation_id,
        parent_id=found.parent_id,
        position=found.position,
        role=found.role,
        content=found.content,
        timestamp=_us(found.timestamp),
        status=Status.INTERRUPTED if generating else found.status,
        reasoning=found.reasoning,
        model=found.model,
        finish_reason=found.finish_reason,
        error=ReplyInterrupted.code if generating else found.error,
        error_detail=found.error_detail,
        usage=None if found.usage is None else model.Usage(found.usage.input_tokens, found.usage.output_tokens),
        cached=found.cached,
    )


def _us(at: datetime) -> int:
    """Return µs since 1970. Raises `Refused` if it is out of range, with room for a ttl."""
    if not _UNIX <= at < _LATEST:
        raise Refused(_("{time} is no time between 1970 and 9000", time=at))
    return (at - _UNIX) // _MICROSECOND


def _require_small(metadata: dict[str, Any]) -> None:
    if _is_deeper(metadata, METADATA_DEPTH):
        raise Refused(_("its metadata is nested more than {depth} deep", depth=METADATA_DEPTH))
    if len(msgspec.json.encode(metadata)) > METADATA_BYTES:
        raise Refused(_("its metadata is larger than {bytes} bytes", bytes=METADATA_BYTES))


def _is_deeper(value: Any, depth: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value
    return isinstance(value, (dict, list)) and (depth == 0 or any(_is_deeper(item, depth - 1) for item in inner))
